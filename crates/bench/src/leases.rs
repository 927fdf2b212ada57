//! Leases: what renewing costs a dispatcher with 100,000 running jobs, and how soon another has taken them over
//! after a crash.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sqlx::Row;
use yard_domain::LeaseScope;
use yard_engine::settings::DispatcherSettings;
use yard_testkit::null_driver::NullDriver;

use crate::loops::{Loops, Roles};
use crate::report::{Detail, Finding, Target};
use crate::running::{cluster, fill, only, running};
use crate::stats::{median, millis};
use crate::world::World;
use crate::{Plan, Result};

/// Renewals counted.
const RENEWALS: usize = 50;
/// Longest that a takeover may take.
const LONGEST: Duration = Duration::from_mins(3);

/// Runs the benchmark.
pub async fn run(plan: &Plan) -> Result<Vec<Finding>> {
    let world = World::create(&plan.url, 1).await?;
    let findings = measure(plan, &world).await;
    world.remove().await?;
    findings
}

async fn measure(plan: &Plan, world: &World) -> Result<Vec<Finding>> {
    fill(world, plan.pick(1_000, 100), plan.pick(99, 4)).await?;
    let jobs = running(world).await?;
    let renewals = renewals(world, jobs).await?;
    let driver = cluster(&world.db.pool, world.instance).await?;
    let mut findings = vec![renewals, period(plan, world, &driver, jobs).await?];
    findings.push(takeovers(plan, world, &driver, jobs).await?);
    let counters = driver.counters();
    if counters.stop_calls > 0 || counters.launch_calls != jobs as u64 || running(world).await? != jobs {
        return Err(format!("the takeovers were not without traces: {counters:?}").into());
    }
    Ok(findings)
}

/// The server's count of rows that were updated.
async fn updates(world: &World) -> Result<i64> {
    world.db.status("Handler_update").await
}

/// The lease that covers all jobs of the cluster, renewed by itself: nothing else writes meanwhile.
async fn renewals(world: &World, jobs: usize) -> Result<Finding> {
    let (scope, ttl) = (LeaseScope::Dispatch(only(world)?.clone()), DispatcherSettings::default().lease.ttl);
    let mut lease = world.store.acquire_lease(&scope, "count", ttl).await?.ok_or("the lease is taken")?;
    let (before, mut took) = (updates(world).await?, Vec::new());
    for _ in 0..RENEWALS {
        let began = Instant::now();
        let renewed = world.store.renew_leases(std::slice::from_ref(&lease), ttl).await?;
        took.push(millis(began.elapsed()));
        lease = renewed.into_iter().next().flatten().ok_or("the lease was lost")?;
    }
    let rows = (updates(world).await? - before) as f64 / RENEWALS as f64;
    world.store.release_lease(&lease).await?;
    let what = format!("row writes to renew the lease of {jobs} running jobs");
    let details = vec![Detail::new("a renewal, its commit included", median(&took), "ms")];
    Ok(Finding::alone("leases", what, rows, "rows").target(Target::AtMost(1.0)).details(details))
}

fn dispatch(world: &World, driver: &NullDriver, holder: &str) -> Result<Loops> {
    let drivers = HashMap::from([(only(world)?.clone(), driver.clone())]);
    let roles = Roles { scheduler: None, dispatcher: Some((DispatcherSettings::default(), drivers)) };
    Ok(Loops::start(&world.store, world.instance, holder, roles))
}

/// What a whole dispatching process writes in a period: all that it does while its jobs run on.
async fn period(plan: &Plan, world: &World, driver: &NullDriver, jobs: usize) -> Result<Finding> {
    let loops = dispatch(world, driver, "steady")?;
    seen_by(world, "steady").await?;
    let (rows, before) = (updates(world).await?, plan.meter.read());
    tokio::time::sleep(Duration::from_secs(plan.pick(20, 6) as u64)).await;
    let (rows, seen) = (updates(world).await? - rows, plan.meter.read().since(&before));
    loops.stop().await;
    let count = |verb: &str| {
        let label = format!("name={verb}");
        seen.of("yard_store_tx_seconds").filter(|(l, _)| *l == label).map(|(_, t)| t.count).sum::<u64>()
            as f64
    };
    let (renewals, reports) = (count("renew_leases"), count("report_cluster"));
    let per_period = (rows as f64 - reports) / renewals;
    let what = format!("row writes a period of a process that dispatches them ({jobs} jobs, 2 leases)");
    let note = "its dispatch lease and its presence lease, in one statement; reports of the cluster's health not counted";
    let details = vec![
        Detail::new("row writes in all", rows as f64, "rows"),
        Detail::new("renewals", renewals, "times"),
        Detail::new("reports of the cluster's health, one row each", reports, "times"),
    ];
    Ok(Finding::alone("leases", what, per_period, "rows").details(details).note(note))
}

