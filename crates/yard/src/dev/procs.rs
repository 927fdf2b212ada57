//! Finding and ending processes: a server's own, by session or mark, and none else.

use std::io;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

/// The environment variable that marks every process of one server, whatever session it moves to.
pub const MARK: &str = "YARD_DEV_MARK";
/// Between looks at whether processes have ended.
const POLL: Duration = Duration::from_millis(20);
/// Longest wait for killed processes to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// When the process `pid` started, in words that only compare; `None` if it is dead or was never there. A pid with
/// the same start is the same process.
pub fn start_of(pid: i32) -> Option<String> {
    system::stat(pid).filter(|stat| !stat.dead).map(|stat| stat.started)
}

/// Kills every process of the server whose first process was `leader` and whose mark is `mark`, until none is left.
///
/// Session or mark: workers overwrite their environment with a title, jobs start sessions of their own.
pub async fn kill_server(leader: Option<i32>, mark: &str) -> io::Result<()> {
    let wanted = format!("{MARK}={mark}");
    kill_all(|pid| {
        let by_session =
            leader.is_some_and(|l| system::stat(pid).is_some_and(|stat| !stat.dead && stat.session == l));
        by_session || system::environment_has(pid, &wanted)
    })
    .await
}

/// Kills every process whose command line has both texts in it, until none is left.
pub async fn kill_by_command(first: &str, second: &str) -> io::Result<()> {
    kill_all(|pid| system::command(pid).is_some_and(|c| c.contains(first) && c.contains(second))).await
}

/// Asks `pid` to end in its own way. What is not there any more has ended.
pub fn terminate(pid: i32) {
    signal(pid, Signal::TERM);
}

/// Waits until `pid` has ended; `false` if it has not within `limit`.
pub async fn wait_end(pid: i32, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while start_of(pid).is_some() {
        if Instant::now() >= deadline {
            return false;
        }
        sleep(POLL).await;
    }
    true
}

async fn kill_all(is_wanted: impl Fn(i32) -> bool) -> io::Result<()> {
    let own = std::process::id().cast_signed();
    let deadline = Instant::now() + KILL_TIMEOUT;
    // One that dies may still start another: look again until there is none.
    loop {
        let found: Vec<i32> =
            system::pids()?.into_iter().filter(|pid| *pid != own && is_wanted(*pid)).collect();
        if found.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(io::Error::other(format!("the processes {found:?} do not end")));
        }
        for pid in found {
            signal(pid, Signal::KILL);
        }
        sleep(POLL).await;
    }
}

fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have ended meanwhile, which is what was wanted.
        _ = kill_process(pid, signal);
    }
}

/// What is read of one process.
struct Stat {
    dead: bool,
    session: i32,
    started: String,
}

#[cfg(target_os = "linux")]
mod system {
    //! From /proc.

    use std::{fs, io};

    use super::Stat;

    pub(super) fn pids() -> io::Result<Vec<i32>> {
        Ok(fs::read_dir("/proc")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect())
    }

    /// proc_pid_stat(5): `pid (comm) state ppid pgrp session …`, the start time is field 22; comm may hold anything.
    pub(super) fn stat(pid: i32) -> Option<Stat> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        Some(Stat {
            dead: matches!(*fields.first()?, "Z" | "X"),
            session: fields.get(3)?.parse().ok()?,
            started: (*fields.get(19)?).to_owned(),
        })
    }

    pub(super) fn environment_has(pid: i32, variable: &str) -> bool {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let is_alive = || stat(pid).is_some_and(|stat| !stat.dead);
        environment.split(|b| *b == 0).any(|entry| entry == variable.as_bytes()) && is_alive()
    }

    pub(super) fn command(pid: i32) -> Option<String> {
        let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words: Vec<_> = bytes.split(|b| *b == 0).map(String::from_utf8_lossy).collect();
        Some(words.join(" "))
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    //! From `ps`, which the other systems always have. There the session stands for the process group, and a
    //! process's environment can't be read: a job that leaves its group is not found.

    use std::io;
    use std::process::Command;

    use super::Stat;

    fn ps(arguments: &[&str]) -> Option<String> {
        let output = Command::new("ps").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    pub(super) fn pids() -> io::Result<Vec<i32>> {
        let listing = ps(&["-A", "-o", "pid="]).ok_or_else(|| io::Error::other("ps failed"))?;
        Ok(listing.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect())
    }

    pub(super) fn stat(pid: i32) -> Option<Stat> {
        let line = ps(&["-o", "state=,pgid=,lstart=", "-p", &pid.to_string()])?;
        let mut fields = line.split_ascii_whitespace();
        let (state, group) = (fields.next()?, fields.next()?.parse().ok()?);
        Some(Stat {
            dead: state.starts_with('Z'),
            session: group,
            started: fields.collect::<Vec<_>>().join(" "),
        })
    }

    pub(super) fn environment_has(_pid: i32, _variable: &str) -> bool {
        false
    }

    pub(super) fn command(pid: i32) -> Option<String> {
        ps(&["-o", "command=", "-p", &pid.to_string()])
    }
}
