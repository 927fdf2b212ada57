//! Ends of attempts: the job ends or is queued again, both charges are refunded, history, all in one.

use std::collections::BTreeSet;

use async_trait::async_trait;
use yard_domain::{JobId, JobState, Lease, RetryRules, TeamId};
use yard_ports::store::{EndOrder, Recorded};

use crate::accounts::Accounts;
use crate::fault::Fault;
use crate::fence::{count_stale, fence_cluster};
use crate::launch::on_cluster;
use crate::moves::{Moves, actor_of, lock_jobs};
use crate::reader::{Reader, id_values};
use crate::sql::{self, BATCH};
use crate::tx::{Conn, Work};

/// See [`yard_ports::store::Store::record_ends`].
pub(crate) struct RecordEnds<'a> {
    pub(crate) lease: &'a Lease,
    pub(crate) rules: &'a RetryRules,
    pub(crate) ends: &'a [EndOrder],
}

#[async_trait]
impl Work for RecordEnds<'_> {
    type Out = Vec<Recorded>;
    const NAME: &'static str = "record_ends";

    async fn run(&self, conn: &mut Conn) -> Result<Vec<Recorded>, Fault> {
        let (now, cluster) = fence_cluster(conn, self.lease).await?;
        let jobs = || self.ends.iter().map(|end| end.attempt.job);
        // A job's team never changes, so it may be read before the locks, of which accounts come first.
        let teams = teams_of(conn, jobs()).await?;
        let mut accounts = Accounts::lock_for(conn, now, [&cluster], &teams).await?;
        let mut held = lock_jobs(conn, jobs()).await?;
        let mut moves = Moves::new(actor_of(self.lease), now);
        let mut recorded = Vec::with_capacity(self.ends.len());
        for order in self.ends {
            let job = held.get_mut(&order.attempt.job);
            let Some(job) = job.filter(|job| on_cluster(&job.record.job, &cluster) == Some(order.attempt))
            else {
                recorded.push(Recorded::Stale);
                continue;
            };
            let attempt = order.attempt.attempt;
            let event =
                job.record.job.finish_attempt(attempt, order.end.clone(), self.rules, now, order.jitter);
            let Ok(event) = event else {
                recorded.push(Recorded::Stale);
                continue;
            };
            accounts.refund(&cluster, &job.record.job.team, &job.record.job.request)?;
            moves.apply(job, &event)?;
            recorded.push(match &job.record.job.state {
                JobState::Queued { not_before, .. } => {
                    Recorded::Requeued { not_before: not_before.unwrap_or(now) }
                }
                JobState::Ended(outcome) => Recorded::Ended(outcome.clone()),
                state => return Err(Fault::inconsistent("jobs", &order.attempt.job, &state.name().code())),
            });
        }
        accounts.write(conn).await?;
        moves.write(conn, held.values()).await?;
        count_stale(Self::NAME, recorded.iter().filter(|r| **r == Recorded::Stale).count());
        Ok(recorded)
    }
}

/// The teams of these jobs, read without locks.
async fn teams_of(conn: &mut Conn, ids: impl IntoIterator<Item = JobId>) -> Result<BTreeSet<TeamId>, Fault> {
    let mut teams = BTreeSet::new();
    for ids in id_values(ids).chunks(BATCH) {
        let (index, marks) = (conn.dialect.index("PRIMARY"), sql::marks(ids.len()));
        let mut args = Vec::new();
        sql::pad(&mut args, ids);
        for row in
            conn.rows(format!("SELECT DISTINCT team FROM jobs{index} WHERE id IN ({marks})"), args).await?
        {
            teams.insert(Reader::new("jobs", row).coded("team", |t| t.parse().ok())?);
        }
    }
    Ok(teams)
}
