//! Launches through a dispatcher, and how soon a change of status is committed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use kube::ResourceExt;
use kube::api::ListParams;
use kube::runtime::watcher;
use yard_domain::RemoteName;
use yard_engine::dispatch::ClusterRuntime;
use yard_engine::settings::{DispatcherSettings, LaunchLimits, SchedulerSettings};

use super::place::{IN_FLIGHT, Place, raw};
use super::plain_watch::PlainWatch;
use super::{wait, wait_fast};
use crate::loops::Loops;
use crate::process::family_cpu_s;
use crate::report::{Detail, Finding, Target};
use crate::running::only;
use crate::stats::{median, millis, quantile, rate};
use crate::world::{World, bodies};
use crate::{Plan, Result};

/// What the rounds brought.
#[derive(Default)]
struct Rounds {
    /// Launches per second: ours and the floor.
    rates: Vec<(f64, f64)>,
    /// Milliseconds from the answer to the committed row: ours and the floor, the medians of each round.
    commits: Vec<(f64, f64)>,
    /// The same of all rounds, from the call that writes the status.
    called: Vec<f64>,
    all: Vec<f64>,
    last: Vec<Detail>,
}

/// Runs this part.
pub async fn run(plan: &Plan, kubeconfig: &Path) -> Result<Vec<Finding>> {
    let mut rounds = Rounds::default();
    for _ in 0..plan.rounds {
        let place = Place::create(kubeconfig).await?;
        let world = World::create(&plan.url, 1).await?;
        let measured = round(plan, &world, &place, &mut rounds).await;
        world.remove().await?;
        measured?;
        place.remove().await?;
    }
    let (n, changes) = sizes(plan);
    let what = format!("{n} queued jobs → RayJobs, one dispatcher, {IN_FLIGHT} calls at once");
    let launched = Finding::beside("kubernetes", what, "launches/s", rounds.rates)
        .target(Target::AtLeast(100.0))
        .details(rounds.last)
        .note("floor: the same RayJobs made by the driver alone; the schedulers' passes are in ours");
    let what = format!("RayJob's status written → row committed, p50 of {changes}");
    let committed = Finding::beside("kubernetes", what, "ms", rounds.commits)
        .target(Target::AtMost(50.0))
        .details(vec![
            Detail::new("p99", quantile(&rounds.all, 0.99), "ms"),
            Detail::new(
                "p50 from the call that writes it, instead of its answer",
                median(&rounds.called),
                "ms",
            ),
        ])
        .note("floor: the same change in a plain watch, and the commit of one row after it");
    Ok(vec![launched, committed])
}

/// Launches, and changes of status.
fn sizes(plan: &Plan) -> (usize, usize) {
    (plan.pick(2_000, 60), plan.pick(200, 10))
}

async fn round(plan: &Plan, world: &World, place: &Place, rounds: &mut Rounds) -> Result<()> {
    let (n, _) = sizes(plan);
    let floor = raw(place, n).await?;
    place.empty().await?;
    world.accept(&bodies(n, "kube"), 200).await?;
    let runtime = ClusterRuntime {
        driver: place.driver()?,
        launches: LaunchLimits { rate_per_s: 1e9, burst: u32::MAX, in_flight_max: u32::try_from(IN_FLIGHT)? },
        reads_capacity: false,
        jobs_max: 1_000_000,
        resync: Duration::from_mins(5),
    };
    let (metrics, cpu) = (plan.meter.read(), family_cpu_s()?);
    let began = Instant::now();
    let loops = Loops::start_on(
        &world.store,
        world.instance,
        "kube",
        SchedulerSettings::default(),
        (DispatcherSettings::default(), [(only(world)?.clone(), runtime)].into()),
    );
    wait(async || Ok(place.count().await? >= n)).await?;
    rounds.rates.push((rate(n, began.elapsed()), floor));
    let metrics = plan.meter.read().since(&metrics);
    rounds.last = shares(&cpu, &family_cpu_s()?, n);
    let calls = metrics.of("yard_kube_call_seconds").filter(|(_, tally)| tally.count > 0);
    rounds.last.extend(calls.map(|(labels, tally)| {
        let what = format!("{labels}: {} calls, each", tally.count);
        Detail::new(what, tally.sum / tally.count as f64 * 1e3, "ms")
    }));
    rounds.last.extend(metrics.transactions());
    let committed = commits(plan, world, place, rounds).await;
    loops.stop().await;
    committed
}

/// Processor time per launch, by process.
fn shares(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>, n: usize) -> Vec<Detail> {
    let more = after.iter().map(|(name, s)| (name, s - before.get(name).unwrap_or(&0.0)));
    let share = |(name, s): (&String, f64)| {
        Detail::new(format!("of a core per launch: {name}"), s * 1e3 / n as f64, "ms")
    };
    more.filter(|(_, s)| *s * 1e3 >= n as f64 / 10.0).map(share).collect()
}

/// From a change of status to the committed row, one after the other.
async fn commits(plan: &Plan, world: &World, place: &Place, rounds: &mut Rounds) -> Result<()> {
    world.db.run("CREATE TABLE floor (id BIGINT AUTO_INCREMENT PRIMARY KEY, at BIGINT)").await?;
    let (_, changes) = sizes(plan);
    let names = place.jobs().list_metadata(&ListParams::default().limit(500)).await?;
    let mut plain = PlainWatch::begin(place.jobs(), watcher::Config::default()).await?;
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for job in names.items.iter().take(changes) {
        let name = job.name_any();
        let (id, _) = RemoteName::parse(&name).ok_or("a RayJob of somebody else")?;
        let sql = format!("SELECT COUNT(*) FROM jobs WHERE id = x'{}' AND state = 'running'", id.0.simple());
        let called = Instant::now();
        place.set_running(&name).await?;
        let written = Instant::now();
        wait_fast(async || Ok(world.db.number(&sql).await? == 1)).await?;
        ours.push(millis(written.elapsed()));
        rounds.called.push(millis(called.elapsed()));
        let seen = plain.until(&name).await?.saturating_duration_since(written);
        let begun = Instant::now();
        world.db.run("INSERT INTO floor (at) VALUES (1)").await?;
        floor.push(millis(seen + begun.elapsed()));
    }
    rounds.commits.push((median(&ours), median(&floor)));
    rounds.all.extend(ours);
    Ok(())
}
