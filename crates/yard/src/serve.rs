//! `yard serve`: starts the loops of the chosen roles over one store and stops them in order.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use yard_engine::archive::LogKeeping;
use yard_engine::archive::retention::LogSweeper;
use yard_engine::catalog::{Doors, RuntimeBuilder};
use yard_engine::dispatch::{Dispatchers, Shared};
use yard_engine::intake::{IdSource, Intake};
use yard_engine::keeper::Keeper;
use yard_engine::placement::Scheduler;
use yard_engine::push::{self, PushBuilder, Pushers};
use yard_engine::settings::{
    DispatcherSettings, ExplainSettings, IntakeSettings, PushSettings, SchedulerSettings,
};
use yard_engine::sweep::Sweeper;
use yard_engine::{Catalog, Ending, Explainer, Nudges, Process, catalog};
use yard_ports::store::{ApplyAnswer, CatalogDocument};
use yard_ports::{Inbox, LogArchive, Spill, Store, StoreError};
use yard_server::Access;
use yard_wire::{CatalogReader, Defaults, Limits};

use crate::config::Declared;
use crate::jwks::HttpKeys;

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Role {
    /// Serves the HTTP API.
    Api,
    /// Takes in submissions from queues.
    Intake,
    /// Claims and places jobs, and keeps the clocks.
    Scheduler,
    /// Launches and watches jobs, one active dispatcher per cluster over all replicas.
    Dispatcher,
    /// Pushes verdicts and ends to those who subscribed to them.
    Pusher,
}

impl Role {
    /// All of them: the default.
    pub fn all() -> BTreeSet<Self> {
        [Self::Api, Self::Intake, Self::Scheduler, Self::Dispatcher, Self::Pusher].into()
    }
}

/// A queue to take submissions from.
pub struct Queue {
    /// How to talk to it.
    pub inbox: Arc<dyn Inbox>,
    /// Limits and times.
    pub settings: IntakeSettings,
}

/// How pushes go out.
pub struct Push {
    /// Makes senders of the subscriptions in force.
    pub builder: Arc<dyn PushBuilder>,
    /// Limits and times.
    pub settings: PushSettings,
}

/// Everything that is put together from the configuration before anything runs.
pub struct Installation {
    /// The truth.
    pub store: Arc<dyn Store>,
    /// Where logs of jobs are read from once their clusters have them no more.
    pub logs: Arc<dyn LogArchive>,
    /// How logs are kept there; `None` if they are not.
    pub keeping: Option<LogKeeping>,
    /// What the configuration declares of teams, clusters and policy, if it does.
    pub catalog: Option<Declared>,
    /// Makes drivers of the clusters in force.
    pub builder: Arc<dyn RuntimeBuilder>,
    /// How pushes go out.
    pub push: Push,
    /// Reads catalog documents for the API.
    pub read_catalog: Arc<CatalogReader>,
    /// The Ray Jobs API, with the packages that its clients upload.
    pub ray: yard_server::RayApi,
    /// Where submissions come from.
    pub queues: Vec<Queue>,
    /// Where the API puts submissions while the database is away.
    pub spill: Option<Arc<dyn Spill>>,
    /// Which teams each queue may submit for.
    pub doors: Doors,
    /// How long the catalogue that submissions are checked against may lag behind the store.
    pub catalog_refresh: Duration,
    /// Bounds on a submission.
    pub limits: Limits,
    /// What a submission leaves out.
    pub defaults: Defaults,
    /// The scheduler's limits and times.
    pub scheduler: SchedulerSettings,
    /// Bounds on explanations of why jobs wait.
    pub explain: ExplainSettings,
    /// The dispatchers' limits and times.
    pub dispatcher: DispatcherSettings,
    /// Who may come in.
    pub access: yard_server::AccessConfig,
    /// The API's limits and times.
    pub server: yard_server::ServerConfig,
    /// How long stopping may take.
    pub drain: Duration,
    /// The metrics of this process.
    pub metrics: metrics_exporter_prometheus::PrometheusHandle,
}

