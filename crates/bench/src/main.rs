//! Benchmarks: our figure beside a floor measured in the same run, as a ratio (docs/benchmarks.md).
//!
//! | file | subcommand: what is measured |
//! |---|---|
//! | [`intake`] | messages → receipts, jobs, history |
//! | [`life`] | queued → claimed → placed → launched → succeeded |
//! | [`claim`] | the cost of a claim under ten thousand and a million queued jobs |
//! | [`leases`] | renewing and taking over 100,000 running jobs |
//! | [`latency`] | submission → launch call on an idle system |
//! | [`plan`] | one pass of the planner over 100,000 queued jobs |
//! | [`plan::explain`] | why one job of 100,000 waits, beside one pass |
//! | [`quota`] | many queues with little quota each: the shape of Kueue's large test |
//! | [`api`] | reads of a job and bulk submissions over HTTP |
//! | [`events`] | an event in thousands of open streams |
//! | [`kubernetes`] | launches on a real API server, and what watching many RayJobs, or many nodes and pods, takes |
//! | [`memory`] | what an idle process takes, and one with 100,000 running jobs |
//!
//! The rest: [`world`] is the installation that is measured, [`loops`] runs the product's loops on it, [`whole`]
//! a whole process; [`fill`] and [`running`] fill it with many jobs; [`database`] and [`rows`] are for plain SQL; [`meter`], [`stats`] and
//! [`report`] for figures, [`process`] for what a process takes.

mod api;
mod claim;
mod database;
mod events;
mod fill;
mod intake;
mod kubernetes;
mod latency;
mod leases;
mod life;
mod loops;
mod memory;
mod meter;
mod plan;
mod process;
mod quota;
mod report;
mod rows;
mod running;
mod stats;
mod whole;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde_json::{Value, json};

use crate::database::Scratch;
use crate::meter::Meter;
use crate::report::{Finding, Report};

/// As in the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Why a benchmark could not be carried out. A target that is not reached is no failure.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
/// Of this program.
pub type Result<T> = std::result::Result<T, Failure>;

/// Measures Switchyard on a MariaDB server and shows each figure beside its floor.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// The server; a database of its own is made there for each benchmark and removed again.
    #[arg(long, global = true, env = "YARD_TEST_MARIADB_URL", hide_env_values = true)]
    url: Option<String>,
    /// An SQS-compatible server that takes any credentials; without it, what needs a queue is left out.
    #[arg(long, global = true, env = "YARD_TEST_SQS_ENDPOINT")]
    sqs: Option<String>,
    /// A small run that shows that everything works; its figures mean nothing.
    #[arg(long, global = true)]
    quick: bool,
    /// Rounds of ours and floor, of which the medians are shown.
    #[arg(long, global = true)]
    rounds: Option<usize>,
    /// Where to write the JSON; without it, it is printed after the table.
    #[arg(long, global = true)]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
enum Command {
    /// All of them.
    All,
    /// Messages to receipts, jobs and history.
    Intake,
    /// Queued jobs to succeeded ones.
    Life,
    /// What a claim costs with ten thousand and with a million queued jobs.
    Claim,
    /// Renewals and takeover with 100,000 running jobs.
    Leases,
    /// From a submission to its launch call, on an idle system.
    Latency,
    /// One pass of the planner.
    Plan,
    /// Why one job of many waits, and what would change it.
    Explain,
    /// Fifty thousand jobs of a thousand teams with little quota each.
    Quota,
    /// Reads and bulk submissions over HTTP.
    Api,
    /// An event in two thousand open streams.
    Events,
    /// Launches on a real Kubernetes API server, and what watching many RayJobs, or many nodes and pods, takes
    /// (YARD_TEST_KUBECONFIG).
    Kubernetes(kubernetes::Options),
    /// What a process takes: idle, and with 100,000 running jobs.
    Memory,
    #[command(hide = true)]
    MemoryChild,
    #[command(hide = true)]
    WatchChild(kubernetes::Watch),
}

/// How to measure.
pub struct Plan {
    /// The server.
    pub url: String,
    /// An SQS-compatible server.
    pub sqs: Option<String>,
    /// Whether figures matter.
    pub quick: bool,
    /// Rounds of ours and floor, at least one.
    pub rounds: usize,
    /// The product's own metrics.
    pub meter: Meter,
}

