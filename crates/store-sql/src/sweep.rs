//! The clocks: what waits too long, or in hands that are gone, is moved on. Each kind is a transaction of its
//! own, so that one that is in trouble does not hold up the others.

use std::collections::BTreeSet;

use async_trait::async_trait;
use yard_domain::event::ReleaseReason;
use yard_domain::lifecycle::AttemptEnd;
use yard_domain::{
    AttemptNumber, ClusterId, Failure, FailureClass, JobId, JobState, Lease, LeaseToken, RetryRules, TeamId,
};
use yard_ports::store::StoreLimits;

use crate::accounts::Accounts;
use crate::backend::Value;
use crate::fault::Fault;
use crate::fence::fence_scheduler;
use crate::hot;
use crate::leases;
use crate::moves::{Held, Moves, actor_of, lock_jobs};
use crate::reader::{Reader, id_values};
use crate::rows::{CLOCK_PLACED, CLOCK_QUEUE, JOB_COLUMNS, JobRecord};
use crate::sql::{self, BATCH};
use crate::tx::{Conn, Work};

/// Lease rows that ended longer ago than this are deleted: their tokens are never granted again.
const DEAD_LEASE_KEPT_US: i64 = 24 * 3_600 * 1_000_000;

/// Backoffs that are over: may be claimed now. Not a transition: the job stays queued.
pub(crate) struct Wake<'a> {
    pub(crate) lease: &'a Lease,
    pub(crate) limit: u32,
}

#[async_trait]
impl Work for Wake<'_> {
    type Out = u32;
    const NAME: &'static str = "sweep_wake";

    async fn run(&self, conn: &mut Conn) -> Result<u32, Fault> {
        let now = fence_scheduler(conn, self.lease).await?;
        let sql = hot::backoffs(conn.dialect);
        let rows = conn.rows(sql, vec![now.as_micros().into(), self.limit.into()]).await?;
        let ids: Vec<JobId> =
            rows.into_iter().map(|row| Reader::new("jobs", row).job_id("id")).collect::<Result<_, _>>()?;
        let index = conn.dialect.index("PRIMARY");
        for ids in id_values(ids.iter().copied()).chunks(BATCH) {
            let sql = format!(
                "UPDATE jobs{index} SET ready = 1, clock_kind = {CLOCK_QUEUE}, clock_us = deadline_us WHERE id IN ({})",
                sql::marks(ids.len())
            );
            let mut args = Vec::new();
            sql::pad(&mut args, ids);
            conn.run(sql, args).await?;
        }
        order_placed(conn, self.limit).await?;
        Ok(count(ids.len()))
    }
}

/// Attempts placed by a binary of before migration 2 get their place in the order of placements. Not needed any more
/// once no such binary can run beside this one.
async fn order_placed(conn: &mut Conn, limit: u32) -> Result<(), Fault> {
    let rows = conn.rows(hot::unordered(conn.dialect), vec![limit.into()]).await?;
    let ids: Vec<JobId> =
        rows.into_iter().map(|row| Reader::new("jobs", row).job_id("id")).collect::<Result<_, _>>()?;
    let index = conn.dialect.index("PRIMARY");
    for ids in id_values(ids).chunks(BATCH) {
        let sql = format!(
            "UPDATE jobs{index} SET clock_kind = {CLOCK_PLACED}, clock_us = placed_us \
             WHERE cluster IS NOT NULL AND id IN ({})",
            sql::marks(ids.len())
        );
        let mut args = Vec::new();
        sql::pad(&mut args, ids);
        conn.run(sql, args).await?;
    }
    Ok(())
}

/// Queue timeouts: ended as expired.
pub(crate) struct Expire<'a> {
    pub(crate) lease: &'a Lease,
    pub(crate) limit: u32,
}

#[async_trait]
impl Work for Expire<'_> {
    type Out = u32;
    const NAME: &'static str = "sweep_expire";

    async fn run(&self, conn: &mut Conn) -> Result<u32, Fault> {
        let now = fence_scheduler(conn, self.lease).await?;
        let sql = hot::expiries(conn.dialect);
        let rows = conn.rows(sql, vec![now.as_micros().into(), self.limit.into()]).await?;
        let mut moves = Moves::new(actor_of(self.lease), now);
        let mut held = Vec::new();
        for row in rows {
            let mut job = Held::from(JobRecord::read(row)?);
            if let Ok(event) = job.record.job.expire(now) {
                moves.apply(&mut job, &event)?;
                held.push(job);
            }
        }
        moves.write(conn, &held).await?;
        Ok(count(held.len()))
    }
}

/// Claims whose lease has ended: back in the queue.
pub(crate) struct Reclaim<'a> {
    pub(crate) lease: &'a Lease,
    pub(crate) limit: u32,
}

