//! The shim: the process that stands by one attempt's command and records its end.
//!
//! ```text
//! yard ─ launches ─► shim            own session; holds `lock`; waits; writes `exit`
//!                     ├─ guard       leads the command's process group; holds `lock` too
//!                     └─ sh -c …     in the guard's group, with everything it starts
//! ```
//!
//! *At most once.* A shim runs the command only with the lock in its hands and neither `started` nor
//! `exit` there. However many shims are started for a folder, one gets that far, once.
//!
//! *Ends whole.* The guard is a member of the command's process group, so the group's id can't come to
//! mean anything else while the shim signals it. When the shim dies, however that comes, the guard's
//! standard input ends and it kills the group. As it holds the lock until then, an attempt is seen as lost
//! only when its processes have been killed. (A command that moves children into another process group on
//! purpose is not followed there.)
//!
//! *Stops.* The shim looks for the `stop` file itself: no process id is ever read from anywhere, and the
//! grace between SIGTERM and SIGKILL is kept whatever becomes of yard. It keeps the run timeout as well.

mod group;

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, interval, sleep};
use yard_domain::FailureClass;

use crate::attempt_dir::AttemptDir;
use crate::packages::WORK;
use crate::record::{ExitRecord, RequestRecord};
use group::Group;

/// The target that makes a guard instead of a shim; a folder's path is absolute, so it can't be mistaken.
pub(crate) const GUARD: &str = "guard";
/// Between tries to record an end on a full disk.
const RECORD_RETRY: Duration = Duration::from_secs(1);

/// What `yard process-shim TARGET` does; `TARGET` must be the process's last argument. Returns the exit
/// code for the process. Must be called outside of any async runtime.
pub fn shim_main(target: &OsStr) -> i32 {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            ignore_signals()?;
            if target == GUARD { stand_guard() } else { stand_by(&AttemptDir::at(Path::new(target))).await }
        })
    };
    match run() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("process shim for {}: {error}", target.display());
            1
        }
    }
}

/// Handlers, not SIG_IGN: ignoring would be inherited by the command.
fn ignore_signals() -> io::Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
        let _ = signal(kind)?;
    }
    Ok(())
}

fn stand_guard() -> io::Result<()> {
    io::stderr().write_all(b"r")?;
    // Nothing is ever sent: this ends when the shim does.
    let ended = io::stdin().read_to_end(&mut Vec::new());
    rustix::process::kill_current_process_group(rustix::process::Signal::KILL)?;
    ended.map(drop)
}

async fn stand_by(dir: &AttemptDir) -> io::Result<()> {
    // Fails only for a group leader, which has nothing to leave.
    let _ = rustix::process::setsid();
    let Some(lock) = dir.try_lock()? else { return Ok(()) };
    if dir.has_started()? || dir.exit()?.is_some() {
        return Ok(());
    }
    let record = match dir.request()? {
        _ if dir.stop_wished()? => ExitRecord::Stopped,
        Some(request) => run(dir, &request, &lock).await.unwrap_or_else(|error| not_started(&error)),
        None => not_started(&io::Error::other("its request can't be read")),
    };
    while let Err(error) = dir.write_exit(&record) {
        if !dir.exists().unwrap_or(true) {
            break;
        }
        eprintln!("recording the end: {error}");
        sleep(RECORD_RETRY).await;
    }
    Ok(())
}

/// Runs the command to its end; `Err` if it could not be started.
async fn run(dir: &AttemptDir, request: &RequestRecord, lock: &File) -> io::Result<ExitRecord> {
    let log = OpenOptions::new().create(true).append(true).open(dir.log_path())?;
    let work = match &request.working_dir {
        Some(path) => path.clone(),
        None => dir.path().join(WORK),
    };
    if request.working_dir.is_none() {
        fs::create_dir_all(&work)?;
    } else if !work.is_dir() {
        let reason = format!("runtime_env.working_dir {} is not a directory on this host", work.display());
        return Ok(ExitRecord::NotStarted { class: FailureClass::RuntimeEnv.code().to_owned(), reason });
    }
    let mut group = Group::start(lock).await?;
    dir.mark_started()?;
    // Whoever started the shim may listen; that nobody does any more is no matter.
    let _ = io::stdout().write_all(b"s").and_then(|()| io::stdout().flush());
    let mut command = Command::new("sh");
    command.arg("-c").arg(&request.entrypoint).current_dir(&work);
    command
        .envs(&request.env)
        .env("YARD_JOB_ID", &request.job)
        .env("YARD_ATTEMPT", request.attempt.to_string());
    command.env("YARD_TEAM", &request.team).env("YARD_REMOTE_NAME", &request.name);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(group.id());
    let child = command.spawn();
    let end = match child {
        Ok(child) => Ok(watch(dir, request, child, &group).await?),
        Err(error) => Err(error),
    };
    group.end(request.stop_grace()).await?;
    end.map(|end| end.record(dir))
}

/// What the shim saw of the command's end.
struct End {
    status: ExitStatus,
    timed_out: Option<Duration>,
}

impl End {
    fn record(self, dir: &AttemptDir) -> ExitRecord {
        if let Some(limit) = self.timed_out {
            return ExitRecord::TimedOut { limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX) };
        }
        if dir.stop_wished().unwrap_or(false) {
            return ExitRecord::Stopped;
        }
        let log_end = if self.status.success() { String::new() } else { dir.log_end().unwrap_or_default() };
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => ExitRecord::Exited { code, log_end },
            (None, signal) => ExitRecord::Signaled { signal: signal.unwrap_or(0), log_end },
        }
    }
}

/// Waits for the command's end, and sees to it when it is wished or due.
async fn watch(
    dir: &AttemptDir,
    request: &RequestRecord,
    mut child: Child,
    group: &Group,
) -> io::Result<End> {
    let started = Instant::now();
    let limit = request.run_timeout();
    let mut ticks = interval(request.stop_poll());
    let mut timed_out = None;
    let mut kill_at = None;
    loop {
        tokio::select! {
            status = child.wait() => return Ok(End { status: status?, timed_out }),
            _ = ticks.tick() => {}
        }
        match kill_at {
            None => {
                let stop = dir.stop_wished().unwrap_or(false);
                if !stop && started.elapsed() >= limit {
                    timed_out = Some(limit);
                }
                if stop || timed_out.is_some() {
                    group.terminate()?;
                    kill_at = Some(Instant::now() + request.stop_grace());
                }
            }
            Some(at) if Instant::now() >= at => group.kill()?,
            Some(_) => {}
        }
    }
}

fn not_started(error: &io::Error) -> ExitRecord {
    let class = match error.kind() {
        // A command or a variable that no process can be given: the same again would fail the same.
        io::ErrorKind::ArgumentListTooLong | io::ErrorKind::InvalidInput => FailureClass::Refused,
        _ => FailureClass::Launch,
    };
    ExitRecord::NotStarted {
        class: class.code().to_owned(),
        reason: format!("it could not be started: {error}"),
    }
}
