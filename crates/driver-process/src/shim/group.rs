//! The process group of a command, with the guard that leads it.

use std::fs::File;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::GUARD;

/// Between looks at whether a group has emptied.
const EMPTY_POLL: Duration = Duration::from_millis(10);

/// A process group. Its guard is a child of this process and is not waited for before [`Group::end`], so
/// the group's id stays its own for as long as this value lives.
pub(super) struct Group {
    guard: Child,
    id: Pid,
}

impl Group {
    /// Starts a guard, which shares `lock`, and waits until it is on its post.
    pub(super) async fn start(lock: &File) -> io::Result<Self> {
        let mut args: Vec<_> = std::env::args_os().skip(1).collect();
        args.pop();
        let mut guard = Command::new(std::env::current_exe()?)
            .args(args)
            .arg(GUARD)
            .stdin(Stdio::piped())
            .stdout(lock.try_clone()?)
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let id = guard.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let id = id.ok_or_else(|| io::Error::other("the guard ended at once"))?;
        if let Some(mut ready) = guard.stderr.take() {
            ready.read_u8().await?;
        }
        Ok(Self { guard, id })
    }

    /// The id, as [`Command::process_group`] takes it.
    pub(super) fn id(&self) -> i32 {
        self.id.as_raw_nonzero().get()
    }

    /// Asks all of them to end; the guard doesn't.
    pub(super) fn terminate(&self) -> io::Result<()> {
        signal(self.id, Signal::TERM)
    }

    /// Ends all of them, the guard included.
    pub(super) fn kill(&self) -> io::Result<()> {
        signal(self.id, Signal::KILL)
    }

    /// Ends what the command has left behind, gently for `grace`, then the guard.
    pub(super) async fn end(&mut self, grace: Duration) -> io::Result<()> {
        if self.has_others() {
            self.terminate()?;
            self.empty_within(grace).await;
        }
        self.kill()?;
        // Killed is not dead yet; but one that hangs in the kernel must not keep the end from being recorded.
        self.empty_within(grace).await;
        self.guard.wait().await.map(drop)
    }

    async fn empty_within(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while self.has_others() && Instant::now() < deadline {
            sleep(EMPTY_POLL).await;
        }
    }

    /// Whether anything but the guard lives in the group. Where that can't be told: no.
    fn has_others(&self) -> bool {
        members::of(self.id()).is_ok_and(|pids| pids.into_iter().any(|pid| pid != self.id()))
    }
}

fn signal(group: Pid, signal: Signal) -> io::Result<()> {
    match kill_process_group(group, signal) {
        // Nobody left, or (macOS) only zombies.
        Ok(()) | Err(rustix::io::Errno::SRCH | rustix::io::Errno::PERM) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(target_os = "linux")]
mod members {
    //! From /proc: there is no call for it, and `ps` is not everywhere.

    use std::{fs, io};

    /// The living processes of a group.
    pub(super) fn of(group: i32) -> io::Result<Vec<i32>> {
        let pids =
            fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        Ok(pids.filter(|pid| is_member(*pid, group).unwrap_or(false)).collect())
    }

    /// proc_pid_stat(5): `pid (comm) state ppid pgrp …`, where comm may hold anything.
    fn is_member(pid: i32, group: i32) -> Option<bool> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let dead = matches!(fields.next()?, "Z" | "X");
        Some(!dead && fields.nth(1)?.parse::<i32>().ok()? == group)
    }
}

#[cfg(not(target_os = "linux"))]
mod members {
    //! From `ps`, which the other systems always have.

    use std::io;
    use std::process::Command;

    /// The living processes of a group.
    pub(super) fn of(group: i32) -> io::Result<Vec<i32>> {
        let listing = Command::new("ps").args(["-A", "-o", "pid=,pgid=,state="]).output()?;
        let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
        Ok(listing.lines().filter_map(|line| member(line, group)).collect())
    }

    fn member(line: &str, group: i32) -> Option<i32> {
        let mut fields = line.split_ascii_whitespace();
        let (pid, pgid) = (fields.next()?.parse().ok()?, fields.next()?.parse::<i32>().ok()?);
        (pgid == group && !fields.next()?.starts_with('Z')).then_some(pid)
    }
}
