//! `yard dev`: the whole product in one process on one machine, with real clusters and a real queue.
//!
//! | file | what it holds |
//! |---|---|
//! | `folder.rs` | `.yard/`, which one process at a time uses |
//! | `python.rs` | the private Python environment, and what to do when it can't be had |
//! | `procs.rs`, `server.rs` | servers: start, find again after a crash, stop whole |
//! | `ministack.rs`, `rayhead.rs` | the queue server; Ray heads |
//! | `env.rs` | all of that together, or processes in their place |
//! | `plan.rs` | the configuration made up for it |
//! | `in_force.rs` | which catalog is in force, if another was applied since |
//! | `ui.rs` | what is shown meanwhile |
//! | `demo/` | `--demo`: a mixed batch, shown to its end and counted |
//!
//! Servers are in sessions of their own: Ctrl-C reaches only `yard`, which ends them in order; a `yard` that is
//! killed leaves them running, and the next one takes them over, so that their jobs go on.

mod demo;
mod env;
mod folder;
mod in_force;
mod ministack;
mod plan;
mod procs;
mod python;
mod rayhead;
mod server;
mod ui;

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use yard_engine::Ending;

pub use env::Clusters;

use crate::run;
use crate::serve::{Role, Running};
use crate::telemetry;
use demo::Demo;
use env::DevEnv;
use folder::Folder;
use in_force::InForce;
use ui::Ui;

/// `yard dev`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the API listens.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8920")]
    listen: SocketAddr,
    /// The folder that keeps everything.
    #[arg(long, value_name = "FOLDER", default_value = ".yard")]
    dir: PathBuf,
    /// The Python 3 to make the private environment with [default: the first fitting one on the PATH].
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
    /// What runs jobs.
    #[arg(long, value_enum, default_value = "auto")]
    clusters: Clusters,
    /// Send a mixed batch of submissions, show it to its end, count what was lost or doubled, and end: 0 if all is as
    /// it should be.
    #[arg(long)]
    demo: bool,
}

/// Exit codes beside 0: one for what stands in the way of a start, the shell's own for an interrupt, and one for an
/// end that was not clean.
const EXIT_SETUP: u8 = 2;
const EXIT_INTERRUPTED: u8 = 130;
const EXIT_UNCLEAN: u8 = 1;

/// Runs until a signal. Everything that it has started is ended before it returns.
pub async fn run(args: Args) -> ExitCode {
    match Box::pin(session(&args)).await {
        Ok(code) => code,
        // Last of all, so that it is what stands there in the end.
        Err(line) => {
            eprintln!("{line}");
            ExitCode::from(EXIT_SETUP)
        }
    }
}

/// The exit code, or one line that says what stands in the way.
async fn session(args: &Args) -> Result<ExitCode, String> {
    check_port(args.listen)?;
    let folder = Folder::open(&args.dir).map_err(|e| e.to_string())?;
    let ui = Ui::new();
    let result = match Box::pin(prepare(&folder, args, &ui)).await {
        Ok(Some(env)) => serve(&folder, &env, args, &ui).await,
        Ok(None) => Ok(ExitCode::from(EXIT_INTERRUPTED)),
        Err(line) => Err(line),
    };
    let step = ui.step("stop", "ending every server");
    env::stop(&folder).await.map_err(|line| format!("not everything could be stopped: {line}"))?;
    if result.is_ok() {
        step.done("nothing is left running; the next start finds everything as it was");
    }
    result
}

/// `None` if a signal came first.
async fn prepare(folder: &Folder, args: &Args, ui: &Ui) -> Result<Option<DevEnv>, String> {
    let interrupted = CancellationToken::new();
    let watching = tokio::spawn(watch_signals(interrupted.clone()));
    let prepared = tokio::select! {
        biased;
        () = interrupted.cancelled() => Ok(None),
        prepared = env::prepare(folder, args.clusters, args.python.as_deref(), ui) => prepared.map(Some),
    };
    watching.abort();
    prepared
}