#[async_trait]
impl Work for Reclaim<'_> {
    type Out = u32;
    const NAME: &'static str = "sweep_reclaim";

    async fn run(&self, conn: &mut Conn) -> Result<u32, Fault> {
        let now = fence_scheduler(conn, self.lease).await?;
        // In this order: a lease granted after the first read has a larger token than the last one, so its claims
        // are left alone although the second read may not have seen it.
        let last = leases::granted(conn).await?;
        let sql = "SELECT token FROM leases WHERE expires_us > ?";
        let valid: Vec<Value> =
            conn.rows(sql, vec![now.as_micros().into()]).await?.into_iter().flatten().collect();
        let (index, lock) = (conn.dialect.index("jobs_ready"), conn.dialect.skip_locked());
        let sql = format!(
            "SELECT {JOB_COLUMNS} FROM jobs{index} WHERE ready = 0 AND lease_token <= ? AND lease_token NOT IN ({}) \
             LIMIT ?{lock}",
            sql::marks(valid.len())
        );
        let mut args = vec![last.0.into()];
        sql::pad(&mut args, &valid);
        args.push(self.limit.into());
        let mut moves = Moves::new(actor_of(self.lease), now);
        let mut held = Vec::new();
        for row in conn.rows(sql, args).await? {
            let mut job = Held::from(JobRecord::read(row)?);
            let JobState::Claimed { lease, .. } = job.record.job.state else { continue };
            if let Ok(event) = job.record.job.release(lease, ReleaseReason::LeaseExpired) {
                moves.apply(&mut job, &event)?;
                held.push(job);
            }
        }
        moves.write(conn, &held).await?;
        forget_dead_leases(conn, now.as_micros()).await?;
        Ok(count(held.len()))
    }
}

async fn forget_dead_leases(conn: &mut Conn, now_us: i64) -> Result<(), Fault> {
    let before = now_us.saturating_sub(DEAD_LEASE_KEPT_US);
    let sql = "SELECT scope, token FROM leases WHERE expires_us < ? ORDER BY scope LIMIT 100";
    for row in conn.rows(sql, vec![before.into()]).await? {
        let mut r = Reader::new("leases", row);
        let (scope, token) = (r.text("scope")?, LeaseToken(r.int("token")?));
        let sql = "DELETE FROM leases WHERE scope = ? AND token = ? AND expires_us < ?";
        conn.run(sql, vec![scope.into(), token.0.into(), before.into()]).await?;
    }
    Ok(())
}

/// Placed, but not launched in time: the attempt has failed.
pub(crate) struct Unplace<'a> {
    pub(crate) lease: &'a Lease,
    pub(crate) rules: &'a RetryRules,
    pub(crate) limit: u32,
    pub(crate) limits: StoreLimits,
}

/// An overdue placement, before it is locked.
struct Overdue {
    id: JobId,
    team: TeamId,
    cluster: ClusterId,
    attempt: AttemptNumber,
}

#[async_trait]
impl Work for Unplace<'_> {
    type Out = u32;
    const NAME: &'static str = "sweep_unplace";

    async fn run(&self, conn: &mut Conn) -> Result<u32, Fault> {
        let now = fence_scheduler(conn, self.lease).await?;
        let overdue = self.overdue(conn, now.as_micros()).await?;
        if overdue.is_empty() {
            return Ok(0);
        }
        let clusters: BTreeSet<&ClusterId> = overdue.iter().map(|o| &o.cluster).collect();
        let mut accounts = Accounts::lock_for(conn, now, clusters, overdue.iter().map(|o| &o.team)).await?;
        let mut held = lock_jobs(conn, overdue.iter().map(|o| o.id)).await?;
        let mut moves = Moves::new(actor_of(self.lease), now);
        let mut moved = 0;
        for o in &overdue {
            let Some(job) = held.get_mut(&o.id) else { continue };
            let still = matches!(&job.record.job.state,
                JobState::Placed { attempt, deadline }
                    if attempt.cluster == o.cluster && attempt.number == o.attempt && deadline.is_due(now));
            if !still {
                continue;
            }
            let message = format!("{} did not begin the launch in time", o.cluster);
            let wished = job.record.job.preempt_requested;
            let class = if wished { FailureClass::Preempted } else { FailureClass::Launch };
            let end = AttemptEnd::Failed(Failure::new(class, None, message));
            let event = job.record.job.finish_attempt(o.attempt, end, self.rules, now, jitter(o.id));
            let event = event.map_err(|e| Fault::inconsistent("jobs", &o.id, &e))?;
            accounts.refund(&o.cluster, &o.team, &job.record.job.request)?;
            moves.apply(job, &event)?;
            moved += 1;
        }
        accounts.write(conn).await?;
        moves.write(conn, held.values()).await?;
        Ok(moved)
    }
}

impl Unplace<'_> {
    async fn overdue(&self, conn: &mut Conn, now_us: i64) -> Result<Vec<Overdue>, Fault> {
        let span = i64::try_from(self.limits.place_deadline.as_micros()).unwrap_or(i64::MAX);
        let index = conn.dialect.index("jobs_cluster");
        let sql = format!(
            "SELECT id, team, cluster, attempts FROM jobs{index} WHERE cluster = ? AND pending_us > 0 \
             AND pending_us <= ? AND deadline_us <= ? ORDER BY pending_us, id LIMIT ?"
        );
        let mut overdue = Vec::new();
        for row in conn.rows("SELECT id FROM clusters ORDER BY id", Vec::new()).await? {
            let left = i64::from(self.limit) - i64::try_from(overdue.len()).unwrap_or(i64::MAX);
            let cluster = Reader::new("clusters", row).text("id")?;
            let args =
                vec![cluster.into(), now_us.saturating_sub(span).into(), now_us.into(), left.max(0).into()];
            for row in conn.rows(sql.clone(), args).await? {
                let mut r = Reader::new("jobs", row);
                overdue.push(Overdue {
                    id: r.job_id("id")?,
                    team: r.coded("team", |t| t.parse().ok())?,
                    cluster: r.coded("cluster", |t| t.parse().ok())?,
                    attempt: AttemptNumber(r.small("attempts")?),
                });
            }
        }
        Ok(overdue)
    }
}

/// Spreads the waits of jobs that failed together: the last byte of a job's id is random.
fn jitter(id: JobId) -> f64 {
    f64::from(id.0.as_bytes()[15]) / 255.0
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
