//! Places queued jobs: load, plan (pure), claim what the plan wants, commit it with its charges.
//!
//! The plan is made on groups of interchangeable jobs *before* anything is claimed, so that a claim never
//! takes more than there are free slots, and jobs that can't be placed cost no write. Whatever another
//! scheduler was faster with is dropped by the claim (rows in other hands are skipped) or by the commit
//! (room is checked again under locks), and planned again in the next pass.
//!
//! Open attempts are looked at only while something waits for room: they tell when there will be some, for whom it is to
//! be kept, and who would have to make it. Any number of schedulers place; of those, one at a time asks jobs to make
//! room ([`PREEMPTOR`]), always by attempts it has just read, so that no two ask different jobs for the same need.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use yard_domain::event::ReleaseReason;
use yard_domain::{ClusterId, JobId, LeaseScope, Shape, TeamId, Timestamp};
use yard_planner::{Hold, Plan, Planner, Policy, Preemption, Snapshot};
use yard_ports::store::{AttemptRef, ClaimRequest, ClaimedJob, PlacementOrder, PreemptOrder};
use yard_ports::{Store, StoreError};

use crate::forecast::Forecasts;
use crate::history::History;
use crate::holdings::Holdings;
use crate::keeper::{Held, Keeper};
use crate::notes::Notes;
use crate::nudge::Nudges;
use crate::settings::SchedulerSettings;
use crate::view;

/// The name under which the one scheduler that asks jobs to make room holds its lease.
pub const PREEMPTOR: &str = "preemptor";

/// The placement loop of one replica.
pub struct Scheduler {
    store: Arc<dyn Store>,
    keeper: Keeper,
    nudges: Nudges,
    settings: SchedulerSettings,
    rng: SmallRng,
    held: Option<Held>,
    preemptor: Option<Held>,
    notes: Notes,
    holdings: Holdings,
    history: History,
    history_next: Option<Instant>,
    forecasts: Forecasts,
    /// What earlier plans promised to those that wait for room.
    planner: Planner,
    /// Whether the last plan left something waiting for room.
    crowded: bool,
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
    /// Attempts asked to make room.
    pub preempted: u32,
}

/// What was decided, on what.
struct Decision {
    plan: Arc<Plan>,
    now: Timestamp,
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
        Self {
            store,
            keeper,
            nudges,
            settings,
            rng,
            held: None,
            preemptor: None,
            notes: Notes::default(),
            holdings: Holdings::default(),
            history: History::default(),
            history_next: None,
            forecasts: Forecasts::default(),
            planner: Planner::default(),
            crowded: false,
        }
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
        for held in self.held.take().into_iter().chain(self.preemptor.take()) {
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
        let Some(Decision { plan, now }) = self.decide().await? else {
            self.crowded = false;
            return Ok(PassReport::default());
        };
        self.crowded = waits_for_room(&plan);
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
        report.preempted = self.make_room(&plan.preemptions).await?;
        // Last, because it is only for people.
        self.notes.write(self.store.as_ref(), &held.lease(), &plan, now).await?;
        let errors = self.forecasts.follow(&plan, now);
        if !errors.is_empty() {
            self.store.add_forecast_errors(&held.lease(), &errors).await?;
        }
        metrics::counter!("yard_placements_total").increment(u64::from(report.placed));
        metrics::counter!("yard_placements_dropped_total").increment(u64::from(report.dropped));
        metrics::counter!("yard_preemptions_total").increment(u64::from(report.preempted));
        Ok(report)
    }

    /// Loads and plans; `None` if nothing waits. Open attempts are read beforehand if the last plan left something
    /// waiting for room, else only once this one turns out to; and anew before anybody is asked to make room.
    async fn decide(&mut self) -> Result<Option<Decision>, StoreError> {
        let fresh = self.crowded && self.look_at_holdings(false).await?;
        let Some(decision) = self.load_and_plan().await? else { return Ok(None) };
        let plan = &decision.plan;
        let again = if self.crowded { !plan.preemptions.is_empty() && !fresh } else { waits_for_room(plan) };
        if !again {
            return Ok(Some(decision));
        }
        self.crowded = true;
        self.look_at_holdings(true).await?;
        self.load_and_plan().await
    }

