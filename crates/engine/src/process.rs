//! A process: its tasks, and how they stop.
//!
//! Two tokens: *soft* (finish what is in hand, start nothing new) on the first signal, *hard* (drop
//! everything: the store and the leases make that safe) on the second or when the drain time is over. A task
//! that ends or panics before the soft token ends the whole process with an error: nothing is left half alive.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Asked to stop, and every task finished in time.
    Drained,
    /// Asked to stop, but these tasks had to be dropped.
    Cut(usize),
    /// A task ended by itself: its name. The process is not whole any more.
    TaskDied(String),
}

/// The tasks of a process.
#[derive(Debug, Default)]
pub struct Process {
    soft: CancellationToken,
    hard: CancellationToken,
    tasks: JoinSet<&'static str>,
}

impl Process {
    /// A process without tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Finish what is in hand and start nothing new.
    pub fn soft(&self) -> CancellationToken {
        self.soft.clone()
    }

    /// Drop everything.
    pub fn hard(&self) -> CancellationToken {
        self.hard.clone()
    }

    /// Starts a task. It is to end soon after the soft token is cancelled, and never before.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(async move {
            task.await;
            name
        });
    }

    /// Waits until the soft token is cancelled (by whoever listens for signals) or a task dies; then for the
    /// tasks to finish, at most `drain` long.
    pub async fn run(mut self, drain: Duration) -> Ending {
        let died = tokio::select! {
            () = self.soft.cancelled() => None,
            Some(ended) = self.tasks.join_next() => {
                // A task that ends because of the soft token can win this race: that is not dying.
                (!self.soft.is_cancelled()).then(|| ended.unwrap_or_else(|e| if e.is_panic() { "a task that panicked" } else { "a cancelled task" }))
            }
        };
        if let Some(name) = died {
            error!(task = name, "a task ended by itself; stopping the process");
            self.soft.cancel();
        } else {
            info!("stopping: finishing what is in hand");
        }
        let cut = self.drain(drain).await;
        match (died, cut) {
            (Some(name), _) => Ending::TaskDied(name.to_owned()),
            (None, 0) => Ending::Drained,
            (None, cut) => Ending::Cut(cut),
        }
    }

    async fn drain(&mut self, drain: Duration) -> usize {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        tokio::select! {
            () = all => return 0,
            () = self.hard.cancelled() => warn!("dropping what is still in hand"),
            () = tokio::time::sleep(drain) => warn!(?drain, "the drain time is over: dropping what is still in hand"),
        }
        let left = self.tasks.len();
        self.hard.cancel();
        self.tasks.shutdown().await;
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn drains_cuts_and_notices_death() {
        let mut whole = Process::new();
        let soft = whole.soft();
        whole.spawn("waiter", {
            let soft = soft.clone();
            async move { soft.cancelled().await }
        });
        soft.cancel();
        assert_eq!(whole.run(Duration::from_secs(1)).await, Ending::Drained);

        let mut stuck = Process::new();
        stuck.spawn("stuck", std::future::pending());
        stuck.soft().cancel();
        assert_eq!(stuck.run(Duration::from_secs(1)).await, Ending::Cut(1));

        let mut dying = Process::new();
        let soft = dying.soft();
        dying.spawn("other", async move { soft.cancelled().await });
        dying.spawn("short", async {});
        assert_eq!(dying.run(Duration::from_secs(1)).await, Ending::TaskDied("short".into()));
    }
}
