//! Committing placements: each with its charge on cluster and team, as far as there is room under locks.
//!
//! What is locked, in this order: the lease and the catalog in force (shared), the cohorts at the top of the placed
//! teams' trees, the accounts of clusters and placed teams, the jobs. Whoever charges a team of a tree waits at the
//! tree's top, so the usage of its other teams, read without locks, can only fall meanwhile (docs/adr/0005).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use yard_domain::event::{Event, ReleaseReason};
use yard_domain::{
    AccountOwner, Cluster, ClusterId, CohortId, Lease, Request, TeamId, Timestamp, TransitionError,
};
use yard_ports::store::{PlacementOrder, PlacementReport, StoreLimits};

use crate::accounts::{self, Accounts};
use crate::backend::Value;
use crate::clusters;
use crate::fault::Fault;
use crate::fence::{count_stale, fence_scheduler};
use crate::in_force::{InForce, Remembered};
use crate::moves::{Held, Moves, actor_of, lock_jobs};
use crate::sql::{self, BATCH};
use crate::tx::{Conn, Work};

/// See [`yard_ports::store::Store::commit_placements`].
pub(crate) struct CommitPlacements<'a> {
    pub(crate) lease: &'a Lease,
    pub(crate) orders: &'a [PlacementOrder],
    pub(crate) limits: StoreLimits,
    pub(crate) remembered: &'a Remembered,
}

#[async_trait]
impl Work for CommitPlacements<'_> {
    type Out = PlacementReport;
    const NAME: &'static str = "commit_placements";

    async fn run(&self, conn: &mut Conn) -> Result<PlacementReport, Fault> {
        let now = fence_scheduler(conn, self.lease).await?;
        let clusters = self.orders.iter().map(|o| &o.cluster).collect();
        let teams = self.orders.iter().map(|o| &o.team).collect();
        let in_force = self.remembered.hold(conn).await?;
        let mut room = Room::lock(conn, now, in_force, &clusters, &teams).await?;
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
                room.charge(&order.cluster, &order.team, &request)?;
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
    in_force: Arc<InForce>,
    accounts: Accounts,
    clusters: BTreeMap<ClusterId, Cluster>,
    /// What each node of the quota tree uses; exact for the placed teams' trees.
    usage: Vec<Request>,
}

impl Room {
    async fn lock(
        conn: &mut Conn,
        now: Timestamp,
        in_force: Arc<InForce>,
        clusters: &BTreeSet<&ClusterId>,
        teams: &BTreeSet<&TeamId>,
    ) -> Result<Self, Fault> {
        lock_cohorts(conn, &in_force.top_cohorts(teams)).await?;
        let accounts = Accounts::lock_for(conn, now, clusters.iter().copied(), teams.iter().copied()).await?;
        // Read after the locks: what was committed before this transaction's turn is seen.
        let others = accounts::used_by(conn, in_force.lenders(teams)).await?;
        let usage = in_force.quota.usage(|team| {
            let owner = AccountOwner::Team(team.clone());
            accounts.used(&owner).or_else(|| others.get(&owner))
        });
        let found = clusters::some(conn, clusters.iter().copied()).await?;
        let clusters = found.into_iter().map(|c| (c.id.clone(), c)).collect();
        Ok(Self { in_force, accounts, clusters, usage })
    }

    /// Whether the cluster takes jobs and has room for one that asks for `request`, as has every quota on the way
    /// from its team to the top.
    fn fits(&self, cluster: &ClusterId, team: &TeamId, request: &Request) -> bool {
        let in_use = |owner| self.accounts.used(&owner);
        let on_cluster =
            self.clusters.get(cluster).filter(|c| c.takes_jobs()).and_then(|c| c.capacity.as_ref());
        let cluster_fits = on_cluster
            .zip(in_use(AccountOwner::Cluster(cluster.clone())))
            .is_some_and(|(capacity, used)| capacity.allows(used, request).is_ok());
        let quota = &self.in_force.quota;
        let team_fits =
            quota.node_of(team).is_some_and(|node| quota.allows(&self.usage, node, request).is_ok());
        cluster_fits && team_fits && in_use(AccountOwner::Team(team.clone())).is_some()
    }

    fn charge(&mut self, cluster: &ClusterId, team: &TeamId, request: &Request) -> Result<(), Fault> {
        if let Some(node) = self.in_force.quota.node_of(team) {
            self.in_force.quota.charge(&mut self.usage, node, request);
        }
        self.accounts.charge(cluster, team, request)
    }
}

/// Waits until nobody else charges teams of these cohorts' trees.
async fn lock_cohorts(conn: &mut Conn, cohorts: &BTreeSet<&CohortId>) -> Result<(), Fault> {
    let (index, lock) = (conn.dialect.index("PRIMARY"), conn.dialect.for_update());
    let ids: Vec<Value> = cohorts.iter().map(|id| id.as_str().into()).collect();
    for ids in ids.chunks(BATCH) {
        let marks = sql::marks(ids.len());
        let mut args = Vec::new();
        sql::pad(&mut args, ids);
        let sql = format!("SELECT id FROM cohorts{index} WHERE id IN ({marks}) ORDER BY id{lock}");
        conn.rows(sql, args).await?;
    }
    Ok(())
}
