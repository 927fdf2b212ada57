//! Dispatchers at work: launches begun, attempts seen running, and what a cluster is known to have.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use yard_domain::event::Event;
use yard_domain::lifecycle::AttemptEnd;
use yard_domain::{
    AttemptNumber, ClusterId, Failure, FailureClass, JobId, Lease, Lifecycle, RetryRules, StateName, TeamId,
    Timestamp, TransitionError,
};
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
use crate::rows::{JOB_COLUMNS, JobRecord, current_preemption};
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
    /// Whether it is to be stopped or to make room.
    leaving: bool,
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
        // Accounts are locked before jobs, and only jobs that are not to be launched need them. Where the wish
        // comes between the two reads, the job waits for the next call.
        let stopping: BTreeSet<&TeamId> = candidates.iter().filter(|c| c.leaving).map(|c| &c.team).collect();
        let mut accounts = Accounts::none(now);
        if !stopping.is_empty() {
            accounts = Accounts::lock_for(conn, now, [&cluster], stopping).await?;
        }
        let (mut held, documents) = lock_with_documents(conn, candidates.iter().map(|c| c.id)).await?;
        let mut moves = Moves::new(actor_of(self.lease), now);
        let mut batch = LaunchBatch::default();
        for candidate in &candidates {
            let Some(job) = held.get_mut(&candidate.id) else { continue };
            let Some(attempt) = on_cluster(&job.record.job, &cluster) else { continue };
            let leaving = job.record.job.stop_requested || job.record.job.preempt_requested;
            if leaving && !candidate.leaving {
                continue;
            }
            let Ok(event) = self.decide(&job.record.job, attempt.attempt, now) else { continue };
            if leaving {
                accounts.refund(&cluster, &job.record.job.team, &job.record.job.request)?;
            }
            moves.apply(job, &event)?;
            match event {
                Event::Ended { .. } => batch.stopped.push(candidate.id),
                Event::Retried { .. } => batch.preempted.push(candidate.id),
                _ => {
                    let document = documents.get(&candidate.id).cloned().unwrap_or_default();
                    let job = job.record.job.clone();
                    batch.orders.push(LaunchOrder { job, attempt: attempt.attempt, document });
                }
            }
        }
        accounts.write(conn).await?;
        moves.write(conn, held.values()).await?;
        Ok(batch)
    }
}

impl BeginLaunches<'_> {
    /// The launch; of what is to make room, the end of the attempt: nothing was sent, so nothing needs to be stopped.
    fn decide(
        &self,
        job: &Lifecycle,
        attempt: AttemptNumber,
        now: Timestamp,
    ) -> Result<Event, TransitionError> {
        if job.preempt_requested && !job.stop_requested {
            let end = Failure::new(FailureClass::Preempted, None, "made room before its launch began");
            // No budget pays for being preempted, so the rules don't matter.
            let rules = RetryRules::default();
            return job.finish_attempt(attempt, AttemptEnd::Failed(end), &rules, now, 0.0);
        }
        job.begin_launch(attempt, self.lease.token, now.plus(self.limits.launch_deadline))
    }
}

async fn placed(conn: &mut Conn, cluster: &ClusterId, max: u32) -> Result<Vec<Candidate>, Fault> {
    let sql = hot::placed(conn.dialect);
    let rows = conn.rows(sql, vec![cluster.as_str().into(), max.into()]).await?.into_iter();
    rows.map(|row| {
        let mut r = Reader::new("jobs", row);
        let (id, team) = (r.job_id("id")?, r.coded("team", |t| t.parse().ok())?);
        Ok(Candidate { id, team, leaving: read_stopping(&mut r)?.is_some() })
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

/// Whether an open attempt is to be stopped, from (`stop_us`, `preempt_us`, `placed_us`). A person's wish outranks.
fn read_stopping(r: &mut Reader) -> Result<Option<StopCause>, Fault> {
    let (stop, preempt) = (r.opt_time("stop_us")?, r.opt_time("preempt_us")?);
    let preempt = current_preemption(preempt, r.opt_time("placed_us")?);
    Ok(stop.map(|_| StopCause::Requested).or(preempt.map(|_| StopCause::Preempted)))
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
                    attempt: AttemptNumber(r.small("attempts")?),
                    team: r.coded("team", |t| t.parse().ok())?,
                    state: r.coded("state", StateName::from_code)?,
                    deadline: r.time("deadline_us")?,
                    stopping: read_stopping(&mut r)?,
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
        let sql = "SELECT j.id, j.attempts, j.stop_us, j.preempt_us, j.placed_us FROM stop_wishes w \
                   JOIN jobs j ON j.id = w.job_id WHERE w.cluster = ? AND j.cluster = w.cluster ORDER BY j.id";
        let rows = conn.rows(sql, vec![self.cluster.as_str().into()]).await?;
        let read = |row| {
            let mut r = Reader::new("jobs", row);
            let attempt = read_attempt(&mut r)?;
            Ok(read_stopping(&mut r)?.map(|cause| (attempt, cause)))
        };
        rows.into_iter().filter_map(|row| read(row).transpose()).collect()
    }
}

fn read_attempt(r: &mut Reader) -> Result<AttemptRef, Fault> {
    Ok(AttemptRef { job: r.job_id("id")?, attempt: AttemptNumber(r.small("attempts")?) })
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
                let attempt = read_attempt(&mut Reader::new("jobs", row))?;
                open.insert((attempt.job, attempt.attempt));
            }
        }
        Ok(self.attempts.iter().map(|a| open.contains(&(a.job, a.attempt))).collect())
    }
}