/// A running process.
pub struct Running {
    process: Process,
    drain: Duration,
    store: Arc<dyn Store>,
}

impl Running {
    /// Asks it to finish what is in hand.
    pub fn soft(&self) -> CancellationToken {
        self.process.soft()
    }

    /// Asks it to drop everything.
    pub fn hard(&self) -> CancellationToken {
        self.process.hard()
    }

    /// The store it works on.
    pub fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    /// Waits for its end.
    pub async fn wait(self) -> Ending {
        self.process.run(self.drain).await
    }
}

/// Starts the loops. `listener` is needed for the API role. `holder` names this process among all live ones.
pub async fn start(
    plan: Installation,
    roles: &BTreeSet<Role>,
    listener: Option<TcpListener>,
    holder: &str,
    seed: u64,
) -> Result<Running, StoreError> {
    if let Some(declared) = &plan.catalog {
        apply(plan.store.as_ref(), declared, holder).await?;
    } else if plan.store.catalog_version().await? == 0 {
        warn!(
            "there is no catalog yet, so no submission can be accepted: put one in force with `yard apply`"
        );
    }
    let instance = plan.store.instance().await?;
    let (catalog, catalog_loop) =
        catalog::load(plan.store.clone(), plan.doors.clone(), plan.catalog_refresh, plan.builder.clone())
            .await?;
    let mut process = Process::new();
    let soft = process.soft();
    let nudges = Nudges::default();
    let keeper = Keeper::new(plan.store.clone(), holder);
    let ids = IdSource::new(crate::wall_clock::unix_ms, seed);
    info!(holder, %instance, ?roles, "starting");
    process.spawn("catalog", catalog_loop.run(soft.clone()));
    // Leases are renewed until everything that works under them has stopped.
    process.spawn("lease keeper", keep(keeper.clone(), soft.clone(), plan.drain));
    if let (true, Some(listener)) = (roles.contains(&Role::Api), listener) {
        let state = api_state(&plan, &catalog, &nudges, ids.clone())?;
        process.spawn("packages", plan.ray.packages.clone().run(soft.clone()));
        process.spawn("api", serve_api(listener, state, soft.clone()));
    }
    if roles.contains(&Role::Scheduler) {
        start_scheduler(&mut process, &plan, &keeper, &nudges, seed);
    }
    if roles.contains(&Role::Dispatcher) {
        let shared = Shared {
            store: plan.store.clone(),
            keeper: keeper.clone(),
            nudges: nudges.clone(),
            settings: plan.dispatcher,
            instance,
            logs: plan.keeping.clone(),
        };
        process.spawn("dispatchers", Dispatchers::new(shared, catalog.runtimes(), seed).run(soft.clone()));
    }
    if roles.contains(&Role::Pusher) {
        let (store, keeper, settings) = (plan.store.clone(), keeper.clone(), plan.push.settings);
        let shared = push::Shared { store, keeper, settings, instance };
        process.spawn("pushers", Pushers::new(shared, plan.push.builder.clone(), seed).run(soft.clone()));
    }
    if roles.contains(&Role::Intake) {
        for (i, queue) in plan.queues.into_iter().enumerate() {
            let intake = Intake {
                inbox: queue.inbox,
                store: plan.store.clone(),
                catalog: catalog.clone(),
                limits: plan.limits.clone(),
                defaults: plan.defaults.clone(),
                nudges: nudges.clone(),
                settings: queue.settings,
                ids: IdSource::new(crate::wall_clock::unix_ms, seed.wrapping_add(1 + i as u64)),
            };
            process.spawn("intake", intake.run(soft.clone()));
        }
    }
    Ok(Running { process, drain: plan.drain, store: plan.store })
}

