//! Moving jobs: rows are locked and read, events decided by the domain are applied to them, and everything that
//! changed is written together, with its lines of history.

use std::collections::BTreeMap;

use yard_domain::event::Event;
use yard_domain::lifecycle::OpenAttempt;
use yard_domain::{ClusterId, JobId, Lease, LeaseRole, Outcome, Timestamp};

use crate::backend::Value;
use crate::events;
use crate::fault::Fault;
use crate::reader::{id_value, id_values};
use crate::rows::{JOB_COLUMNS, JobRecord, Stages};
use crate::sql::{self, BATCH};
use crate::tx::Conn;

/// The columns of a line of history, in the order in which [`Moves`] fills them.
pub(crate) const HISTORY_COLUMNS: [&str; 8] =
    ["job_id", "seq", "at_us", "actor", "from_state", "to_state", "code", "data"];

const ATTEMPT_COLUMNS: [&str; 10] = [
    "job_id",
    "number",
    "cluster",
    "placed_us",
    "launched_us",
    "started_us",
    "ended_us",
    "end_code",
    "message",
    "exit_code",
];

/// A locked job: as its row says, and as it is to be.
pub(crate) struct Held {
    before: JobRecord,
    /// As it is after the events applied so far.
    pub(crate) record: JobRecord,
}

impl From<JobRecord> for Held {
    fn from(record: JobRecord) -> Self {
        Self { before: record.clone(), record }
    }
}

/// Locks these jobs, in the order of their ids. Those that are not there are left out.
pub(crate) async fn lock_jobs(
    conn: &mut Conn,
    ids: impl IntoIterator<Item = JobId>,
) -> Result<BTreeMap<JobId, Held>, Fault> {
    let mut held = BTreeMap::new();
    let (index, lock) = (conn.dialect.index("PRIMARY"), conn.dialect.for_update());
    for ids in id_values(ids).chunks(BATCH) {
        let marks = sql::marks(ids.len());
        let sql = format!("SELECT {JOB_COLUMNS} FROM jobs{index} WHERE id IN ({marks}) ORDER BY id{lock}");
        let mut args = Vec::new();
        sql::pad(&mut args, ids);
        for row in conn.rows(sql, args).await? {
            let record = JobRecord::read(row)?;
            held.insert(record.id(), Held::from(record));
        }
    }
    Ok(held)
}

/// Who a lease's holder is, in history.
pub(crate) fn actor_of(lease: &Lease) -> String {
    match lease.scope.role() {
        LeaseRole::Scheduler => format!("scheduler:{}", lease.holder),
        LeaseRole::Dispatcher => format!("dispatcher:{}", lease.holder),
    }
}

/// Collects what events do besides changing the job's row.
pub(crate) struct Moves {
    actor: String,
    now: Timestamp,
    history: Vec<Vec<Value>>,
    attempts: Vec<Vec<Value>>,
    fulfilled: Vec<(String, JobId)>,
}

impl Moves {
    /// Nothing yet, by `actor` at `now`.
    pub(crate) fn new(actor: String, now: Timestamp) -> Self {
        Self { actor, now, history: Vec::new(), attempts: Vec::new(), fulfilled: Vec::new() }
    }

    /// Applies an event to a locked job.
    pub(crate) fn apply(&mut self, held: &mut Held, event: &Event) -> Result<(), Fault> {
        let record = &mut held.record;
        let (from, attempt) = (record.job.state.name(), record.job.state.open_attempt().cloned());
        record.job.apply(event).map_err(|e| Fault::inconsistent("jobs", &record.job.id, &e))?;
        // The transaction's time was read before its locks were had, so a rival may have written a later one.
        let wishes = [record.stop, record.preempt].into_iter().flatten().max();
        let at = self.now.max(record.since).max(wishes.unwrap_or(self.now));
        let to = record.job.state.name();
        if to != from {
            record.since = at;
        }
        match event {
            Event::Placed { .. } => record.stages = Stages { placed: Some(at), ..Stages::default() },
            Event::LaunchBegun { .. } => record.stages.launched = Some(at),
            Event::Started { .. } => record.stages.started = Some(at),
            Event::StopRequested { .. } => record.stop = Some(at),
            Event::PreemptRequested { .. } => record.preempt = Some(at),
            Event::Retried { .. } | Event::Ended { .. } => {
                if let Some(attempt) = attempt {
                    self.close(record, &attempt, event, at);
                }
            }
            _ => {}
        }
        self.history.push(vec![
            id_value(record.job.id),
            record.job.version.into(),
            at.as_micros().into(),
            self.actor.as_str().into(),
            from.code().into(),
            to.code().into(),
            event.code().into(),
            event.data().to_string().into(),
        ]);
        Ok(())
    }

    fn close(&mut self, record: &mut JobRecord, attempt: &OpenAttempt, event: &Event, at: Timestamp) {
        let failure = match event {
            Event::Retried { failure, .. } | Event::Ended { outcome: Outcome::Failed(failure) } => {
                Some(failure)
            }
            _ => None,
        };
        let end = failure.map_or_else(|| event.code(), |f| f.class.code());
        let time = |t: Option<Timestamp>| Value::from(t.map(Timestamp::as_micros));
        let stages = std::mem::take(&mut record.stages);
        self.attempts.push(vec![
            id_value(record.job.id),
            attempt.number.0.into(),
            attempt.cluster.as_str().into(),
            stages.placed.unwrap_or(at).as_micros().into(),
            time(stages.launched),
            time(stages.started),
            at.as_micros().into(),
            end.into(),
            failure.map(|f| f.message.as_str()).into(),
            failure.and_then(|f| f.exit_code).map(i64::from).into(),
        ]);
        let preempted = record.preempt.take();
        if record.stop.is_some() || preempted.is_some() {
            self.fulfilled.push((attempt.cluster.to_string(), record.job.id));
        }
    }

    /// Tells the dispatchers of these jobs' clusters that their open attempts are to be stopped.
    pub(crate) async fn wish(
        conn: &mut Conn,
        jobs: impl IntoIterator<Item = (&ClusterId, JobId)>,
    ) -> Result<(), Fault> {
        let head = format!("{}stop_wishes", conn.dialect.insert_ignore());
        let rows =
            jobs.into_iter().map(|(cluster, id)| vec![cluster.as_str().into(), id_value(id)]).collect();
        sql::insert(conn, &head, &["cluster", "job_id"], rows).await
    }

    /// Writes what has changed.
    pub(crate) async fn write<'a>(
        self,
        conn: &mut Conn,
        held: impl IntoIterator<Item = &'a Held>,
    ) -> Result<(), Fault> {
        let changed: Vec<_> = held
            .into_iter()
            .filter(|h| h.record != h.before)
            .map(|h| (id_value(h.record.id()), h.record.changes(&h.before, self.now)))
            .collect();
        let (wanted, rows) = (changed.len() as u64, changed);
        let matched = sql::update(conn, "jobs", "id", rows).await?;
        if matched != wanted {
            return Err(Fault::inconsistent(
                "jobs",
                &"locked rows",
                &format!("{matched} of {wanted} updated"),
            ));
        }
        sql::insert(conn, "INSERT INTO attempts", &ATTEMPT_COLUMNS, self.attempts).await?;
        events::announce(conn, &self.history, self.now).await?;
        sql::insert(conn, "INSERT INTO history", &HISTORY_COLUMNS, self.history).await?;
        for (cluster, id) in self.fulfilled {
            let args = vec![cluster.into(), id_value(id)];
            conn.run("DELETE FROM stop_wishes WHERE cluster = ? AND job_id = ?", args).await?;
        }
        Ok(())
    }
}
