//! Dispatchers at work: launches begun, attempts seen running, and what a cluster is known to have.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use yard_domain::event::Event;
use yard_domain::{ClusterId, JobId, Lease, Lifecycle, StateName, TeamId, Timestamp};
use yard_ports::store::{
    ActiveAttempt, AttemptRef, LaunchBatch, LaunchOrder, Recorded, StopCause, StoreLimits,
};

use crate::accounts::Accounts;
use crate::backend::{TxKind, Value};
use crate::fault::Fault;
use crate::fence::{count_stale, fence_cluster};
use crate::hot;
use crate::moves::{Held, Moves, actor_of, lock_jobs};
use crate::reader::{Reader, id_values};
use crate::rows::{JOB_COLUMNS, JobRecord};
use crate::sql::{self, BATCH};
use crate::tx::{Conn, Work};

/// See [`yard_ports::store::Store::begin_launches`].
pub(crate) struct BeginLaunches<'a> {
    pub(crate) lease: &'a Lease,
    pub(crate) max: u32,
    pub(crate) limits: StoreLimits,
}

/// A placed job, before it is locked.
struct Candidate {
    id: JobId,
    team: TeamId,
    stop_requested: bool,
}

#[async_trait]
impl Work for BeginLaunches<'_> {
    type Out = LaunchBatch;
    const NAME: &'static str = "begin_launches";

    async fn run(&self, conn: &mut Conn) -> Result<LaunchBatch, Fault> {
        let (now, cluster) = fence_cluster(conn, self.lease).await?;
        let candidates = placed(conn, &cluster, self.max).await?;
        if candidates.is_empty() {
            return Ok(LaunchBatch::default());
        }
        // Accounts are locked before jobs, and only jobs that are to be stopped need them. Where the wish comes
        // between the two reads, the job waits for the next call.
        let stopping: BTreeSet<&TeamId> =
            candidates.iter().filter(|c| c.stop_requested).map(|c| &c.team).collect();
        let mut accounts = Accounts::default();
        if !stopping.is_empty() {
            accounts = Accounts::lock_for(conn, [&cluster], stopping).await?;
        }
        let (mut held, documents) = lock_with_documents(conn, candidates.iter().map(|c| c.id)).await?;
        let mut moves = Moves::new(actor_of(self.lease), now);
        let mut batch = LaunchBatch::default();
        for candidate in &candidates {
            let Some(job) = held.get_mut(&candidate.id) else { continue };
            let Some(attempt) = on_cluster(&job.record.job, &cluster) else { continue };
            if job.record.job.stop_requested && !candidate.stop_requested {
                continue;
            }
            let deadline = now.plus(self.limits.launch_deadline);
            let Ok(event) = job.record.job.begin_launch(attempt.attempt, self.lease.token, deadline) else {
                continue;
            };
            if let Event::Ended { .. } = event {
                accounts.refund(&cluster, &job.record.job.team, &job.record.job.request)?;
                batch.stopped.push(candidate.id);
                moves.apply(job, &event)?;
            } else {
                moves.apply(job, &event)?;
                let document = documents.get(&candidate.id).cloned().unwrap_or_default();
                let order = LaunchOrder { job: job.record.job.clone(), attempt: attempt.attempt, document };
                batch.orders.push(order);
            }
        }
        accounts.write(conn).await?;
        moves.write(conn, held.values()).await?;
        Ok(batch)
    }
}

async fn placed(conn: &mut Conn, cluster: &ClusterId, max: u32) -> Result<Vec<Candidate>, Fault> {
    let sql = hot::placed(conn.dialect);
    let rows = conn.rows(sql, vec![cluster.as_str().into(), max.into()]).await?.into_iter();
    rows.map(|row| {
        let mut r = Reader::new("jobs", row);
        let (id, team) = (r.job_id("id")?, r.coded("team", |t| t.parse().ok())?);
        Ok(Candidate { id, team, stop_requested: r.opt_time("stop_us")?.is_some() })
    })
    .collect()
}

async fn lock_with_documents(
    conn: &mut Conn,
    ids: impl IntoIterator<Item = JobId>,
) -> Result<(BTreeMap<JobId, Held>, BTreeMap<JobId, String>), Fault> {
    let (mut held, mut documents) = (BTreeMap::new(), BTreeMap::new());
    let (index, lock) = (conn.dialect.index("PRIMARY"), conn.dialect.for_update());
    for ids in id_values(ids).chunks(BATCH) {
        let marks = sql::marks(ids.len());
        let sql = format!(
            "SELECT {JOB_COLUMNS}, document FROM jobs{index} WHERE id IN ({marks}) ORDER BY id{lock}"
        );
        let mut args = Vec::new();
        sql::pad(&mut args, ids);
        for row in conn.rows(sql, args).await? {
            let mut r = Reader::new("jobs", row);
            let record = JobRecord::take(&mut r)?;
            documents.insert(record.id(), r.text("document")?);
            held.insert(record.id(), Held::from(record));
        }
    }
    Ok((held, documents))
}

/// The open attempt of a job, if it is on this cluster.
pub(crate) fn on_cluster(job: &Lifecycle, cluster: &ClusterId) -> Option<AttemptRef> {
    let open = job.state.open_attempt().filter(|open| open.cluster == *cluster)?;
    Some(AttemptRef { job: job.id, attempt: open.number })
}

