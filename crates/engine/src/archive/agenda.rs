//! Whose log is read next; pure. Attempts take turns by when they are due, so none is left out however many there are.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;
use yard_domain::KeptLog;
use yard_ports::store::AttemptRef;

use super::turn::Outcome;
use crate::settings::LogSettings;

/// First pause after a turn of an ended attempt that failed; doubles up to the interval between turns.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// A pause is at least this many times as long as the turn before took.
const PAUSE_PER_TURN: u32 = 4;

/// How far an attempt has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It runs, or has not been seen.
    Open,
    /// It was asked to stop since its last turn: its pods may be gone soon.
    Stopping,
    /// It counts as over, and was not seen to have ended.
    Over,
    /// It was seen to have ended: its log doesn't grow any more.
    Ended,
}

/// An attempt whose turn it is.
#[derive(Debug)]
pub struct Due {
    /// Which.
    pub attempt: AttemptRef,
    /// What is kept of it; `None` if the archive has to be asked.
    pub kept: Option<KeptLog>,
    /// How far it had come before this turn.
    pub stage: Stage,
    /// Whether this is the last try.
    pub last_try: bool,
}

struct Entry {
    kept: Option<KeptLog>,
    /// Since when it counts as over.
    over_at: Option<Instant>,
    /// Whether it was seen to have ended.
    ended: bool,
    /// Whether that was so when its turn began.
    read_ended: bool,
    /// Whether it was asked to stop since its last turn began.
    stopping: bool,
    failures: u32,
    place: Place,
}

#[derive(Clone, Copy)]
enum Place {
    /// In the queue.
    Queued(Instant, u64),
    /// Being read since then.
    Reading(Instant),
}

/// See the module.
pub struct Agenda {
    interval: Duration,
    end_wait: Duration,
    entries: HashMap<AttemptRef, Entry>,
    queue: BTreeMap<(Instant, u64), AttemptRef>,
    count: u64,
}

impl Agenda {
    /// With nothing on it.
    pub fn new(settings: &LogSettings) -> Self {
        Self {
            interval: settings.chunk_interval,
            end_wait: settings.end_wait,
            entries: HashMap::new(),
            queue: BTreeMap::new(),
            count: 0,
        }
    }

    /// An attempt of which nothing can be kept yet.
    pub fn begun(&mut self, attempt: AttemptRef, now: Instant) {
        self.note(attempt, Some(KeptLog::default()), now);
    }

    /// An attempt that runs. Whether that is new.
    pub fn running(&mut self, attempt: AttemptRef, now: Instant) -> bool {
        self.note(attempt, None, now)
    }

    fn note(&mut self, attempt: AttemptRef, kept: Option<KeptLog>, now: Instant) -> bool {
        let new = !self.entries.contains_key(&attempt);
        if new {
            let place = self.queue(attempt, now + self.interval);
            self.entries.insert(
                attempt,
                Entry {
                    kept,
                    over_at: None,
                    ended: false,
                    read_ended: false,
                    stopping: false,
                    failures: 0,
                    place,
                },
            );
        }
        new
    }

    /// An attempt that is about to be stopped: its pods may be gone before it is seen to have ended.
    pub fn stopping(&mut self, attempt: AttemptRef, now: Instant) {
        self.note(attempt, None, now);
        let Some(entry) = self.entries.get_mut(&attempt).filter(|e| e.over_at.is_none() && !e.stopping)
        else {
            return;
        };
        entry.stopping = true;
        if let Place::Queued(at, n) = entry.place {
            self.queue.remove(&(at, n));
            let place = self.queue(attempt, now);
            self.entries.entry(attempt).and_modify(|e| e.place = place);
        }
    }

    /// An attempt that was seen to have ended.
    pub fn ended(&mut self, attempt: AttemptRef, now: Instant) {
        self.finish(attempt, true, now);
    }

    /// An attempt that counts as over: it has ended, or is lost.
    pub fn over(&mut self, attempt: AttemptRef, now: Instant) {
        self.finish(attempt, false, now);
    }

    fn finish(&mut self, attempt: AttemptRef, seen: bool, now: Instant) {
        self.note(attempt, None, now);
        let Some(entry) = self.entries.get_mut(&attempt) else { return };
        if entry.over_at.is_some() && entry.ended >= seen {
            return;
        }
        entry.over_at.get_or_insert(now);
        (entry.ended, entry.failures) = (entry.ended || seen, 0);
        if let Place::Queued(at, n) = entry.place {
            self.queue.remove(&(at, n));
            let place = self.queue(attempt, now);
            self.entries.entry(attempt).and_modify(|e| e.place = place);
        }
    }

    /// Whether its log is not settled.
    pub fn has(&self, attempt: AttemptRef) -> bool {
        self.entries.contains_key(&attempt)
    }

    /// When the next one is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next one that is due. It must come back through [`Agenda::done`].
    pub fn take_due(&mut self, now: Instant) -> Option<Due> {
        let first = self.queue.first_entry().filter(|first| first.key().0 <= now)?;
        let attempt = first.remove();
        let entry = self.entries.get_mut(&attempt)?;
        entry.place = Place::Reading(now);
        entry.read_ended = entry.ended;
        let stopping = std::mem::take(&mut entry.stopping);
        Some(Due {
            attempt,
            kept: entry.kept.take(),
            stage: match (entry.ended, entry.over_at) {
                (true, _) => Stage::Ended,
                (false, Some(_)) => Stage::Over,
                (false, None) if stopping => Stage::Stopping,
                (false, None) => Stage::Open,
            },
            last_try: entry.over_at.is_some_and(|at| now >= at + self.end_wait),
        })
    }