/// Puts the configuration's catalog in force, unless somebody has applied another.
async fn apply(store: &dyn Store, declared: &Declared, holder: &str) -> Result<(), StoreError> {
    let by = format!("process:{holder}");
    let document = CatalogDocument::configuration(&declared.text, &by);
    match store.apply_catalog(&declared.catalog, document).await? {
        ApplyAnswer::Applied(version) => info!(version, "the configuration's catalog is in force"),
        ApplyAnswer::Unchanged(version) => info!(version, "the catalog in force is the configuration's"),
        ApplyAnswer::Conflict(version) => warn!(
            version,
            "the teams, clusters and policy of the configuration file are passed over: a catalog that was applied \
             stands (`yard export` shows it); take them out of the file, or change it with `yard apply`"
        ),
    }
    Ok(())
}

/// Renews leases while the process runs, and on while it drains: a dispatcher that commits its last ends
/// needs its lease. The process does not wait longer for it than for the others.
async fn keep(keeper: Keeper, soft: CancellationToken, drain: Duration) {
    let stop = CancellationToken::new();
    let renewing = keeper.clone().run(stop.clone());
    let drained = async {
        soft.cancelled().await;
        let until = tokio::time::Instant::now() + drain;
        while keeper.holds_any() && tokio::time::Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = renewing => {}
        () = drained => stop.cancel(),
    }
}

fn start_scheduler(process: &mut Process, plan: &Installation, keeper: &Keeper, nudges: &Nudges, seed: u64) {
    let soft = process.soft();
    let scheduler = Scheduler::new(plan.store.clone(), keeper.clone(), nudges.clone(), plan.scheduler, seed);
    process.spawn("scheduler", scheduler.run(soft.clone()));
    let sweeper = Sweeper {
        store: plan.store.clone(),
        keeper: keeper.clone(),
        nudges: nudges.clone(),
        settings: plan.scheduler,
        retry: plan.dispatcher.retry,
    };
    process.spawn("sweeper", sweeper.run(soft.clone()));
    if let Some(keeping) = plan.keeping.clone() {
        let (store, keeper) = (plan.store.clone(), keeper.clone());
        let sweeper = LogSweeper { store, keeper, lease: plan.scheduler.lease, keeping };
        process.spawn("log sweeper", sweeper.run(soft));
    }
}

fn api_state(
    plan: &Installation,
    catalog: &Catalog,
    nudges: &Nudges,
    ids: IdSource,
) -> Result<yard_server::AppState, StoreError> {
    let (runtimes, rates) = (catalog.runtimes(), catalog.rates());
    let (nudges, ids) = (nudges.clone(), Mutex::new(ids));
    let keys = HttpKeys::new().map_err(StoreError::Unavailable)?;
    let access = Access::new(plan.store.clone(), plan.access.clone(), Arc::new(keys));
    Ok(yard_server::AppState {
        access: Arc::new(access),
        store: plan.store.clone(),
        logs: plan.logs.clone(),
        driver: Arc::new(move |id| runtimes.borrow().get(id).map(|runtime| runtime.driver.clone())),
        read_catalog: plan.read_catalog.clone(),
        submit_rate: Arc::new(move |team| rates.take(team)),
        spill: plan.spill.clone(),
        admission: catalog.receiver(),
        limits: Arc::new(plan.limits.clone()),
        defaults: Arc::new(plan.defaults.clone()),
        explainer: Arc::new(Explainer::new(plan.store.clone(), plan.scheduler, plan.explain)),
        nudge: Arc::new(move || {
            nudges.scheduler();
            nudges.all_dispatchers();
        }),
        new_id: Arc::new(move || ids.lock().unwrap_or_else(PoisonError::into_inner).next_id()),
        metrics: plan.metrics.clone(),
        ray: Arc::new(plan.ray.clone()),
        config: Arc::new(plan.server.clone()),
        shutdown: CancellationToken::new(),
    })
}

async fn serve_api(listener: TcpListener, state: yard_server::AppState, soft: CancellationToken) {
    if let Err(error) = yard_server::serve(listener, state, soft).await {
        warn!(%error, "the API stopped");
    }
}
