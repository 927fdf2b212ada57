//! Upkeep: the audit of the ledger, and the end of what has been kept long enough.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use yard_domain::ledger::Drift;
use yard_domain::{AccountOwner, JobId, Request};

use crate::backend::TxKind;
use crate::catalog;
use crate::codec::read_request;
use crate::fault::Fault;
use crate::hot;
use crate::reader::{Reader, id_values};
use crate::sql::{self, BATCH};
use crate::tx::{Conn, Work};

/// See [`yard_ports::store::Store::audit`].
pub(crate) struct Audit;

#[async_trait]
impl Work for Audit {
    type Out = Vec<Drift>;
    const NAME: &'static str = "audit";
    const KIND: TxKind = TxKind::Snapshot;

    async fn run(&self, conn: &mut Conn) -> Result<Vec<Drift>, Fault> {
        let index = conn.dialect.index("jobs_cluster");
        let sql = format!(
            "SELECT cluster, team, request, COUNT(*) FROM jobs{index} WHERE cluster IS NOT NULL \
             GROUP BY cluster, team, request"
        );
        let mut sums: BTreeMap<AccountOwner, Request> = BTreeMap::new();
        for row in conn.rows(sql, Vec::new()).await? {
            let mut r = Reader::new("jobs", row);
            let cluster = AccountOwner::Cluster(r.coded("cluster", |t| t.parse().ok())?);
            let team = AccountOwner::Team(r.coded("team", |t| t.parse().ok())?);
            let request = r.coded("request", read_request)?;
            let all = times(&request, r.small("count")?);
            sums.entry(cluster).or_default().add(&all);
            sums.entry(team).or_default().add(&all);
        }
        let mut drift = Vec::new();
        for account in catalog::accounts(conn).await? {
            let recomputed = sums.remove(&account.owner).unwrap_or_default();
            if recomputed != account.used {
                drift.push(Drift { owner: account.owner, stored: account.used, recomputed });
            }
        }
        drift.extend(sums.into_iter().map(|(owner, recomputed)| Drift {
            owner,
            stored: Request::default(),
            recomputed,
        }));
        Ok(drift)
    }
}

fn times(request: &Request, n: u64) -> Request {
    Request {
        cpu_milli: request.cpu_milli.saturating_mul(n),
        gpu_milli: request.gpu_milli.saturating_mul(n),
        memory_bytes: request.memory_bytes.saturating_mul(n),
        jobs: request.jobs.saturating_mul(n),
        custom_milli: request.custom_milli.iter().map(|(k, v)| (k.clone(), v.saturating_mul(n))).collect(),
    }
}

/// See [`yard_ports::store::Store::purge`].
pub(crate) struct Purge {
    pub(crate) keep: Duration,
    pub(crate) limit: u32,
}

#[async_trait]
impl Work for Purge {
    type Out = u32;
    const NAME: &'static str = "purge";

    async fn run(&self, conn: &mut Conn) -> Result<u32, Fault> {
        let now = catalog::now(conn).await?;
        let keep = i64::try_from(self.keep.as_micros()).unwrap_or(i64::MAX);
        let before = now.as_micros().saturating_sub(keep);
        let sql = hot::ended(conn.dialect);
        let rows = conn.rows(sql, vec![before.into(), self.limit.into()]).await?;
        let ids: Vec<JobId> =
            rows.into_iter().map(|row| Reader::new("jobs", row).job_id("id")).collect::<Result<_, _>>()?;
        for ids in id_values(ids.iter().copied()).chunks(BATCH) {
            for (table, key) in
                [("history", "job_id"), ("attempts", "job_id"), ("ray_hidden", "job_id"), ("jobs", "id")]
            {
                let mut args = Vec::new();
                sql::pad(&mut args, ids);
                conn.run(format!("DELETE FROM {table} WHERE {key} IN ({})", sql::marks(ids.len())), args)
                    .await?;
            }
        }
        // Notes on groups that have long been gone; a pass writes those that still hold anew.
        conn.run("DELETE FROM wait_notes WHERE at_us < ?", vec![before.into()]).await?;
        Ok(u32::try_from(ids.len()).unwrap_or(u32::MAX))
    }
}