    /// What came of a turn.
    pub fn done(&mut self, attempt: AttemptRef, kept: Option<KeptLog>, outcome: Outcome, now: Instant) {
        let Some(entry) = self.entries.get_mut(&attempt) else { return };
        let Place::Reading(since) = entry.place else { return };
        let took = now.duration_since(since);
        entry.kept = kept;
        let pause = match (outcome, entry.over_at) {
            (Outcome::Settled, _) => {
                self.entries.remove(&attempt);
                return;
            }
            (Outcome::More, _) => Duration::ZERO,
            (Outcome::Failed, Some(over_at)) => {
                entry.failures += 1;
                let doubled = RETRY_FIRST.saturating_mul(1 << entry.failures.min(16));
                let last = (over_at + self.end_wait).saturating_duration_since(now);
                doubled.min(self.interval.max(RETRY_FIRST)).min(last.max(RETRY_FIRST))
            }
            // It has ended during the turn.
            (Outcome::Later, _) if entry.stopping || (entry.ended && !entry.read_ended) => Duration::ZERO,
            (Outcome::Later, _) | (Outcome::Failed, None) => self.interval.max(took * PAUSE_PER_TURN),
        };
        let place = self.queue(attempt, now + pause);
        self.entries.entry(attempt).and_modify(|e| e.place = place);
    }

    fn queue(&mut self, attempt: AttemptRef, at: Instant) -> Place {
        self.count += 1;
        self.queue.insert((at, self.count), attempt);
        Place::Queued(at, self.count)
    }
}

#[cfg(test)]
mod tests {
    use yard_domain::{AttemptNumber, JobId};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn attempt(n: u8) -> AttemptRef {
        AttemptRef { job: JobId::new(1, [n; 10]), attempt: AttemptNumber(1) }
    }

    fn agenda() -> Agenda {
        Agenda::new(&LogSettings {
            chunk_interval: 10 * SECOND,
            end_wait: 60 * SECOND,
            ..LogSettings::default()
        })
    }

    #[test]
    fn attempts_take_turns_and_an_ended_one_does_not_wait_for_its_turn() {
        let (mut agenda, start) = (agenda(), Instant::now());
        agenda.begun(attempt(1), start);
        agenda.running(attempt(2), start);
        agenda.running(attempt(2), start + SECOND);
        assert!(agenda.take_due(start + 9 * SECOND).is_none());
        assert_eq!(agenda.next_due(), Some(start + 10 * SECOND));
        agenda.ended(attempt(2), start + 2 * SECOND);
        let due = agenda.take_due(start + 2 * SECOND).unwrap();
        assert_eq!((due.attempt, due.kept, due.stage, due.last_try), (attempt(2), None, Stage::Ended, false));
        agenda.done(attempt(2), None, Outcome::Settled, start + 3 * SECOND);
        assert!(!agenda.has(attempt(2)));
        let due = agenda.take_due(start + 10 * SECOND).unwrap();
        assert_eq!((due.attempt, due.kept, due.stage), (attempt(1), Some(KeptLog::default()), Stage::Open));
        assert!(agenda.next_due().is_none());
        agenda.done(attempt(1), None, Outcome::Later, start + 15 * SECOND);
        assert_eq!(
            agenda.next_due(),
            Some(start + 35 * SECOND),
            "a turn that took long makes a longer pause"
        );
    }

    #[test]
    fn one_that_ends_during_its_turn_has_another_at_once() {
        let (mut agenda, start) = (agenda(), Instant::now());
        agenda.begun(attempt(1), start);
        let due = agenda.take_due(start + 10 * SECOND).unwrap();
        assert_eq!(due.stage, Stage::Open);
        agenda.ended(attempt(1), start + 11 * SECOND);
        agenda.done(attempt(1), None, Outcome::Later, start + 12 * SECOND);
        assert_eq!(agenda.take_due(start + 12 * SECOND).unwrap().stage, Stage::Ended);
    }

    #[test]
    fn one_that_is_to_stop_has_a_turn_at_once_for_its_pods() {
        let (mut agenda, start) = (agenda(), Instant::now());
        agenda.begun(attempt(1), start);
        agenda.stopping(attempt(1), start + SECOND);
        assert_eq!(agenda.take_due(start + SECOND).unwrap().stage, Stage::Stopping);
        agenda.done(attempt(1), None, Outcome::Later, start + SECOND);
        assert!(agenda.take_due(start + SECOND).is_none());
        assert_eq!(agenda.take_due(start + 11 * SECOND).unwrap().stage, Stage::Open);
        // Asked during a turn: the next one is at once.
        agenda.stopping(attempt(1), start + 12 * SECOND);
        agenda.done(attempt(1), None, Outcome::Later, start + 13 * SECOND);
        assert_eq!(agenda.take_due(start + 13 * SECOND).unwrap().stage, Stage::Stopping);
    }

    #[test]
    fn failures_of_an_ended_one_are_tried_again_until_its_time_is_over() {
        let (mut agenda, start) = (agenda(), Instant::now());
        agenda.ended(attempt(1), start);
        let (mut tries, mut now) = (0, start);
        loop {
            let due = agenda.take_due(now).unwrap();
            tries += 1;
            agenda.done(attempt(1), None, Outcome::Failed, now);
            if due.last_try {
                break;
            }
            now = agenda.next_due().unwrap();
        }
        assert_eq!(now, start + 60 * SECOND);
        assert!((5..=12).contains(&tries), "{tries}");
    }
}
