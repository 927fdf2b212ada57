//! Claims: schedulers take queued jobs in hand, each skipping what is in other hands, and give them back.

use std::collections::BTreeMap;

use async_trait::async_trait;
use yard_domain::event::ReleaseReason;
use yard_domain::{JobId, Lease, Shape, TeamId, Timestamp};
use yard_ports::store::{ClaimRequest, ClaimedJob, WaitNote};

use crate::backend::Value;
use crate::codec::write_by_cluster;
use crate::fault::Fault;
use crate::fence::{count_stale, fence_scheduler, glance_scheduler};
use crate::hot;
use crate::moves::{Held, Moves, actor_of, lock_jobs};
use crate::rows::JobRecord;
use crate::sql;
use crate::text::fit_chars;
use crate::tx::{Conn, Work};

/// See [`yard_ports::store::Store::claim`].
pub(crate) struct Claim<'a> {
    pub(crate) lease: &'a Lease,
    pub(crate) requests: &'a [ClaimRequest],
}

#[async_trait]
impl Work for Claim<'_> {
    type Out = Vec<ClaimedJob>;
    const NAME: &'static str = "claim";

    async fn run(&self, conn: &mut Conn) -> Result<Vec<ClaimedJob>, Fault> {
        let now = fence_scheduler(conn, self.lease).await?;
        let mut moves = Moves::new(actor_of(self.lease), now);
        let (mut held, mut claimed) = (Vec::new(), Vec::new());
        let sql = hot::claim(conn.dialect);
        for (team, shape, max) in merged(self.requests) {
            let args = vec![team.as_str().into(), shape.0.into(), max.into()];
            for row in conn.rows(sql.clone(), args).await? {
                let mut job = Held::from(JobRecord::read(row)?);
                let event = job.record.job.claim(self.lease.token);
                let event = event.map_err(|e| Fault::inconsistent("jobs", &job.record.id(), &e))?;
                moves.apply(&mut job, &event)?;
                claimed.push(ClaimedJob { id: job.record.id(), team: team.clone(), shape });
                held.push(job);
            }
        }
        moves.write(conn, &held).await?;
        Ok(claimed)
    }
}

/// One request per group, in the order of the first: a second SELECT would find our own rows again.
fn merged(requests: &[ClaimRequest]) -> Vec<(TeamId, Shape, u32)> {
    let mut list: Vec<(TeamId, Shape, u32)> = Vec::new();
    let mut places: BTreeMap<(&TeamId, Shape), usize> = BTreeMap::new();
    for request in requests.iter().filter(|r| r.max > 0) {
        let place = *places.entry((&request.team, request.shape)).or_insert(list.len());
        match list.get_mut(place) {
            Some((_, _, max)) => *max = max.saturating_add(request.max),
            None => list.push((request.team.clone(), request.shape, request.max)),
        }
    }
    list
}

/// See [`yard_ports::store::Store::release_claims`].
pub(crate) struct ReleaseClaims<'a> {
    pub(crate) lease: &'a Lease,
    pub(crate) jobs: &'a [JobId],
    pub(crate) reason: ReleaseReason,
}

#[async_trait]
impl Work for ReleaseClaims<'_> {
    type Out = u32;
    const NAME: &'static str = "release_claims";

    async fn run(&self, conn: &mut Conn) -> Result<u32, Fault> {
        let now = fence_scheduler(conn, self.lease).await?;
        let mut held = lock_jobs(conn, self.jobs.iter().copied()).await?;
        let mut moves = Moves::new(actor_of(self.lease), now);
        let mut released = 0;
        for job in held.values_mut() {
            if let Ok(event) = job.record.job.release(self.lease.token, self.reason) {
                moves.apply(job, &event)?;
                released += 1;
            }
        }
        moves.write(conn, held.values()).await?;
        count_stale(Self::NAME, self.jobs.len().saturating_sub(released as usize));
        Ok(released)
    }
}

/// See [`yard_ports::store::Store::note_waits`].
pub(crate) struct NoteWaits<'a> {
    pub(crate) lease: &'a Lease,
    pub(crate) notes: &'a [WaitNote],
}

#[async_trait]
impl Work for NoteWaits<'_> {
    type Out = ();
    const NAME: &'static str = "note_waits";

    async fn run(&self, conn: &mut Conn) -> Result<(), Fault> {
        let now = glance_scheduler(conn, self.lease).await?;
        let columns = ["team", "shape", "at_us", "code", "message", "clusters", "expected_us"];
        // In one order, so that two passes wait for one another, not in a ring; of two notes the later counts.
        let notes: BTreeMap<_, _> = self.notes.iter().map(|note| ((&note.team, note.shape), note)).collect();
        let row = |note: &WaitNote| -> Vec<Value> {
            vec![
                note.team.as_str().into(),
                note.shape.0.into(),
                now.as_micros().into(),
                fit_chars(&note.code, 60).into(),
                fit_chars(&note.message, 2_000).into(),
                write_by_cluster(&note.clusters).into(),
                note.expected_start.map(Timestamp::as_micros).into(),
            ]
        };
        sql::insert(conn, "REPLACE INTO wait_notes", &columns, notes.into_values().map(row).collect()).await
    }
}
