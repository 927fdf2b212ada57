//! Committing placements: each with its charge on cluster and team, as far as there is room under locks.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use yard_domain::event::{Event, ReleaseReason};
use yard_domain::{
    AccountOwner, Cluster, ClusterId, Lease, Request, Team, TeamId, Timestamp, TransitionError,
};
use yard_ports::store::{PlacementOrder, PlacementReport, StoreLimits};

use crate::accounts::Accounts;
use crate::catalog;
use crate::fault::Fault;
use crate::fence::{count_stale, fence_scheduler};
use crate::moves::{Held, Moves, actor_of, lock_jobs};
use crate::tx::{Conn, Work};

/// See [`yard_ports::store::Store::commit_placements`].
pub(crate) struct CommitPlacements<'a> {
    pub(crate) lease: &'a Lease,
    pub(crate) orders: &'a [PlacementOrder],
    pub(crate) limits: StoreLimits,
}

#[async_trait]
impl Work for CommitPlacements<'_> {
    type Out = PlacementReport;
    const NAME: &'static str = "commit_placements";

    async fn run(&self, conn: &mut Conn) -> Result<PlacementReport, Fault> {
        let now = fence_scheduler(conn, self.lease).await?;
        let clusters: BTreeSet<&ClusterId> = self.orders.iter().map(|o| &o.cluster).collect();
        let teams: BTreeSet<&TeamId> = self.orders.iter().map(|o| &o.team).collect();
        let accounts = Accounts::lock_for(conn, clusters, teams).await?;
        // Read after the locks: what was committed before this transaction's turn is seen.
        let mut room = Room {
            accounts,
            clusters: catalog::clusters(conn).await?.into_iter().map(|c| (c.id.clone(), c)).collect(),
            teams: catalog::teams(conn).await?.into_iter().map(|t| (t.id.clone(), t)).collect(),
        };
        let mut held = lock_jobs(conn, self.orders.iter().map(|o| o.job)).await?;
        let mut moves = Moves::new(actor_of(self.lease), now);
        let mut report = PlacementReport::default();
        for order in self.orders {
            match held.get_mut(&order.job) {
                Some(job) if job.record.job.team == order.team => {
                    self.place(order, job, now, &mut room, &mut moves, &mut report)?;
                }
                _ => report.stale.push(order.job),
            }
        }
        room.accounts.write(conn).await?;
        moves.write(conn, held.values()).await?;
        count_stale(Self::NAME, report.stale.len());
        Ok(report)
    }
}

impl CommitPlacements<'_> {
    fn place(
        &self,
        order: &PlacementOrder,
        job: &mut Held,
        now: Timestamp,
        room: &mut Room,
        moves: &mut Moves,
        report: &mut PlacementReport,
    ) -> Result<(), Fault> {
        let request = job.record.job.request.clone();
        let fits = room.fits(&order.cluster, &order.team, &request);
        let Ok(event) = self.decide(order, job, now, fits) else {
            report.stale.push(order.job);
            return Ok(());
        };
        match event {
            Event::Placed { .. } => {
                room.accounts.charge(&order.cluster, &order.team, &request)?;
                report.placed.push((order.job, order.cluster.clone()));
            }
            Event::Ended { .. } => report.stopped.push(order.job),
            _ => report.dropped.push(order.job),
        }
        moves.apply(job, &event)
    }

    fn decide(
        &self,
        order: &PlacementOrder,
        job: &Held,
        now: Timestamp,
        fits: bool,
    ) -> Result<Event, TransitionError> {
        let (job, token) = (&job.record.job, self.lease.token);
        if fits {
            job.place(token, order.cluster.clone(), now.plus(self.limits.place_deadline))
        } else {
            job.release(token, ReleaseReason::NoRoom)
        }
    }
}

/// What there is and what is left, under locks.
struct Room {
    accounts: Accounts,
    clusters: BTreeMap<ClusterId, Cluster>,
    teams: BTreeMap<TeamId, Team>,
}

impl Room {
    /// Whether the cluster takes jobs and both accounts have room for one that asks for `request`.
    fn fits(&self, cluster: &ClusterId, team: &TeamId, request: &Request) -> bool {
        let in_use = |owner| self.accounts.used(&owner);
        let on_cluster =
            self.clusters.get(cluster).filter(|c| c.takes_jobs()).and_then(|c| c.capacity.as_ref());
        let cluster_fits = on_cluster
            .zip(in_use(AccountOwner::Cluster(cluster.clone())))
            .is_some_and(|(capacity, used)| capacity.allows(used, request).is_ok());
        let team_fits = self
            .teams
            .get(team)
            .zip(in_use(AccountOwner::Team(team.clone())))
            .is_some_and(|(team, used)| team.quota.allows(used, request).is_ok());
        cluster_fits && team_fits
    }
}
