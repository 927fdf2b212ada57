//! What has ended on a cluster stays there for a while, for its log, and is then removed.

use std::collections::{HashSet, VecDeque};

use tokio::time::Instant;
use yard_domain::{AttemptNumber, InstanceId, JobId, RemoteName};
use yard_ports::RemoteJob;

type Key = (JobId, AttemptNumber);

/// The ended attempts that a cluster still has, and when each is due for removal; oldest first.
#[derive(Debug, Default)]
pub struct Leftovers {
    queue: VecDeque<(Instant, Key)>,
    known: HashSet<Key>,
}

impl Leftovers {
    /// Notes those of `remotes` that have ended and are `instance`'s, to be removed at `due`. What is noted
    /// already keeps its time.
    pub fn note(&mut self, remotes: &[RemoteJob], instance: InstanceId, due: Instant) {
        for remote in remotes.iter().filter(|r| r.status.is_end() && r.instance == Some(instance)) {
            if let Some(key) = RemoteName::parse(remote.name.as_str())
                && self.known.insert(key)
            {
                self.queue.push_back((due, key));
            }
        }
    }

    /// The next one that is due, taken out.
    pub fn pop_due(&mut self, now: Instant) -> Option<RemoteName> {
        let (_, key) = self.queue.pop_front_if(|(due, _)| *due <= now)?;
        self.known.remove(&key);
        Some(RemoteName::new(key.0, key.1))
    }
}
