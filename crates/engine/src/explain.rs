//! Answers why jobs wait: loads what a placement pass would decide on, and asks the planner.
//!
//! It sees what a scheduler sees (the same view of the queue, the same estimates), only without a lease, because it
//! changes nothing. A plan is work for a processor, so only so many explanations are made at once, off the threads that
//! serve requests; each is bounded by the number of plans it may make, and in time.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;
use yard_domain::{StateName, TeamId, Timestamp};
use yard_planner::explain::{Seat, seat};
use yard_planner::{Bounds, Group, Policy, Snapshot, explain, explain_team};
use yard_ports::store::{self, PlacementInput};
use yard_ports::{Store, StoreError};
use yard_wire::Explain;
use yard_wire::views::{ExplanationView, TeamExplanationView};

use crate::history::History;
use crate::settings::{ExplainSettings, SchedulerSettings};
use crate::view;

/// Ties are broken the same way each time: the same question has the same answer.
const SEED: u64 = 0;
/// Most batches of past runs read for one question; the rest is read for the next.
const HISTORY_BATCHES_MAX: u32 = 5;

/// Answers why jobs wait.
pub struct Explainer {
    store: Arc<dyn Store>,
    scheduler: SchedulerSettings,
    bounds: Bounds,
    slots: Arc<Semaphore>,
    history: Mutex<History>,
}

/// What is decided on, as a scheduler would see it now.
struct Scene {
    snapshot: Snapshot,
    policy: Policy,
    now: Timestamp,
}

impl Explainer {
    /// An explainer that sees what schedulers with these settings see.
    pub fn new(store: Arc<dyn Store>, scheduler: SchedulerSettings, settings: ExplainSettings) -> Self {
        let slots = Arc::new(Semaphore::new(settings.at_once.max(1)));
        Self { store, scheduler, bounds: settings.bounds, slots, history: Mutex::default() }
    }

    /// Of a queued job.
    async fn queued(&self, job: &store::JobView) -> Result<ExplanationView, StoreError> {
        let id = job.lifecycle.id;
        let (Some(place), scene) = (self.store.queue_place(id).await?, self.scene().await?) else {
            // It left the queue while it was looked at.
            let again = self.store.job(id).await?;
            return Ok(ExplanationView::elsewhere(again.as_ref().unwrap_or(job), self.store.now().await?));
        };
        let Scene { snapshot, policy, now } = scene;
        let wanted = self.seat_of(&place).await;
        let bounds = self.bounds;
        let found = self
            .off_the_threads(move || {
                let target = wanted.target()?;
                let asked = Instant::now();
                let snapshot = seat(snapshot, &wanted);
                Some(explain(&snapshot, &policy, now, SEED, &target, bounds, &|| asked.elapsed()))
            })
            .await?;
        let errors = self.store.forecast_errors().await?;
        Ok(match found {
            Some(found) => ExplanationView::waiting(job, &place, now, &found, &errors),
            None => ExplanationView::elsewhere(job, now),
        })
    }

    async fn scene(&self) -> Result<Scene, StoreError> {
        let store = self.store.as_ref();
        let mut history = self.history.lock().await;
        let now = store.now().await?;
        for _ in 0..HISTORY_BATCHES_MAX {
            if !history.refresh(store, now, &self.scheduler.history).await? {
                break;
            }
        }
        // Open attempts first, as schedulers do: what is read later then counts more as used, never less.
        let holdings = store.open_holdings(self.scheduler.holdings_max).await?;
        let input: PlacementInput = store.load_placement_input(self.scheduler.view).await?;
        let policy = Policy { placements_max: self.scheduler.placements_max, ..input.policy.clone() };
        let now = input.now;
        Ok(Scene { snapshot: view::snapshot(input, &holdings, &history), policy, now })
    }

    async fn seat_of(&self, place: &store::QueuePlace) -> Seat {
        let head = place.head.clone();
        let history = self.history.lock().await;
        let job = Group {
            expected_run: history.expected_run(&head.team, head.shape, head.run_timeout),
            team: head.team,
            shape: head.shape,
            request: head.request,
            clusters: head.clusters,
            run_timeout: head.run_timeout,
            orders: head.orders,
        };
        Seat { job, before: place.ahead_of_group }
    }

    /// Makes plans on a thread of their own, at most so many at once.
    async fn off_the_threads<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let stopping = || StoreError::Unavailable("this process is stopping".to_owned());
        // The slot goes with the work: a client that gives up does not make room for another plan beside it.
        let slot = self.slots.clone().acquire_owned().await.map_err(|_| stopping())?;
        let done = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            work()
        });
        match done.await {
            Ok(answer) => Ok(answer),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(stopping()),
        }
    }
}

#[async_trait]
impl Explain for Explainer {
    async fn job(&self, job: &store::JobView) -> Result<ExplanationView, StoreError> {
        if job.lifecycle.state.name() == StateName::Queued {
            return self.queued(job).await;
        }
        Ok(ExplanationView::elsewhere(job, self.store.now().await?))
    }

    async fn team(&self, team: &TeamId) -> Result<Option<TeamExplanationView>, StoreError> {
        let Scene { snapshot, policy, now } = self.scene().await?;
        if snapshot.quota.node_of(team).is_none() {
            return Ok(None);
        }
        let queued = self.store.stats().await?.open.get(&(team.clone(), StateName::Queued)).copied();
        let (bounds, asked) = (self.bounds, team.clone());
        let found = self
            .off_the_threads(move || {
                let began = Instant::now();
                explain_team(&snapshot, &policy, now, SEED, &asked, bounds, &|| began.elapsed())
            })
            .await?;
        Ok(Some(TeamExplanationView::new(team, queued.unwrap_or(0), now, &found)))
    }
}
