//! Places queued jobs: load, plan (pure), claim what the plan wants, commit it with its charges.
//!
//! The plan is made on groups of interchangeable jobs *before* anything is claimed, so that a claim never
//! takes more than there are free slots, and jobs that can't be placed cost no write. Whatever another
//! scheduler was faster with is dropped by the claim (rows in other hands are skipped) or by the commit
//! (room is checked again under locks), and planned again in the next pass.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use yard_domain::event::ReleaseReason;
use yard_domain::{AccountOwner, ClusterId, JobId, LeaseScope, Request, Shape, TeamId};
use yard_planner::{ClusterView, Group, GroupRefusal, Hold, Parts, Plan, Policy, Snapshot, TeamView};
use yard_ports::store::{ClaimRequest, ClaimedJob, PlacementInput, PlacementOrder, WaitNote};
use yard_ports::{Store, StoreError};

use crate::keeper::{Held, Keeper};
use crate::nudge::Nudges;
use crate::settings::SchedulerSettings;

/// The placement loop of one replica.
pub struct Scheduler {
    store: Arc<dyn Store>,
    keeper: Keeper,
    nudges: Nudges,
    settings: SchedulerSettings,
    rng: SmallRng,
    held: Option<Held>,
    noted: HashMap<(TeamId, Shape), WaitNote>,
}

/// What one pass did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PassReport {
    /// Jobs looked at by the planner.
    pub considered: u32,
    /// Jobs placed.
    pub placed: u32,
    /// Placements that came too late and were dropped.
    pub dropped: u32,
}

impl Scheduler {
    /// A scheduler; `seed` breaks ties differently in each replica.
    pub fn new(
        store: Arc<dyn Store>,
        keeper: Keeper,
        nudges: Nudges,
        settings: SchedulerSettings,
        seed: u64,
    ) -> Self {
        let rng = SmallRng::seed_from_u64(seed);
        Self { store, keeper, nudges, settings, rng, held: None, noted: HashMap::new() }
    }

    /// Passes until `cancel`, then gives the lease back.
    pub async fn run(mut self, cancel: CancellationToken) {
        let signal = self.nudges.scheduler_signal();
        let mut pause = Duration::ZERO;
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                () = signal.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
            pause = match self.pass().await {
                Ok(report) if report.placed > 0 => Duration::ZERO,
                Ok(_) => self.jittered(),
                Err(error) => {
                    warn!(%error, "placement pass failed");
                    self.forget_lost_lease(&error);
                    self.jittered()
                }
            };
        }
        if let Some(held) = self.held.take() {
            self.keeper.give_back(&held).await;
        }
    }

    /// Three quarters to five quarters of the interval: replicas don't march in step.
    fn jittered(&mut self) -> Duration {
        self.settings.pass_interval.mul_f64(self.rng.random_range(0.75..1.25))
    }

    fn forget_lost_lease(&mut self, error: &StoreError) {
        if let (StoreError::LeaseLost { .. }, Some(held)) = (error, &self.held) {
            held.mark_lost();
        }
    }

    async fn lease(&mut self) -> Result<Option<Held>, StoreError> {
        if let Some(held) = self.held.take_if(|h| h.lost().is_cancelled()) {
            debug!(scope = %held.lease().scope, "the scheduler's lease was lost; acquiring anew");
        }
        if self.held.is_none() {
            let scope = LeaseScope::Scheduler(self.keeper.holder().to_owned());
            self.held = self.keeper.acquire(&scope, self.settings.lease).await?;
        }
        Ok(self.held.clone())
    }

    /// One pass: load, decide, apply.
    pub async fn pass(&mut self) -> Result<PassReport, StoreError> {
        let Some(held) = self.lease().await? else { return Ok(PassReport::default()) };
        let input = self.store.load_placement_input(self.settings.view).await?;
        if input.heads.is_empty() {
            return Ok(PassReport::default());
        }
        let started = tokio::time::Instant::now();
        let (now, seed) = (input.now, self.rng.random());
        let policy = Policy { placements_max: self.settings.placements_max, ..input.policy.clone() };
        let snapshot = snapshot(input);
        let plan = yard_planner::plan(&snapshot, &policy, now, seed);
        metrics::histogram!("yard_plan_seconds").record(started.elapsed().as_secs_f64());
        self.note_refusals(&held, &plan).await?;
        let mut report = PassReport { considered: plan.considered, ..PassReport::default() };
        if !plan.placements.is_empty()
            && let Err(error) = self.apply(&held, &plan, &mut report).await
        {
            // Jobs may be claimed that were not placed, even without our knowing (the answer to a claim that was
            // committed can be lost), and a claim lasts as long as its lease. The next pass takes a fresh lease,
            // so the sweep gives them back.
            held.mark_lost();
            return Err(error);
        }
        metrics::counter!("yard_placements_total").increment(u64::from(report.placed));
        metrics::counter!("yard_placements_dropped_total").increment(u64::from(report.dropped));
        Ok(report)
    }

    async fn apply(&mut self, held: &Held, plan: &Plan, report: &mut PassReport) -> Result<(), StoreError> {
        let (requests, mut wanted) = claims(plan);
        let claimed = self.store.claim(&held.lease(), &requests).await?;
        let (orders, surplus) = assign(claimed, &mut wanted);
        self.release(held, &surplus).await?;
        let mut touched = HashSet::new();
        for batch in orders.chunks(self.settings.commit_batch.max(1)) {
            let done = self.store.commit_placements(&held.lease(), batch).await?;
            report.placed += u32::try_from(done.placed.len()).unwrap_or(u32::MAX);
            report.dropped += u32::try_from(done.dropped.len() + done.stale.len()).unwrap_or(u32::MAX);
            for (job, cluster) in done.placed {
                debug!(%job, %cluster, "placed");
                touched.insert(cluster);
            }
        }
        for cluster in &touched {
            self.nudges.dispatcher(cluster);
        }
        info!(placed = report.placed, dropped = report.dropped, "placement pass");
        Ok(())
    }

    async fn release(&self, held: &Held, surplus: &[JobId]) -> Result<(), StoreError> {
        if !surplus.is_empty() {
            self.store.release_claims(&held.lease(), surplus, ReleaseReason::NoRoom).await?;
        }
        Ok(())
    }

    /// Keeps, for people, why groups wait; only what changed since the last pass is written.
    async fn note_refusals(&mut self, held: &Held, plan: &Plan) -> Result<(), StoreError> {
        let notes: Vec<WaitNote> =
            plan.refusals.iter().filter(|r| r.hold != Hold::PassFull).map(note).collect();
        let changed: Vec<WaitNote> = notes
            .iter()
            .filter(|n| self.noted.get(&(n.team.clone(), n.shape)).is_none_or(|old| !same_rule(old, n)))
            .cloned()
            .collect();
        if !changed.is_empty() {
            self.store.note_waits(&held.lease(), &changed).await?;
        }
        self.noted = notes.into_iter().map(|n| ((n.team.clone(), n.shape), n)).collect();
        Ok(())
    }
}