/// A dispatcher as the store shows it, in microseconds of the database's clock.
struct Seen {
    acquired_us: i64,
    /// When it first reported that it has compared its board with the cluster's complete list.
    compared_us: i64,
}

/// Waits until `holder` has the cluster and has compared what is on it with what should be. Before it has, it
/// reports no health.
async fn seen_by(world: &World, holder: &str) -> Result<Seen> {
    let sql = "SELECT l.acquired_us, c.last_seen_us FROM leases l \
               JOIN clusters c ON l.scope = CONCAT('dispatch:', c.id) \
               WHERE l.holder = ? AND c.health = 'ready' AND c.last_seen_us >= l.acquired_us";
    let began = Instant::now();
    while began.elapsed() < LONGEST {
        if let Some(row) = sqlx::query(sql).bind(holder).fetch_optional(&world.db.pool).await? {
            return Ok(Seen { acquired_us: row.try_get(0)?, compared_us: row.try_get(1)? });
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Err(format!("{holder} has not taken the cluster over in {LONGEST:?}").into())
}

/// One process after the other crashes; the next one takes over.
async fn takeovers(plan: &Plan, world: &World, driver: &NullDriver, jobs: usize) -> Result<Finding> {
    let mut loops = dispatch(world, driver, "p0")?;
    seen_by(world, "p0").await?;
    let before = plan.meter.read();
    let (mut free, mut total, mut work) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=plan.rounds.min(3) {
        let old = expires(world).await?;
        let crashed = Instant::now();
        loops.crash().await;
        // The last renewal may have been on its way.
        let old = expires(world).await?.max(old);
        let holder = format!("p{round}");
        loops = dispatch(world, driver, &holder)?;
        let seen = seen_by(world, &holder).await?;
        total.push(crashed.elapsed().as_secs_f64());
        free.push((seen.compared_us - old) as f64 / 1e6);
        work.push((seen.compared_us - seen.acquired_us) as f64 / 1e6);
        on_board(plan, jobs).await?;
    }
    loops.stop().await;
    let loading = plan.meter.read().since(&before);
    let loads: Vec<f64> =
        loading.of("yard_takeover_seconds").map(|(_, t)| t.sum / t.count.max(1) as f64).collect();
    let details = vec![
        Detail::new("of it, from having the lease on: load, observe, compare, report", median(&work), "s"),
        Detail::new("of that, loading the board from the store", median(&loads), "s"),
        Detail::new("from the crash on: what was left of the old lease included", median(&total), "s"),
    ];
    let what = format!("takeover of {jobs} running jobs, from the end of the dead process's lease on");
    let note = format!("median of {}; lease of {:?}", free.len(), DispatcherSettings::default().lease.ttl);
    Ok(Finding::alone("leases", what, median(&free), "s")
        .target(Target::AtMost(10.0))
        .details(details)
        .note(note))
}

async fn expires(world: &World) -> Result<i64> {
    world.db.number("SELECT expires_us FROM leases WHERE scope LIKE 'dispatch:%'").await
}

/// The dispatcher itself says how much it has on its board.
async fn on_board(plan: &Plan, jobs: usize) -> Result<()> {
    let began = Instant::now();
    loop {
        let open = plan.meter.read().total("yard_open_attempts");
        if open.to_bits() == (jobs as f64).to_bits() {
            return Ok(());
        }
        if began.elapsed() > Duration::from_secs(10) {
            return Err(format!("{open} attempts on the board, not {jobs}").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
