//! Memory: what a process of its own takes, idle with every role, and with 100,000 running jobs on its boards.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use yard::config::{LogConfig, LogFormat};
use yard_ports::Inbox;
use yard_store_mysql::MySqlOptions;

use crate::loops::wait_until_dispatching;
use crate::report::{Detail, Finding, Target};
use crate::running::{cluster, fill, running};
use crate::whole::{TestQueue, Whole};
use crate::world::{World, limits};
use crate::{Plan, Result};

/// Longest wait for a process to say something.
const LONGEST: Duration = Duration::from_mins(2);

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
    let idle = Process::start(plan, world)?.measure(plan, world).await?;
    fill(world, plan.pick(1_000, 100), plan.pick(99, 4)).await?;
    let jobs = running(world).await?;
    let busy = Process::start(plan, world)?.measure(plan, world).await?;
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

/// The process that is measured: this program, as [`child`].
struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(plan: &Plan, world: &World) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("memory-child").env(DATABASE, &world.db.url).kill_on_drop(true);
        if let Some(sqs) = &plan.sqs {
            command.arg("--sqs").arg(sqs);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let out = child.stdout.take().ok_or("the process has no output")?;
        Ok(Self { child, lines: BufReader::new(out).lines() })
    }

    /// Waits until the process says `word`.
    async fn says(&mut self, word: &str) -> Result<()> {
        let line = tokio::time::timeout(LONGEST, self.lines.next_line()).await??;
        if line.as_deref() == Some(word) { Ok(()) } else { Err(format!("not {word:?}, but {line:?}").into()) }
    }

    /// `VmRSS` or `VmHWM` in megabytes.
    fn memory(&self, field: &str) -> Result<f64> {
        let path = PathBuf::from(format!("/proc/{}/status", self.child.id().ok_or("the process has ended")?));
        let text = std::fs::read_to_string(path)?;
        let line =
            text.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':')).ok_or("no such field")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1_024.0 / 1e6)
    }

    async fn measure(mut self, plan: &Plan, world: &World) -> Result<Memory> {
        self.says("empty").await?;
        let empty = self.memory("VmRSS")?;
        self.go_on().await?;
        self.says("driver").await?;
        let driver = self.memory("VmRSS")? - empty;
        self.go_on().await?;
        self.says("started").await?;
        wait_until_dispatching(world).await?;
        // Long enough for renewals, reports, sweeps, an audit and a purge.
        tokio::time::sleep(Duration::from_secs(plan.pick(30, 3) as u64)).await;
        let memory = Memory { empty, driver, settled: self.memory("VmRSS")?, peak: self.memory("VmHWM")? };
        self.go_on().await?;
        drop(self.child.stdin.take());
        let ended = tokio::time::timeout(LONGEST, self.child.wait()).await??;
        if ended.success() { Ok(memory) } else { Err(format!("the measured process: {ended}").into()) }
    }

    async fn go_on(&mut self) -> Result<()> {
        let input = self.child.stdin.as_mut().ok_or("the process has no input")?;
        input.write_all(b".").await?;
        Ok(input.flush().await?)
    }
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

async fn say_and_wait(word: &str) -> Result<()> {
    println!("{word}");
    let read = || std::io::Read::read_exact(&mut std::io::stdin(), &mut [0]);
    Ok(tokio::task::spawn_blocking(read).await??)
}