/// The same rule with other numbers is not worth a write.
fn same_rule(a: &WaitNote, b: &WaitNote) -> bool {
    let what = |s: &String| s.split('(').next().unwrap_or_default().to_owned();
    a.code == b.code
        && a.clusters.iter().map(|(c, s)| (c, what(s))).eq(b.clusters.iter().map(|(c, s)| (c, what(s))))
}

fn note(refusal: &GroupRefusal) -> WaitNote {
    WaitNote {
        team: refusal.team.clone(),
        shape: refusal.shape,
        code: refusal.hold.code().to_owned(),
        message: refusal.hold.to_string(),
        clusters: refusal.clusters.iter().map(|(c, r)| (c.clone(), r.to_string())).collect(),
        expected_start: None,
    }
}

/// The planner's snapshot of what was loaded.
pub fn snapshot(input: PlacementInput) -> Snapshot {
    let mut used: HashMap<AccountOwner, Request> =
        input.accounts.into_iter().map(|a| (a.owner, a.used)).collect();
    let mut take = |owner: AccountOwner| used.remove(&owner).unwrap_or_default();
    let teams = input.teams.into_iter().map(|team| TeamView {
        used: take(AccountOwner::Team(team.id.clone())),
        past: Request::default(),
        team,
    });
    let teams: Vec<_> = teams.collect();
    let clusters = input
        .clusters
        .into_iter()
        .map(|cluster| ClusterView { used: take(AccountOwner::Cluster(cluster.id.clone())), cluster });
    let clusters: Vec<_> = clusters.collect();
    let groups = input.heads.into_iter().map(|h| Group {
        team: h.team,
        shape: h.shape,
        request: h.request,
        clusters: h.clusters,
        run_timeout: h.run_timeout,
        expected_run: h.run_timeout,
        orders: h.orders,
    });
    let groups = groups.collect();
    Snapshot::new(Parts { teams, cohorts: input.cohorts, clusters, groups, running: Vec::new() })
}

type Wanted = HashMap<(TeamId, Shape), VecDeque<ClusterId>>;

/// How many of each group to claim, and which clusters they are for, in the plan's order.
fn claims(plan: &Plan) -> (Vec<ClaimRequest>, Wanted) {
    let mut wanted: BTreeMap<(TeamId, Shape), VecDeque<ClusterId>> = BTreeMap::new();
    for p in &plan.placements {
        wanted.entry((p.team.clone(), p.shape)).or_default().push_back(p.cluster.clone());
    }
    let requests = wanted.iter().map(|((team, shape), clusters)| ClaimRequest {
        team: team.clone(),
        shape: *shape,
        max: u32::try_from(clusters.len()).unwrap_or(u32::MAX),
    });
    (requests.collect(), wanted.into_iter().collect())
}

/// Gives the claimed jobs of each group the clusters planned for it, and returns what has none.
fn assign(claimed: Vec<ClaimedJob>, wanted: &mut Wanted) -> (Vec<PlacementOrder>, Vec<JobId>) {
    let mut orders = Vec::with_capacity(claimed.len());
    let mut surplus = Vec::new();
    for job in claimed {
        match wanted.get_mut(&(job.team.clone(), job.shape)).and_then(VecDeque::pop_front) {
            Some(cluster) => orders.push(PlacementOrder { job: job.id, team: job.team, cluster }),
            None => surplus.push(job.id),
        }
    }
    (orders, surplus)
}
