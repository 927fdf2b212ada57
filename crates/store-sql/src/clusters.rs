//! Clusters: their rows, and what dispatchers and operators say of them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use yard_domain::{
    Capacity, Cluster, ClusterHealth, ClusterId, ClusterReport, ClusterSwitch, Elastic, Lease,
};
use yard_ports::store::StoreError;

use crate::backend::{Row, Value};
use crate::codec::{read_capacity, read_labels, write_capacity};
use crate::codec_kube::{read_gpu_blocks, read_profiles, write_gpu_blocks, write_profiles};
use crate::fault::Fault;
use crate::fence::fence_cluster;
use crate::reader::Reader;
use crate::sql::{self, BATCH};
use crate::text::fit_chars;
use crate::tx::{Conn, Work};

const COLUMNS: &str = "id, driver, labels, capacity, elastic_delay_us, present, cost_per_hour_micro, switch_state, \
     health, last_seen_us, breaker_open, recent_failures, configured, message, ray_profiles, gpu_blocks, declared";

/// A row: the cluster, and whether its capacity is declared.
fn read(row: Row) -> Result<(Cluster, bool), Fault> {
    let mut r = Reader::new("clusters", row);
    let cluster = Cluster {
        id: r.coded("id", |t| t.parse().ok())?,
        driver: r.text("driver")?,
        labels: r.coded("labels", read_labels)?,
        capacity: r.opt_coded("capacity", read_capacity)?,
        elastic: read_elastic(&mut r)?,
        cost_per_hour_micro: r.opt_small("cost_per_hour_micro")?,
        switch: r.coded("switch_state", ClusterSwitch::from_code)?,
        health: r.coded("health", ClusterHealth::from_code)?,
        last_seen: r.opt_time("last_seen_us")?,
        breaker_open: r.flag("breaker_open")?,
        recent_failures: r.small("recent_failures")?,
        configured: r.flag("configured")?,
        message: r.opt_text("message")?,
        ray_profiles: r.opt_coded("ray_profiles", read_profiles)?.map(Arc::new),
        gpu_blocks: r.opt_coded("gpu_blocks", read_gpu_blocks)?.unwrap_or_default(),
    };
    Ok((cluster, r.flag("declared")?))
}

fn read_elastic(r: &mut Reader) -> Result<Option<Elastic>, Fault> {
    let delay = r.opt_small("elastic_delay_us")?.map(Duration::from_micros);
    let present = r.opt_coded("present", read_capacity)?;
    Ok(delay.map(|delay| Elastic { present, delay }))
}

/// Every cluster, and whether its capacity is declared.
pub(crate) async fn all_declared(conn: &mut Conn) -> Result<Vec<(Cluster, bool)>, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM clusters ORDER BY id");
    conn.rows(sql, Vec::new()).await?.into_iter().map(read).collect()
}

/// Every cluster.
pub(crate) async fn all(conn: &mut Conn) -> Result<Vec<Cluster>, Fault> {
    Ok(all_declared(conn).await?.into_iter().map(|(cluster, _)| cluster).collect())
}

/// Those of these clusters that are there.
pub(crate) async fn some(
    conn: &mut Conn,
    ids: impl IntoIterator<Item = &ClusterId>,
) -> Result<Vec<Cluster>, Fault> {
    let ids: Vec<Value> = ids.into_iter().map(|id| id.as_str().into()).collect();
    let index = conn.dialect.index("PRIMARY");
    let mut clusters = Vec::with_capacity(ids.len());
    for ids in ids.chunks(BATCH) {
        let marks = sql::marks(ids.len());
        let mut args = Vec::new();
        sql::pad(&mut args, ids);
        let rows = conn.rows(format!("SELECT {COLUMNS} FROM clusters{index} WHERE id IN ({marks})"), args);
        for row in rows.await? {
            clusters.push(read(row)?.0);
        }
    }
    Ok(clusters)
}

