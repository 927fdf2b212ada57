//! What the Ray Jobs API shows: jobs by their key, the newest ones, and those that are hidden from it.

use async_trait::async_trait;
use yard_domain::{JobId, SubmissionKey, TeamId};
use yard_ports::store::JobView;

use crate::backend::{TxKind, Value};
use crate::fault::Fault;
use crate::intake::stored_key;
use crate::reader::{Reader, id_value};
use crate::rows::JOB_COLUMNS;
use crate::sql;
use crate::tx::{Conn, Work};
use crate::views::{view, view_columns};

/// See [`yard_ports::store::Store::shown_jobs_of_key`].
pub(crate) struct JobsOfKey<'a> {
    pub(crate) key: &'a str,
    pub(crate) teams: &'a [TeamId],
}

#[async_trait]
impl Work for JobsOfKey<'_> {
    type Out = Vec<JobId>;
    const NAME: &'static str = "shown_jobs_of_key";
    const KIND: TxKind = TxKind::Read;

    async fn run(&self, conn: &mut Conn) -> Result<Vec<JobId>, Fault> {
        let keys = self
            .teams
            .iter()
            .map(|team| stored_key(&SubmissionKey { team: team.to_string(), key: self.key.to_owned() }));
        let keys: Vec<(Vec<u8>, Vec<u8>)> = keys.collect();
        let mut jobs = Vec::new();
        for batch in keys.chunks(sql::BATCH) {
            let Some((_, key)) = batch.first() else { continue };
            let sql = format!(
                "SELECT j.id FROM receipts r JOIN jobs j ON j.id = r.job_id WHERE r.team IN ({}) AND r.idem_key = ? \
                 AND NOT EXISTS (SELECT 1 FROM ray_hidden h WHERE h.job_id = r.job_id)",
                sql::marks(batch.len())
            );
            let teams: Vec<Value> = batch.iter().map(|(team, _)| Value::Bytes(team.clone())).collect();
            let mut args = Vec::new();
            sql::pad(&mut args, &teams);
            args.push(Value::Bytes(key.clone()));
            for row in conn.rows(sql, args).await? {
                jobs.push(Reader::new("receipts", row).job_id("job_id")?);
            }
        }
        Ok(jobs)
    }
}

/// See [`yard_ports::store::Store::shown_jobs`].
pub(crate) struct ShownJobs<'a> {
    pub(crate) teams: Option<&'a [TeamId]>,
    pub(crate) limit: u32,
}

#[async_trait]
impl Work for ShownJobs<'_> {
    type Out = Vec<JobView>;
    const NAME: &'static str = "shown_jobs";
    const KIND: TxKind = TxKind::Snapshot;

    async fn run(&self, conn: &mut Conn) -> Result<Vec<JobView>, Fault> {
        let mut args: Vec<Value> = Vec::new();
        let team = match self.teams {
            None => String::new(),
            Some([]) => return Ok(Vec::new()),
            // Which index is best for one team, a list of one would hide from MySQL.
            Some([team]) => {
                args.push(team.as_str().into());
                " AND team = ?".to_owned()
            }
            Some(teams) => {
                let values: Vec<Value> = teams.iter().map(|team| team.as_str().into()).collect();
                sql::pad(&mut args, &values);
                format!(" AND team IN ({})", sql::marks(teams.len()))
            }
        };
        args.push(self.limit.into());
        let sql = format!(
            "SELECT {JOB_COLUMNS}, {} FROM jobs WHERE NOT EXISTS \
             (SELECT 1 FROM ray_hidden h WHERE h.job_id = jobs.id){team} ORDER BY id DESC LIMIT ?",
            view_columns(conn.dialect)
        );
        let mut views = Vec::new();
        for row in conn.rows(sql, args).await? {
            views.push(view(conn, row).await?);
        }
        Ok(views)
    }
}

/// See [`yard_ports::store::Store::hide_job`].
pub(crate) struct Hide {
    pub(crate) id: JobId,
}

#[async_trait]
impl Work for Hide {
    type Out = ();
    const NAME: &'static str = "hide_job";

    async fn run(&self, conn: &mut Conn) -> Result<(), Fault> {
        let head = format!("{}ray_hidden", conn.dialect.insert_ignore());
        sql::insert(conn, &head, &["job_id"], vec![vec![id_value(self.id)]]).await
    }
}