async fn serve(folder: &Folder, env: &DevEnv, args: &Args, ui: &Ui) -> Result<ExitCode, String> {
    let config = plan::config(folder, env, args.listen)?;
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.log("yard"))
        .map_err(|e| format!("no log: {e}"))?;
    let metrics = telemetry::init_to_file(&config.log, log).map_err(|e| run::chain(&e))?;
    let running = run::start(&config, &Role::all(), metrics).await?;
    let in_force = InForce::read(running.store().as_ref(), folder, &config).await?;
    ui.line(&banner(folder, env, config.server.listen, &in_force));
    let soft = running.soft();
    let watching = tokio::spawn(run::watch_signals(running.soft(), running.hard()));
    let hangup = tokio::spawn(watch_hangup(running.soft()));
    let store = running.store();
    let demo = async {
        if !args.demo {
            return None;
        }
        let demo = Demo { folder, env, config: &config, store, ui };
        let result = tokio::select! {
            result = demo.run() => result,
            () = soft.cancelled() => return Some(ExitCode::from(EXIT_INTERRUPTED)),
        };
        soft.cancel();
        Some(match result {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(EXIT_UNCLEAN),
            Err(line) => {
                ui.line(&format!("! the demo could not be carried out: {line}"));
                ExitCode::from(EXIT_UNCLEAN)
            }
        })
    };
    let (demo, (ending, code)) = tokio::join!(Box::pin(demo), finish(running, ui));
    watching.abort();
    hangup.abort();
    Ok(if ending { demo.unwrap_or(code) } else { code })
}

/// Whether it ended as asked, and the exit code for that.
async fn finish(running: Running, ui: &Ui) -> (bool, ExitCode) {
    match running.wait().await {
        Ending::Drained => (true, ExitCode::SUCCESS),
        Ending::Cut(_) => {
            ui.line("! not everything in hand could be finished; nothing is lost");
            (true, ExitCode::SUCCESS)
        }
        Ending::TaskDied(task) => {
            ui.line(&format!("! {task} died: this is a bug; the log says more"));
            (false, ExitCode::from(EXIT_UNCLEAN))
        }
    }
}

fn banner(folder: &Folder, env: &DevEnv, address: SocketAddr, in_force: &InForce) -> String {
    let InForce { teams, clusters, applied, moved } = in_force;
    let queue = match &env.queue {
        Some(queue) => format!("{} (SQS; any credentials, any region)", queue.queue_url),
        None => "none (it comes with Python)".to_owned(),
    };
    let server = if address.port() == 8920 { String::new() } else { format!(" --server http://{address}") };
    let catalog = applied.iter().map(|which| format!("\x20 catalog   {which}\n"));
    let catalog: String = catalog.chain(moved.iter().map(|what| format!("! {what}\n"))).collect();
    format!(
        "\nSwitchyard is up; Ctrl-C ends it and everything it started.\n\
         \x20 API       http://{address}\n\
         \x20 queue     {queue}\n\
         \x20 clusters  {}\n\
         \x20 teams     {}\n{catalog}\
         \x20 log       {}\n\n\
         Every command needs the token; for this shell:
         \x20 export YARD_TOKEN=$(cat {})

         Try   yard submit{server} --team {} -- 'echo hello'\n\
         then  yard list{server}\n\
         or    RAY_AUTH_MODE=token RAY_AUTH_TOKEN=$YARD_TOKEN ray job submit --address http://{address} \
         --working-dir . -- python main.py\n",
        clusters.join(", "),
        teams.join(", "),
        folder.log("yard").display(),
        shell_word(&folder.path("token")),
        teams.first().map_or("ads", String::as_str),
    )
}

/// A path as a shell takes it.
fn shell_word(path: &std::path::Path) -> String {
    let text = path.display().to_string();
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b));
    if plain { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Finds a taken port before anything slow is done.
fn check_port(listen: SocketAddr) -> Result<(), String> {
    TcpListener::bind(listen).map(drop).map_err(|e| {
        let other = SocketAddr::new(listen.ip(), listen.port().wrapping_add(1).max(1024));
        format!(
            "port {} can't be used ({e}): stop what listens there, or choose another with --listen {other}",
            listen.port()
        )
    })
}

async fn watch_signals(token: CancellationToken) {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let [Ok(mut int), Ok(mut term), Ok(mut hup)] = kinds.map(signal) else { return };
    tokio::select! {
        _ = int.recv() => {}
        _ = term.recv() => {}
        _ = hup.recv() => {}
    }
    token.cancel();
}

/// A terminal that is closed ends everything, like Ctrl-C in it.
async fn watch_hangup(soft: CancellationToken) {
    if let Ok(mut hangup) = signal(SignalKind::hangup()) {
        hangup.recv().await;
        soft.cancel();
    }
}
