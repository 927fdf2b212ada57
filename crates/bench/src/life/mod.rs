//! The life of a job: queued → claimed → placed → launched → succeeded, by the product's own loops on clusters in
//! memory that end every job at once, beside the same row writes in plain SQL ([`floor`]).

mod floor;

use std::time::{Duration, Instant};

use yard_domain::ClusterSwitch;
use yard_engine::settings::{DispatcherSettings, SchedulerSettings};
use yard_testkit::null_driver::{NullConfig, NullDriver};

use crate::loops::{IN_FLIGHT, Loops, Roles, drivers, wait_until_dispatching};
use crate::report::{Detail, Finding, Target};
use crate::stats::{median, rate};
use crate::world::{World, bodies};
use crate::{Plan, Result};

/// Clusters, each with its dispatcher.
const CLUSTERS: usize = 4;
/// Tables that a round begins with empty, or fills anew.
const TABLES: [&str; 5] = ["receipts", "jobs", "history", "attempts", "wait_notes"];
/// Longest that a round may take.
const LONGEST: Duration = Duration::from_mins(10);

/// Runs the benchmark.
pub async fn run(plan: &Plan) -> Result<Vec<Finding>> {
    let world = World::create(&plan.url, CLUSTERS).await?;
    let findings = measure(plan, &world).await;
    world.remove().await?;
    findings
}

async fn measure(plan: &Plan, world: &World) -> Result<Vec<Finding>> {
    let jobs = plan.pick(20_000, 600);
    let (mut rounds, mut details) = (Vec::new(), Vec::new());
    // The round before the first is for caches and files to grow.
    for round in 0..=plan.rounds {
        prepare(world, jobs, round).await?;
        let before = plan.meter.read();
        let ours = ours(world, jobs).await?;
        details = plan.meter.read().since(&before).transactions();
        world.db.settle(Duration::from_secs(20)).await?;
        let floor = floor::run(world, CLUSTERS + 1).await?;
        world.db.settle(Duration::from_secs(20)).await?;
        if round > 0 {
            rounds.push((rate(jobs, ours), rate(jobs, floor)));
        }
    }
    let each = jobs as f64 / median(&rounds.iter().map(|r| r.0).collect::<Vec<_>>());
    details.insert(
        0,
        Detail::new("a round of ours; below, the store's transactions in the last round", each, "s"),
    );
    let note = format!(
        "{jobs} jobs of 15 teams in three shapes a round, one scheduler, {CLUSTERS} dispatchers, {IN_FLIGHT} launches \
         in flight each; floor: {} connections, batches as large as ours may be",
        CLUSTERS + 1
    );
    let what = "queued → succeeded, with all history";
    let beside = Finding::beside("life", what, "jobs/s", rounds.clone()).target(Target::RatioAtLeast(0.4));
    let ours = rounds.iter().map(|r| r.0).collect::<Vec<_>>();
    let alone = Finding::alone("life", "the same, in absolute numbers", median(&ours), "jobs/s");
    Ok(vec![beside.details(details).note(note), alone.target(Target::AtLeast(2_000.0))])
}

/// Fills the queue, and keeps a copy of it for the floor.
async fn prepare(world: &World, jobs: usize, round: usize) -> Result<()> {
    world.db.truncate(&TABLES).await?;
    world.accept(&bodies(jobs, &format!("r{round}")), 200).await?;
    floor::keep_queue(world).await?;
    for cluster in &world.clusters {
        world.store.switch_cluster(cluster, ClusterSwitch::Drained, "bench").await?;
    }
    world.db.settle(Duration::from_secs(20)).await?;
    Ok(())
}

/// From the moment that the clusters take jobs to the commit of the last end.
async fn ours(world: &World, jobs: usize) -> Result<Duration> {
    let drivers = drivers(world, &NullConfig::default());
    let roles = Roles {
        scheduler: Some(SchedulerSettings::default()),
        dispatcher: Some((DispatcherSettings::default(), drivers.clone())),
    };
    let loops = Loops::start(&world.store, world.instance, "bench", roles);
    wait_until_dispatching(world).await?;
    let began = Instant::now();
    for cluster in &world.clusters {
        world.store.switch_cluster(cluster, ClusterSwitch::Open, "bench").await?;
    }
    loops.nudges.scheduler();
    let started = || drivers.values().map(|d| d.counters().started).sum::<u64>();
    while started() < jobs as u64 && began.elapsed() < LONGEST {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    while ended(world).await? < jobs && began.elapsed() < LONGEST {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = began.elapsed();
    loops.stop().await;
    audited(world, drivers.values(), jobs).await?;
    Ok(took)
}

/// Every job has succeeded, launched once for each attempt, and the ledger is exact.
pub async fn audited(world: &World, drivers: impl Iterator<Item = &NullDriver>, jobs: usize) -> Result<()> {
    for driver in drivers {
        let counters = driver.counters();
        if !counters.doubled.is_empty() || !counters.overlapping.is_empty() {
            return Err(format!("jobs were launched twice: {counters:?}").into());
        }
    }
    let succeeded = world.db.number("SELECT COUNT(*) FROM jobs WHERE state = 'succeeded'").await?;
    if usize::try_from(succeeded)? != jobs {
        return Err(format!("{succeeded} of {jobs} jobs have succeeded").into());
    }
    match world.store.audit().await? {
        drift if drift.is_empty() => Ok(()),
        drift => Err(format!("the ledger has drifted: {drift:?}").into()),
    }
}

/// Ended jobs, counted in an index (clock 3 is 'ended at').
pub async fn ended(world: &World) -> Result<usize> {
    Ok(world
        .db
        .number("SELECT COUNT(*) FROM jobs FORCE INDEX (jobs_clock) WHERE clock_kind = 3")
        .await?
        .try_into()?)
}
