//! What has ended on a cluster stays there for a while, until its log is archived, and is then removed.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use yard_domain::{InstanceId, RemoteName};
use yard_ports::RemoteJob;
use yard_ports::store::AttemptRef;

/// The ended attempts that a cluster still has.
#[derive(Debug, Default)]
pub struct Leftovers {
    /// How long a log is waited for beyond an attempt's time.
    patience: Duration,
    /// When each is due; oldest first.
    queue: VecDeque<(Instant, AttemptRef)>,
    /// Due, but their logs are not archived yet.
    waiting: VecDeque<(Instant, AttemptRef)>,
    known: HashSet<AttemptRef>,
}

impl Leftovers {
    /// With nothing in it; logs are waited for `patience` longer than attempts would stay anyway.
    pub fn new(patience: Duration) -> Self {
        Self { patience, ..Self::default() }
    }

    /// Notes those of `remotes` that have ended and are `instance`'s, to be removed at `due`. What is noted
    /// already keeps its time. Returns what is new.
    pub fn note(&mut self, remotes: &[RemoteJob], instance: InstanceId, due: Instant) -> Vec<AttemptRef> {
        let ended = remotes.iter().filter(|r| r.status.is_end() && r.instance == Some(instance));
        let ended = ended.filter_map(|r| RemoteName::parse(r.name.as_str()));
        let ended = ended.map(|(job, attempt)| AttemptRef { job, attempt });
        let new: Vec<AttemptRef> = ended.filter(|r| self.known.insert(*r)).collect();
        self.queue.extend(new.iter().map(|r| (due, *r)));
        new
    }

    /// Those that are due and whose log is settled (or has been waited for for too long), taken out.
    pub fn take_due(&mut self, now: Instant, settled: impl Fn(AttemptRef) -> bool) -> Vec<RemoteName> {
        let split = self.queue.partition_point(|(due, _)| *due <= now);
        self.waiting.extend(self.queue.drain(..split));
        let mut taken = Vec::new();
        let patience = self.patience;
        self.waiting.retain(|(due, r)| {
            let go = settled(*r) || *due + patience <= now;
            if go {
                taken.push(*r);
            }
            !go
        });
        for r in &taken {
            self.known.remove(r);
        }
        taken.into_iter().map(|r| RemoteName::new(r.job, r.attempt)).collect()
    }
}

#[cfg(test)]
mod tests {
    use yard_domain::{AttemptNumber, JobId};
    use yard_ports::RemoteStatus;

    use super::*;

    #[test]
    fn what_ended_goes_when_its_time_is_over_and_its_log_is_kept() {
        let (ours, now) = (InstanceId(JobId::new(9, [9; 10]).0), Instant::now());
        let second = Duration::from_secs(1);
        let attempt = |n: u8| AttemptRef { job: JobId::new(1, [n; 10]), attempt: AttemptNumber(1) };
        let name = |n: u8| RemoteName::new(attempt(n).job, attempt(n).attempt);
        let ended = |n| RemoteJob { name: name(n), instance: Some(ours), status: RemoteStatus::Stopped };
        let mut leftovers = Leftovers::new(10 * second);
        assert_eq!(leftovers.note(&[ended(1), ended(2)], ours, now + second), [attempt(1), attempt(2)]);
        assert_eq!(leftovers.note(&[ended(2), ended(3)], ours, now + 2 * second), [attempt(3)]);
        let running = RemoteJob { status: RemoteStatus::Running, ..ended(4) };
        let foreign = RemoteJob { instance: None, ..ended(5) };
        assert_eq!(leftovers.note(&[running, foreign], ours, now), []);
        assert!(leftovers.take_due(now, |_| true).is_empty());
        assert_eq!(leftovers.take_due(now + second, |r| r == attempt(2)), [name(2)]);
        assert_eq!(leftovers.take_due(now + 2 * second, |r| r == attempt(3)), [name(3)]);
        assert_eq!(leftovers.take_due(now + 10 * second, |_| false), []);
        assert_eq!(leftovers.take_due(now + 11 * second, |_| false), [name(1)]);
    }
}