    /// The open attempts must have been read *before* what is loaded here. One that ends in between is then still listed
    /// while its room is free already, so that too few are asked to make room, and the next pass asks the others. The
    /// other way round it would hold room without being listed, and one too many would be stopped.
    async fn load_and_plan(&mut self) -> Result<Option<Decision>, StoreError> {
        let input = self.store.load_placement_input(self.settings.view).await?;
        if input.heads.is_empty() {
            return Ok(None);
        }
        let now = input.now;
        let policy = Policy { placements_max: self.settings.placements_max, ..input.policy.clone() };
        let snapshot = view::snapshot(input, self.known_holdings(), &self.history);
        let plan = self.plan(&snapshot, &policy, now);
        Ok(Some(Decision { plan, now }))
    }

    fn known_holdings(&self) -> &[yard_ports::store::OpenHolding] {
        if self.crowded { self.holdings.list() } else { &[] }
    }

    /// Reads the open attempts, and what has ended since the last time, as far as that is due.
    async fn look_at_holdings(&mut self, now_please: bool) -> Result<bool, StoreError> {
        let store = self.store.as_ref();
        if self.history_next.is_none_or(|next| Instant::now() >= next) {
            let now = store.now().await?;
            let more = self.history.refresh(store, now, &self.settings.history).await?;
            self.history_next = (!more).then(|| Instant::now() + self.settings.history_interval);
        }
        self.holdings.refresh(store, self.settings.holdings_max, now_please).await
    }

    fn plan(&mut self, snapshot: &Snapshot, policy: &Policy, now: Timestamp) -> Arc<Plan> {
        let started = Instant::now();
        let seed = self.rng.random();
        let plan = if self.crowded {
            self.planner.plan(snapshot, policy, now, seed)
        } else {
            // Nothing waited so far: there is nothing to remember, and without open attempts nothing to promise.
            Arc::new(yard_planner::plan(snapshot, policy, now, seed))
        };
        metrics::histogram!("yard_plan_seconds").record(started.elapsed().as_secs_f64());
        plan
    }

    /// Asks jobs to make room, if it is this replica that does so.
    async fn make_room(&mut self, preemptions: &[Preemption]) -> Result<u32, StoreError> {
        if preemptions.is_empty() {
            return Ok(0);
        }
        if self.preemptor.as_ref().is_none_or(|held| held.lost().is_cancelled()) {
            let scope = LeaseScope::Scheduler(PREEMPTOR.to_owned());
            self.preemptor = self.keeper.acquire(&scope, self.settings.lease).await?;
        }
        let Some(held) = &self.preemptor else { return Ok(0) };
        let orders: Vec<PreemptOrder> = preemptions.iter().map(preempt_order).collect();
        let asked = match self.store.request_preemptions(&held.lease(), &orders).await {
            Err(error @ StoreError::LeaseLost { .. }) => {
                held.mark_lost();
                return Err(error);
            }
            other => other?,
        };
        let clusters: HashSet<&ClusterId> = preemptions.iter().map(|p| &p.cluster).collect();
        for cluster in clusters {
            self.nudges.dispatcher(cluster);
        }
        info!(asked, "jobs asked to make room");
        Ok(asked)
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
}

/// Whether something waits that only room (or a turn of quota) could help.
fn waits_for_room(plan: &Plan) -> bool {
    plan.refusals.iter().any(|refusal| refusal.hold != Hold::PassFull)
}

fn preempt_order(p: &Preemption) -> PreemptOrder {
    PreemptOrder {
        attempt: AttemptRef { job: p.victim, attempt: p.attempt },
        for_team: p.for_team.clone(),
        reason: p.cause.to_string(),
    }
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
