//! Memory: what a process of its own takes, idle with every role, and with 100,000 running jobs on its boards.

use std::sync::Arc;
use std::time::Duration;

use yard::config::{LogConfig, LogFormat};
use yard_ports::Inbox;
use yard_store_mysql::MySqlOptions;

use crate::loops::wait_until_dispatching;
use crate::process::{Process, say_and_wait};
use crate::report::{Detail, Finding, Target};
use crate::running::{cluster, fill, running};
use crate::whole::{TestQueue, Whole};
use crate::world::{World, limits};
use crate::{Plan, Result};

/// Where the measured process finds its database: not among its arguments, since the URL has a password.
pub const DATABASE: &str = "YARD_BENCH_DATABASE";

/// Runs the benchmark.
pub async fn run(plan: &Plan) -> Result<Vec<Finding>> {
    let world = World::create(&plan.url, 1).await?;
    let findings = measure(plan, &world).await;
    world.remove().await?;
    findings
}

async fn measure(plan: &Plan, world: &World) -> Result<Vec<Finding>> {
    let idle = process(plan, world).await?;
    fill(world, plan.pick(1_000, 100), plan.pick(99, 4)).await?;
    let jobs = running(world).await?;
    let busy = process(plan, world).await?;
    let queue =
        if plan.sqs.is_some() { "one SQS queue" } else { "no queue: YARD_TEST_SQS_ENDPOINT is not set" };
    let note =
        format!("all roles in one process, {queue}, a cluster in memory; resident memory of the process");
    let finding = |what: String, m: &Memory, target| {
        let details = vec![
            Detail::new("its highest", m.peak, "MB"),
            Detail::new("before any loop was started, the store connected", m.empty, "MB"),
            Detail::new("what the cluster in memory holds, which a real driver would not", m.driver, "MB"),
        ];
        let finding = Finding::alone("memory", what, m.settled, "MB").target(Target::AtMost(target));
        finding.details(details).note(&note)
    };
    Ok(vec![
        finding("idle".to_owned(), &idle, 40.0),
        finding(format!("{jobs} running jobs on its board, taken over"), &busy, 300.0),
    ])
}

/// Megabytes (10⁶ bytes).
struct Memory {
    empty: f64,
    driver: f64,
    settled: f64,
    peak: f64,
}

/// Measures this program, as [`child`].
async fn process(plan: &Plan, world: &World) -> Result<Memory> {
    let mut arguments = vec!["memory-child"];
    if let Some(sqs) = &plan.sqs {
        arguments.extend(["--sqs", sqs]);
    }
    let mut process = Process::start(&arguments, &[(DATABASE, &world.db.url)])?;
    process.says("empty").await?;
    let empty = process.resident()?;
    process.go_on().await?;
    process.says("driver").await?;
    let driver = process.resident()? - empty;
    process.go_on().await?;
    process.says("started").await?;
    wait_until_dispatching(world).await?;
    // Long enough for renewals, reports, sweeps, an audit and a purge.
    tokio::time::sleep(Duration::from_secs(plan.pick(30, 3) as u64)).await;
    let memory = Memory { empty, driver, settled: process.resident()?, peak: process.peak()? };
    process.end().await?;
    Ok(memory)
}

/// The measured process: a whole process on the database of the one that measures. It says where it is, and goes on
/// when it is told.
pub async fn child(database: &str, sqs: Option<&str>) -> Result<()> {
    let metrics = yard::telemetry::init(&LogConfig { format: LogFormat::Text, filter: "info".to_owned() })?;
    let options = MySqlOptions::new(limits());
    let pool = sqlx::mysql::MySqlPoolOptions::new().max_connections(1).connect(database).await?;
    let store = yard_store_mysql::connect(database, &options).await?;
    say_and_wait("empty").await?;
    let driver = cluster(&pool, store.instance().await?).await?;
    pool.close().await;
    say_and_wait("driver").await?;
    let inbox: Option<Arc<dyn Inbox>> = match sqs {
        None => None,
        Some(server) => Some(Arc::new(TestQueue::create(server).await?.inbox)),
    };
    let drivers = [("cluster-0".parse()?, driver)].into();
    let whole = Whole::start(store, &drivers, inbox, metrics).await?;
    say_and_wait("started").await?;
    whole.stop().await
}