/// Writes what is declared of a cluster. What its row says besides (`stored`, with whether its capacity was declared)
/// is kept.
pub(crate) async fn declare(
    conn: &mut Conn,
    cluster: &Cluster,
    stored: Option<&(Cluster, bool)>,
) -> Result<(), Fault> {
    let declared = cluster.capacity.is_some();
    // Observed capacity outlives a declaration; a declaration that was taken back does not.
    let observed = stored.filter(|(_, was_declared)| !*was_declared).and_then(|(c, _)| c.capacity.as_ref());
    let capacity = cluster.capacity.as_ref().or(observed).map(write_capacity);
    let present = |c: &Cluster| c.elastic.as_ref().and_then(|e| e.present.as_ref()).map(write_capacity);
    let seen = stored.and_then(|(c, _)| present(c)).or_else(|| present(cluster));
    let micros = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    let cost = cluster.cost_per_hour_micro.map(|cost| i64::try_from(cost).unwrap_or(i64::MAX));
    let mut args: Vec<Value> = vec![
        fit_chars(&cluster.driver, 60).into(),
        crate::codec::write_labels(&cluster.labels).into(),
        capacity.into(),
        declared.into(),
        cluster.elastic.as_ref().map(|e| micros(e.delay)).into(),
        cluster.elastic.as_ref().and(seen).into(),
        cost.into(),
        cluster.id.as_str().into(),
    ];
    let sql = if stored.is_some() {
        "UPDATE clusters SET driver = ?, labels = ?, capacity = ?, declared = ?, elastic_delay_us = ?, present = ?, \
         cost_per_hour_micro = ?, configured = 1 WHERE id = ?"
    } else {
        args.extend([
            cluster.switch.code().into(),
            cluster.health.code().into(),
            cluster.last_seen.map(yard_domain::Timestamp::as_micros).into(),
            cluster.message.as_deref().into(),
        ]);
        "INSERT INTO clusters (driver, labels, capacity, declared, elastic_delay_us, present, cost_per_hour_micro, \
         configured, id, switch_state, health, last_seen_us, message) VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?)"
    };
    conn.run(sql, args).await?;
    // What another driver told of it is of another kind of cluster.
    if stored.is_some_and(|(before, _)| before.driver != cluster.driver) {
        let sql = "UPDATE clusters SET ray_profiles = NULL, gpu_blocks = NULL WHERE id = ?";
        conn.run(sql, vec![cluster.id.as_str().into()]).await?;
    }
    Ok(())
}

/// See [`yard_ports::store::Store::report_cluster`].
pub(crate) struct ReportCluster<'a> {
    pub(crate) lease: &'a Lease,
    pub(crate) report: &'a ClusterReport,
}

#[async_trait]
impl Work for ReportCluster<'_> {
    type Out = ();
    const NAME: &'static str = "report_cluster";

    async fn run(&self, conn: &mut Conn) -> Result<(), Fault> {
        let (now, cluster) = fence_cluster(conn, self.lease).await?;
        let report = self.report;
        if report.cluster != cluster {
            let reason = format!("the report is about {}, the lease on {cluster}", report.cluster);
            return Err(StoreError::Rejected { context: Self::NAME, reason }.into());
        }
        let seen = report.health.answers().then_some(now.as_micros());
        // Of an elastic cluster, what is seen is what is present; its capacity is the ceiling.
        let sql = "UPDATE clusters SET health = ?, message = ?, breaker_open = ?, recent_failures = ?, \
                   ray_profiles = ?, gpu_blocks = COALESCE(?, gpu_blocks), \
                   last_seen_us = COALESCE(?, last_seen_us), \
                   present = CASE WHEN elastic_delay_us IS NULL THEN NULL ELSE COALESCE(?, present) END, \
                   capacity = CASE WHEN declared = 1 OR elastic_delay_us IS NOT NULL THEN capacity \
                   ELSE COALESCE(?, capacity) END WHERE id = ?";
        let capacity: Option<String> = report.capacity.as_ref().map(|c: &Capacity| write_capacity(c));
        let args = vec![
            report.health.code().into(),
            report.message.as_deref().map(|m| fit_chars(m, 2_000)).into(),
            report.breaker_open.into(),
            report.recent_failures.into(),
            report.ray_profiles.as_deref().map(write_profiles).into(),
            report.gpu_blocks.as_deref().map(write_gpu_blocks).into(),
            seen.into(),
            capacity.clone().into(),
            capacity.into(),
            cluster.as_str().into(),
        ];
        match conn.run(sql, args).await? {
            0 => Err(Fault::inconsistent("clusters", &cluster, &"there is no such cluster")),
            _ => Ok(()),
        }
    }
}

/// See [`yard_ports::store::Store::switch_cluster`].
pub(crate) struct SwitchCluster<'a> {
    pub(crate) id: &'a ClusterId,
    pub(crate) switch: ClusterSwitch,
    pub(crate) by: &'a str,
}

#[async_trait]
impl Work for SwitchCluster<'_> {
    type Out = bool;
    const NAME: &'static str = "switch_cluster";

    async fn run(&self, conn: &mut Conn) -> Result<bool, Fault> {
        let now = conn.dialect.now();
        let sql = format!(
            "UPDATE clusters SET switch_state = ?, switched_by = ?, switched_us = {now} WHERE id = ?"
        );
        let args = vec![self.switch.code().into(), fit_chars(self.by, 200).into(), self.id.as_str().into()];
        Ok(conn.run(sql, args).await? > 0)
    }
}
