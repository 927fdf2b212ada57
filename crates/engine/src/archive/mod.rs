//! Logs are kept while jobs run: the dispatcher of a cluster reads the logs of its attempts in turns and writes what is
//! new to the [`LogArchive`], so that a cluster that dies takes seconds of them with it, not everything.
//!
//! - this file: the loop, and what the dispatcher tells it and asks of it (both at once, without I/O)
//! - [`agenda`]: whose turn it is (pure)
//! - [`turn`]: one turn of one attempt
//! - [`retention`]: deletes what is older than it has to be
//!
//! Nothing waits for it but the removal of an ended attempt from its cluster. It holds nothing that the archive does not
//! have: the next dispatcher goes on from the chunks that are there.

mod agenda;
pub mod retention;
mod turn;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::error;
use yard_domain::{InstanceId, RemoteName};
use yard_ports::store::AttemptRef;
use yard_ports::{Driver, LogArchive, RemoteJob};

use crate::settings::LogSettings;
use agenda::Agenda;
use turn::{Outcome, Turns};

/// Where logs are kept and how.
#[derive(Clone)]
pub struct LogKeeping {
    /// Where.
    pub archive: Arc<dyn LogArchive>,
    /// Limits and times.
    pub settings: LogSettings,
}

/// What a dispatcher tells the archiver of its cluster. Without [`LogKeeping`] nothing is kept and nothing waits for it.
pub struct Archiver(Option<Working>);

struct Working {
    agenda: Arc<Mutex<Agenda>>,
    wake: Arc<Notify>,
    _loop: AbortOnDropHandle<()>,
}

impl Archiver {
    /// Archives what `driver` has until it is dropped or `cancel`.
    pub fn start(keeping: Option<LogKeeping>, driver: Arc<dyn Driver>, cancel: CancellationToken) -> Self {
        Self(keeping.map(|keeping| {
            let agenda = Arc::new(Mutex::new(Agenda::new(&keeping.settings)));
            let wake = Arc::new(Notify::new());
            let readers_max = keeping.settings.readers_max.max(1);
            let turns = Arc::new(Turns { driver, keeping });
            let looping = Loop { agenda: agenda.clone(), wake: wake.clone(), readers_max, turns };
            Working { agenda, wake, _loop: AbortOnDropHandle::new(tokio::spawn(looping.run(cancel))) }
        }))
    }

    /// An attempt whose first launch call is about to be made: nothing of it can be in the archive.
    pub fn begun(&self, attempt: AttemptRef) {
        if let Some(working) = &self.0 {
            working.lock().begun(attempt, Instant::now());
            working.wake.notify_one();
        }
    }

    /// What the cluster shows: what is `instance`'s and has not ended is read from now on.
    pub fn running(&self, remotes: &[RemoteJob], instance: InstanceId) {
        let Some(working) = &self.0 else { return };
        let now = Instant::now();
        let (mut agenda, mut news) = (working.lock(), false);
        for remote in remotes.iter().filter(|r| !r.status.is_end() && r.instance == Some(instance)) {
            if let Some((job, attempt)) = RemoteName::parse(remote.name.as_str()) {
                news |= agenda.running(AttemptRef { job, attempt }, now);
            }
        }
        if news {
            working.wake.notify_one();
        }
    }

    /// An attempt that is about to be stopped.
    pub fn stopping(&self, attempt: AttemptRef) {
        if let Some(working) = &self.0 {
            working.lock().stopping(attempt, Instant::now());
            working.wake.notify_one();
        }
    }

    /// An attempt that was seen to have ended: the rest of its log is to be read now.
    pub fn ended(&self, attempt: AttemptRef) {
        if let Some(working) = &self.0 {
            working.lock().ended(attempt, Instant::now());
            working.wake.notify_one();
        }
    }

    /// An attempt whose end is about to be recorded, whether it was seen or the attempt is lost.
    pub fn over(&self, attempt: AttemptRef) {
        if let Some(working) = &self.0 {
            working.lock().over(attempt, Instant::now());
            working.wake.notify_one();
        }
    }

    /// Whether the archive has all it will get of this attempt.
    pub fn is_settled(&self, attempt: AttemptRef) -> bool {
        self.0.as_ref().is_none_or(|working| !working.lock().has(attempt))
    }
}

impl Working {
    fn lock(&self) -> MutexGuard<'_, Agenda> {
        self.agenda.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Loop {
    agenda: Arc<Mutex<Agenda>>,
    wake: Arc<Notify>,
    readers_max: usize,
    turns: Arc<Turns>,
}

impl Loop {
    fn lock(&self) -> MutexGuard<'_, Agenda> {
        self.agenda.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(self, cancel: CancellationToken) {
        let mut running = JoinSet::new();
        let mut whose: HashMap<Id, AttemptRef> = HashMap::new();
        loop {
            while running.len() < self.readers_max
                && let Some(due) = self.lock().take_due(Instant::now())
            {
                let (attempt, turns) = (due.attempt, self.turns.clone());
                let task = running.spawn(async move { turns.take(due).await });
                whose.insert(task.id(), attempt);
            }
            let next = self.lock().next_due().filter(|_| running.len() < self.readers_max);
            tokio::select! {
                () = cancel.cancelled() => return,
                Some(done) = running.join_next_with_id(), if !running.is_empty() => {
                    let (id, kept, outcome) = match done {
                        Ok((id, (kept, outcome))) => (id, kept, outcome),
                        Err(error) => {
                            // A bug; the others' logs go on.
                            error!(%error, "archiving a log panicked");
                            (error.id(), None, Outcome::Failed)
                        }
                    };
                    if let Some(attempt) = whose.remove(&id) {
                        self.lock().done(attempt, kept, outcome, Instant::now());
                    }
                }
                () = self.wake.notified() => {}
                () = crate::dispatch::at(next), if next.is_some() => {}
            }
        }
    }
}