impl Plan {
    /// A size: of the real run, or of the quick one.
    pub fn pick(&self, real: usize, quick: usize) -> usize {
        if self.quick { quick } else { real }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match Box::pin(run(Cli::parse())).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<()> {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return Err("a TLS provider is installed already".into());
    }
    match cli.command {
        Command::MemoryChild => {
            let database = std::env::var(memory::DATABASE)?;
            return memory::child(&database, cli.sqs.as_deref()).await;
        }
        Command::WatchChild(watch) => return kubernetes::child(watch).await,
        _ => {}
    }
    let url = cli.url.ok_or("give --url, or YARD_TEST_MARIADB_URL (tests/env/up.py --mariadb sets it)")?;
    let rounds = cli.rounds.unwrap_or(if cli.quick { 1 } else { 5 }).max(1);
    let plan = Plan { url, sqs: cli.sqs, quick: cli.quick, rounds, meter: Meter::install()? };
    let mut environment = environment(&plan).await?;
    let findings = Box::pin(measure(cli.command, &plan)).await?;
    environment["load_at_end"] = load();
    let report = Report { environment, findings };
    print!("{}", report.text());
    let json = serde_json::to_string_pretty(&report.json())?;
    match cli.json {
        Some(path) => std::fs::write(path, json + "\n")?,
        None => println!("\n{json}"),
    }
    Ok(())
}

async fn measure(command: Command, plan: &Plan) -> Result<Vec<Finding>> {
    let wanted = |c: Command| command == Command::All || command == c;
    let mut findings = Vec::new();
    if wanted(Command::Intake) {
        findings.extend(progress("intake", intake::run(plan)).await?);
    }
    if wanted(Command::Life) {
        findings.extend(progress("life", life::run(plan)).await?);
    }
    if wanted(Command::Claim) {
        findings.extend(progress("claim", claim::run(plan)).await?);
    }
    if wanted(Command::Leases) {
        findings.extend(progress("leases", leases::run(plan)).await?);
    }
    if wanted(Command::Latency) {
        findings.extend(progress("latency", Box::pin(latency::run(plan))).await?);
    }
    if wanted(Command::Plan) {
        findings.extend(progress("plan", async { plan::run(plan) }).await?);
    }
    if wanted(Command::Explain) {
        findings.extend(progress("explain", async { plan::explain::run(plan) }).await?);
    }
    if wanted(Command::Quota) {
        findings.extend(progress("quota", Box::pin(quota::run(plan))).await?);
    }
    if wanted(Command::Api) {
        findings.extend(progress("api", Box::pin(api::run(plan))).await?);
    }
    if wanted(Command::Events) {
        findings.extend(progress("events", Box::pin(events::run(plan))).await?);
    }
    let kubernetes = match command {
        Command::All => Some(kubernetes::Options::ALL),
        Command::Kubernetes(options) => Some(options),
        _ => None,
    };
    if let Some(options) = kubernetes {
        findings.extend(progress("kubernetes", Box::pin(kubernetes::run(plan, options))).await?);
    }
    if wanted(Command::Memory) {
        findings.extend(progress("memory", memory::run(plan)).await?);
    }
    Ok(findings)
}

/// Says on the error channel what is going on: a whole run takes minutes.
async fn progress<T>(name: &str, bench: impl Future<Output = Result<T>>) -> Result<T> {
    let began = std::time::Instant::now();
    eprintln!("{name} …");
    let result = bench.await.map_err(|error| format!("{name}: {error}"))?;
    eprintln!("{name}: {:.0} s", began.elapsed().as_secs_f64());
    Ok(result)
}

/// What the figures depend on.
async fn environment(plan: &Plan) -> Result<Value> {
    let scratch = Scratch::create(&plan.url, 1).await?;
    let database = scratch.environment().await;
    scratch.drop_database().await?;
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    Ok(json!({
        "database": database?, "cpus": cpus, "quick": plan.quick, "rounds": plan.rounds,
        "optimised": !cfg!(debug_assertions), "load_at_start": load(),
    }))
}

/// The machine's load average of the last minute; null where the system doesn't tell.
fn load() -> Value {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = text.split_whitespace().next().and_then(|first| first.parse::<f64>().ok());
    load.map_or(Value::Null, Value::from)
}