/// See [`yard_ports::store::Store::record_started`].
pub(crate) struct RecordStarted<'a> {
    pub(crate) lease: &'a Lease,
    pub(crate) attempts: &'a [AttemptRef],
}

#[async_trait]
impl Work for RecordStarted<'_> {
    type Out = Vec<Recorded>;
    const NAME: &'static str = "record_started";

    async fn run(&self, conn: &mut Conn) -> Result<Vec<Recorded>, Fault> {
        let (now, cluster) = fence_cluster(conn, self.lease).await?;
        let mut held = lock_jobs(conn, self.attempts.iter().map(|a| a.job)).await?;
        let mut moves = Moves::new(actor_of(self.lease), now);
        let mut recorded = Vec::with_capacity(self.attempts.len());
        for attempt in self.attempts {
            recorded.push(match held.get_mut(&attempt.job) {
                Some(job) if on_cluster(&job.record.job, &cluster) == Some(*attempt) => {
                    start(job, attempt, now, &mut moves)?
                }
                _ => Recorded::Stale,
            });
        }
        moves.write(conn, held.values()).await?;
        count_stale(Self::NAME, recorded.iter().filter(|r| **r == Recorded::Stale).count());
        Ok(recorded)
    }
}

fn start(job: &mut Held, attempt: &AttemptRef, now: Timestamp, moves: &mut Moves) -> Result<Recorded, Fault> {
    let Ok(event) = job.record.job.start(attempt.attempt, now) else { return Ok(Recorded::Stale) };
    moves.apply(job, &event)?;
    Ok(job.record.job.state.deadline().map_or(Recorded::Stale, |deadline| Recorded::Started { deadline }))
}

/// See [`yard_ports::store::Store::active_attempts`].
pub(crate) struct ActiveAttempts<'a> {
    pub(crate) cluster: &'a ClusterId,
    pub(crate) after: Option<JobId>,
    pub(crate) limit: u32,
}

#[async_trait]
impl Work for ActiveAttempts<'_> {
    type Out = Vec<ActiveAttempt>;
    const NAME: &'static str = "active_attempts";
    const KIND: TxKind = TxKind::Read;

    async fn run(&self, conn: &mut Conn) -> Result<Vec<ActiveAttempt>, Fault> {
        let sql = hot::active(conn.dialect);
        let after = self.after.map_or_else(Vec::new, |id| id.0.as_bytes().to_vec());
        let args = vec![self.cluster.as_str().into(), Value::Bytes(after), self.limit.into()];
        conn.rows(sql, args)
            .await?
            .into_iter()
            .map(|row| {
                let mut r = Reader::new("jobs", row);
                Ok(ActiveAttempt {
                    job: r.job_id("id")?,
                    attempt: yard_domain::AttemptNumber(r.small("attempts")?),
                    team: r.coded("team", |t| t.parse().ok())?,
                    state: r.coded("state", StateName::from_code)?,
                    deadline: r.time("deadline_us")?,
                    stopping: r.opt_time("stop_us")?.map(|_| StopCause::Requested),
                })
            })
            .collect()
    }
}

/// See [`yard_ports::store::Store::stop_wishes`].
pub(crate) struct StopWishes<'a> {
    pub(crate) cluster: &'a ClusterId,
}

#[async_trait]
impl Work for StopWishes<'_> {
    type Out = Vec<(AttemptRef, StopCause)>;
    const NAME: &'static str = "stop_wishes";
    const KIND: TxKind = TxKind::Read;

    async fn run(&self, conn: &mut Conn) -> Result<Vec<(AttemptRef, StopCause)>, Fault> {
        let sql = "SELECT j.id, j.attempts FROM stop_wishes w JOIN jobs j ON j.id = w.job_id \
                   WHERE w.cluster = ? AND j.cluster = w.cluster AND j.stop_us IS NOT NULL ORDER BY j.id";
        let rows = conn.rows(sql, vec![self.cluster.as_str().into()]).await?;
        rows.into_iter().map(|row| Ok((read_attempt(row)?, StopCause::Requested))).collect()
    }
}

fn read_attempt(row: crate::backend::Row) -> Result<AttemptRef, Fault> {
    let mut r = Reader::new("jobs", row);
    Ok(AttemptRef { job: r.job_id("id")?, attempt: yard_domain::AttemptNumber(r.small("attempts")?) })
}

/// See [`yard_ports::store::Store::are_current`].
pub(crate) struct AreCurrent<'a> {
    pub(crate) cluster: &'a ClusterId,
    pub(crate) attempts: &'a [AttemptRef],
}

#[async_trait]
impl Work for AreCurrent<'_> {
    type Out = Vec<bool>;
    const NAME: &'static str = "are_current";
    const KIND: TxKind = TxKind::Read;

    async fn run(&self, conn: &mut Conn) -> Result<Vec<bool>, Fault> {
        let mut open = BTreeSet::new();
        for ids in id_values(self.attempts.iter().map(|a| a.job)).chunks(BATCH) {
            let marks = sql::marks(ids.len());
            let sql = format!("SELECT id, attempts FROM jobs WHERE id IN ({marks}) AND cluster = ?");
            let mut args = Vec::new();
            sql::pad(&mut args, ids);
            args.push(self.cluster.as_str().into());
            for row in conn.rows(sql, args).await? {
                let attempt = read_attempt(row)?;
                open.insert((attempt.job, attempt.attempt));
            }
        }
        Ok(self.attempts.iter().map(|a| open.contains(&(a.job, a.attempt))).collect())
    }
}
