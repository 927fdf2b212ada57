//! Runs a process from start to end: parts, loops, signals, exit code.

use std::collections::BTreeSet;
use std::process::ExitCode;

use metrics_exporter_prometheus::PrometheusHandle;
use rand::{Rng, SeedableRng};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use yard_engine::Ending;

use crate::compose::{self, ComposeError};
use crate::config::Config;
use crate::serve::{self, Role, Running};

/// Exit codes of `yard serve` beside 0.
mod exit {
    /// A part could not be put together.
    pub const SETUP: u8 = 2;
    /// A task died, or the drain time was over before everything was finished.
    pub const UNCLEAN: u8 = 1;
}

/// `yard serve`: runs until a signal or until a task dies.
pub async fn serve(config: &Config, roles: &BTreeSet<Role>, metrics: PrometheusHandle) -> ExitCode {
    match start(config, roles, metrics).await {
        Ok(running) => {
            let watching = tokio::spawn(watch_signals(running.soft(), running.hard()));
            let ending = running.wait().await;
            watching.abort();
            report(&ending)
        }
        Err(message) => {
            error!("{message}");
            // Once; and in any case, even if the log is turned off.
            if !tracing::enabled!(tracing::Level::ERROR) {
                eprintln!("{message}");
            }
            ExitCode::from(exit::SETUP)
        }
    }
}

/// Puts the parts together and starts the loops; an error is one line for people.
pub async fn start(
    config: &Config,
    roles: &BTreeSet<Role>,
    metrics: PrometheusHandle,
) -> Result<Running, String> {
    let listener = if roles.contains(&Role::Api) { Some(listen(config).await?) } else { None };
    let plan = compose::installation(config, roles, metrics).await.map_err(|e| chain(&e))?;
    let mut rng = rand::rngs::SmallRng::try_from_rng(&mut rand::rngs::SysRng)
        .map_err(|e| format!("no randomness: {e}"))?;
    let holder = holder(rng.next_u32());
    serve::start(plan, roles, listener, &holder, rng.next_u64())
        .await
        .map_err(|e| chain(&ComposeError::Store(e)))
}

async fn listen(config: &Config) -> Result<TcpListener, String> {
    let address = config.server.listen;
    TcpListener::bind(address).await.map_err(|e| {
        format!("can't listen on {address} ({e}): free the port, or set server.listen (or YARD__SERVER__LISTEN, or `yard dev --listen`) to another")
    })
}

/// This process's name among all live ones: host, process id and a random part, since both may come again.
fn holder(random: u32) -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}-{}-{random:08x}", std::process::id())
}

/// An error with its sources, once, at the edge.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// The first SIGINT or SIGTERM asks for a soft end, the second for a hard one.
pub async fn watch_signals(soft: CancellationToken, hard: CancellationToken) {
    let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        warn!("can't listen for signals: this process can only be killed");
        return;
    };
    for token in [soft, hard] {
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
        }
        token.cancel();
    }
}

fn report(ending: &Ending) -> ExitCode {
    match ending {
        Ending::Drained => {
            info!("stopped");
            ExitCode::SUCCESS
        }
        Ending::Cut(tasks) => {
            warn!(
                tasks,
                "stopped before everything was finished; nothing is lost, leases run out by themselves"
            );
            ExitCode::from(exit::UNCLEAN)
        }
        Ending::TaskDied(task) => {
            error!(task, "stopped because a task died");
            ExitCode::from(exit::UNCLEAN)
        }
    }
}
