//! The product's own loops over a store: scheduler, sweeper, dispatchers, and the keeper of their leases.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use yard_domain::{ClusterId, InstanceId};
use yard_engine::Nudges;
use yard_engine::archive::LogKeeping;
use yard_engine::catalog::Runtimes;
use yard_engine::dispatch::{ClusterRuntime, Dispatchers, Shared};
use yard_engine::keeper::Keeper;
use yard_engine::placement::Scheduler;
use yard_engine::settings::{DispatcherSettings, LaunchLimits, LogSettings, SchedulerSettings};
use yard_engine::sweep::Sweeper;
use yard_ports::Store;
use yard_testkit::memory_archive::MemoryArchive;
use yard_testkit::null_driver::{NullConfig, NullDriver};

use crate::Result;
use crate::world::World;

/// Launches begun and not yet answered, at most, where nothing is to hold launches back.
pub const IN_FLIGHT: u32 = 512;

/// Logs are kept as in an installation, but in memory: what a disk adds is not ours.
pub fn logs() -> LogKeeping {
    LogKeeping { archive: Arc::new(MemoryArchive::default()), settings: LogSettings::default() }
}

/// A cluster in memory that may be driven as fast as it answers.
pub fn runtime(driver: &NullDriver) -> ClusterRuntime {
    ClusterRuntime {
        driver: Arc::new(driver.clone()),
        launches: LaunchLimits { rate_per_s: 1e9, burst: u32::MAX, in_flight_max: IN_FLIGHT },
        reads_capacity: false,
        jobs_max: 10_000_000,
        resync: Duration::from_mins(5),
    }
}

/// A cluster in memory for each of the world's clusters.
pub fn drivers(world: &World, config: &NullConfig) -> HashMap<ClusterId, NullDriver> {
    world.clusters.iter().map(|id| (id.clone(), NullDriver::new(config.clone()))).collect()
}

/// Until every cluster has a dispatcher that has seen it.
pub async fn wait_until_dispatching(world: &World) -> Result<()> {
    let sql = "SELECT COUNT(*) FROM clusters c JOIN leases l ON l.scope = CONCAT('dispatch:', c.id) \
               WHERE c.health = 'ready' AND c.last_seen_us >= l.acquired_us";
    let began = Instant::now();
    while usize::try_from(world.db.number(sql).await?)? < world.clusters.len() {
        if began.elapsed() > Duration::from_mins(1) {
            return Err("not every cluster has got a dispatcher".into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Which loops run.
pub struct Roles {
    /// Scheduler and sweeper.
    pub scheduler: Option<SchedulerSettings>,
    /// Dispatchers of these clusters.
    pub dispatcher: Option<(DispatcherSettings, HashMap<ClusterId, NullDriver>)>,
}

/// Running loops.
pub struct Loops {
    /// To wake them.
    pub nudges: Nudges,
    soft: CancellationToken,
    renew: CancellationToken,
    working: JoinSet<()>,
    keeping: JoinSet<()>,
}

impl Loops {
    /// Starts them as one process called `holder`.
    pub fn start(store: &Arc<dyn Store>, instance: InstanceId, holder: &str, roles: Roles) -> Self {
        let dispatcher = roles.dispatcher.map(|(settings, drivers)| {
            (settings, drivers.iter().map(|(id, driver)| (id.clone(), runtime(driver))).collect())
        });
        Self::start_all(store, instance, holder, roles.scheduler, dispatcher)
    }

    /// The same on clusters of any kind.
    pub fn start_on(
        store: &Arc<dyn Store>,
        instance: InstanceId,
        holder: &str,
        scheduler: SchedulerSettings,
        dispatcher: (DispatcherSettings, Runtimes),
    ) -> Self {
        Self::start_all(store, instance, holder, Some(scheduler), Some(dispatcher))
    }

    fn start_all(
        store: &Arc<dyn Store>,
        instance: InstanceId,
        holder: &str,
        scheduler: Option<SchedulerSettings>,
        dispatcher: Option<(DispatcherSettings, Runtimes)>,
    ) -> Self {
        let keeper = Keeper::new(store.clone(), holder);
        let nudges = Nudges::default();
        let (soft, renew) = (CancellationToken::new(), CancellationToken::new());
        let (mut working, mut keeping) = (JoinSet::new(), JoinSet::new());
        keeping.spawn(keeper.clone().run(renew.clone()));
        if let Some(settings) = scheduler {
            let scheduler = Scheduler::new(store.clone(), keeper.clone(), nudges.clone(), settings, 1);
            working.spawn(scheduler.run(soft.clone()));
            let sweeper = Sweeper {
                store: store.clone(),
                keeper: keeper.clone(),
                nudges: nudges.clone(),
                settings,
                retry: DispatcherSettings::default().retry,
            };
            working.spawn(sweeper.run(soft.clone()));
        }
        if let Some((settings, runtimes)) = dispatcher {
            let shared = Shared {
                store: store.clone(),
                keeper,
                nudges: nudges.clone(),
                settings,
                instance,
                logs: Some(logs()),
            };
            working
                .spawn(Dispatchers::new(shared, yard_engine::catalog::fixed(runtimes), 1).run(soft.clone()));
        }
        Self { nudges, soft, renew, working, keeping }
    }

    /// Stops them as a process that is asked to: leases are given back.
    pub async fn stop(mut self) {
        self.soft.cancel();
        while self.working.join_next().await.is_some() {}
        self.renew.cancel();
        while self.keeping.join_next().await.is_some() {}
    }

    /// Ends them as a process that is killed: nothing is given back.
    pub async fn crash(mut self) {
        self.keeping.shutdown().await;
        self.working.shutdown().await;
    }
}
