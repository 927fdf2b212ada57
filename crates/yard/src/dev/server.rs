//! A server that `yard dev` starts, finds again, and stops with everything it has started.
//!
//! Servers outlive a `yard dev` that is killed: each is in a session of its own, and a record in `run/` says where
//! it is. The next `yard dev` takes over what is alive and well; jobs on it never notice.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::folder::Folder;
use super::procs::{self, MARK};

/// Variables that would configure a server behind our back.
const FOREIGN: [&str; 3] = ["RAY_", "MINISTACK_", "PYTHON"];
/// Makes the server the leader of a session: a terminal's Ctrl-C doesn't reach it, and all of it can be found.
const NEW_SESSION: &str = "import os, sys; os.setsid(); os.execv(sys.argv[1], sys.argv[1:])";
/// Between looks at whether a server is ready.
const READY_POLL: Duration = Duration::from_millis(200);
/// Longest answer to one probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// What to start.
#[derive(Debug)]
pub struct Launch<'a> {
    /// Its name in the folder: `ray-east`.
    pub name: &'a str,
    /// The Python that runs it.
    pub python: &'a Path,
    /// The Python's arguments: `-m ministack`.
    pub arguments: Vec<OsString>,
    /// Added to the environment.
    pub environment: Vec<(&'static str, OsString)>,
    /// Its ports, to be found again.
    pub ports: Vec<u16>,
}

/// `run/<name>.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    pid: i32,
    started: String,
    ports: Vec<u16>,
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    name: String,
    mark: String,
    file: PathBuf,
    log: PathBuf,
    record: Record,
    /// Kept to collect its exit status; a server that was taken over is another's child.
    child: Option<Child>,
}

/// Why a server is not there: one line.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// It could not be started, or not found again.
    #[error("{name} can't be started: {source}")]
    Start {
        /// Which.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// It ended before it was ready.
    #[error("{name} ended at its start: {last} (its log: {log})", log = .log.display())]
    Ended {
        /// Which.
        name: String,
        /// The end of its log.
        last: String,
        /// Where the rest is.
        log: PathBuf,
    },
    /// It does not answer.
    #[error("{name} is not ready after {} s: {last} (its log: {log})", .after.as_secs(), log = .log.display())]
    NotReady {
        /// Which.
        name: String,
        /// How long it was given.
        after: Duration,
        /// The end of its log.
        last: String,
        /// Where the rest is.
        log: PathBuf,
    },
}

impl Server {
    /// Starts a server, after ending whatever is left of an earlier one that is not on record.
    pub async fn launch(folder: &Folder, launch: Launch<'_>) -> Result<Self, ServerError> {
        let name = launch.name.to_owned();
        Self::try_launch(folder, launch).await.map_err(|source| ServerError::Start { name, source })
    }

    /// The server `name` of an earlier `yard dev`, if it still runs.
    pub fn find(folder: &Folder, name: &str) -> Option<Self> {
        let file = record_file(folder, name);
        let record: Record = serde_json::from_slice(&fs::read(&file).ok()?).ok()?;
        let is_same = procs::start_of(record.pid).is_some_and(|started| started == record.started);
        is_same.then(|| Self {
            name: name.to_owned(),
            mark: folder.mark(name),
            file,
            log: folder.log(name),
            record,
            child: None,
        })
    }

    /// Ends the server `name`, on record or not, with everything that it has started.
    pub async fn end(folder: &Folder, name: &str, grace: Duration) -> io::Result<()> {
        if let Some(server) = Self::find(folder, name) {
            return server.stop(grace).await;
        }
        procs::kill_server(None, &folder.mark(name)).await?;
        remove(&record_file(folder, name))
    }

    /// Its ports, in the order of [`Launch::ports`].
    pub fn ports(&self) -> &[u16] {
        &self.record.ports
    }

    /// Waits until `is_ready`, at most `limit`.
    pub async fn wait_ready(
        &mut self,
        limit: Duration,
        is_ready: impl AsyncFn() -> bool,
    ) -> Result<(), ServerError> {
        let deadline = Instant::now() + limit;
        loop {
            if tokio::time::timeout(PROBE_TIMEOUT, is_ready()).await.unwrap_or(false) {
                return Ok(());
            }
            let (name, log, last) = (self.name.clone(), self.log.clone(), last_line(&self.log));
            if !self.is_alive() {
                return Err(ServerError::Ended { name, last, log });
            }
            if Instant::now() >= deadline {
                return Err(ServerError::NotReady { name, after: limit, last, log });
            }
            sleep(READY_POLL).await;
        }
    }

    /// Whether its first process runs.
    pub fn is_alive(&mut self) -> bool {
        if let Some(child) = &mut self.child
            && !matches!(child.try_wait(), Ok(None))
        {
            return false;
        }
        procs::start_of(self.record.pid).is_some_and(|started| started == self.record.started)
    }

    /// Ends it and everything it has started: gently for `grace`, then by force.
    pub async fn stop(mut self, grace: Duration) -> io::Result<()> {
        let pid = self.record.pid;
        if self.is_alive() {
            procs::terminate(pid);
            match &mut self.child {
                Some(child) => _ = tokio::time::timeout(grace, child.wait()).await,
                None => _ = procs::wait_end(pid, grace).await,
            }
        }
        // Its session's number stays its own for as long as one of it lives.
        procs::kill_server(Some(pid), &self.mark).await?;
        if let Some(child) = &mut self.child {
            child.wait().await?;
        }
        remove(&self.file)
    }

    async fn try_launch(folder: &Folder, launch: Launch<'_>) -> io::Result<Self> {
        let (mark, log, file) =
            (folder.mark(launch.name), folder.log(launch.name), record_file(folder, launch.name));
        procs::kill_server(None, &mark).await?;
        remove(&file)?;
        let output = OpenOptions::new().create(true).write(true).truncate(true).open(&log)?;
        let mut command = Command::new(launch.python);
        command.args(["-c", NEW_SESSION]).arg(launch.python).args(&launch.arguments);
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_foreign(name)) {
            command.env_remove(name);
        }
        command.envs(launch.environment).env(MARK, &mark).current_dir(folder.path(""));
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn()?;
        let pid = child.id().map_or(0, u32::cast_signed);
        let started = procs::start_of(pid).unwrap_or_default();
        let record = Record { pid, started, ports: launch.ports };
        let server = Self { name: launch.name.to_owned(), mark, file, log, record, child: Some(child) };
        // Renamed into place: a record is whole or not there.
        let fresh = server.file.with_extension("new");
        fs::write(&fresh, serde_json::to_vec(&server.record)?)?;
        fs::rename(fresh, &server.file)?;
        Ok(server)
    }
}

fn record_file(folder: &Folder, name: &str) -> PathBuf {
    folder.path(&format!("run/{name}.json"))
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn is_foreign(name: &std::ffi::OsStr) -> bool {
    name.to_str().is_some_and(|name| FOREIGN.iter().any(|prefix| name.starts_with(prefix)))
}

/// The last line of a log that says something.
fn last_line(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it wrote nothing").to_owned()
}
