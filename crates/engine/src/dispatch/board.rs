//! What a dispatcher knows of its cluster's open attempts, and what follows from what it sees. Pure: no
//! clock, no I/O; every method returns [`Action`]s for the actor to carry out.

use std::collections::{HashMap, HashSet};

use yard_domain::lifecycle::AttemptEnd;
use yard_domain::{AttemptNumber, Failure, FailureClass, JobId, RemoteName, StateName, Timestamp};
use yard_ports::store::{ActiveAttempt, AttemptRef, StopCause};
use yard_ports::{DriverError, RemoteJob, RemoteStatus};

/// Complete lists in a row that must lack an attempt whose launch was answered before it counts as lost: a
/// list may have been asked for before the launch was.
const MISSES_MAX: u8 = 3;

/// What the actor is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Record that it runs.
    RecordStart(AttemptRef),
    /// Record that it ended.
    RecordEnd(AttemptRef, AttemptEnd),
    /// Ask the cluster to stop it.
    Stop(AttemptRef),
    /// Call the cluster again: it is not known whether it was called.
    Relaunch(AttemptRef),
    /// Don't make the call if it has not been made yet.
    CancelLaunch(AttemptRef),
    /// It is on the cluster, but not on the board: ask the store whether it is current.
    CheckOrphan(RemoteJob),
}

/// How far the launch call of a `Launching` attempt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    /// Taken over: it may or may not have been made.
    Unknown,
    /// A launch task of ours is at it.
    InFlight,
    /// The task came back.
    Answered,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Launching(Call),
    Running,
    /// Its end is on the way into the store.
    Ended,
}

/// Why an attempt is to end before it does so by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    StopRequested,
    Preempted,
    LaunchDeadline,
    RunTimeout,
}

impl From<StopCause> for Cause {
    fn from(cause: StopCause) -> Self {
        match cause {
            StopCause::Requested => Self::StopRequested,
            StopCause::Preempted => Self::Preempted,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Tracked {
    number: AttemptNumber,
    phase: Phase,
    deadline: Timestamp,
    misses: u8,
    ending: Option<Ending>,
}

impl Tracked {
    /// Whether the launch call is still to be made (again).
    fn owes_call(&self) -> bool {
        self.phase == Phase::Launching(Call::Unknown) && self.ending.is_none()
    }
}

#[derive(Debug, Clone, Copy)]
struct Ending {
    cause: Cause,
    /// When the cluster was last asked; `None` until it has been.
    asked_at: Option<Timestamp>,
}

/// The open attempts of one cluster that have been or are being launched.
#[derive(Debug, Default)]
pub struct Board {
    attempts: HashMap<JobId, Tracked>,
    /// Launch tasks that have not come back, whatever has become of their attempts.
    launching: usize,
}

impl Board {
    /// Open attempts on the board.
    pub fn len(&self) -> usize {
        self.attempts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.attempts.is_empty()
    }

    /// Launch calls that are out.
    pub fn calls_in_flight(&self) -> usize {
        self.launching
    }

    /// Whether this very attempt is on the board.
    pub fn has(&self, r: AttemptRef) -> bool {
        self.attempts.get(&r.job).is_some_and(|t| t.number == r.attempt)
    }

    /// Whether this attempt is to be stopped.
    pub fn is_ending(&self, r: AttemptRef) -> bool {
        self.get(r).is_none_or(|t| t.ending.is_some() || t.phase == Phase::Ended)
    }

    fn get(&self, r: AttemptRef) -> Option<&Tracked> {
        self.attempts.get(&r.job).filter(|t| t.number == r.attempt)
    }

    fn get_mut(&mut self, r: AttemptRef) -> Option<&mut Tracked> {
        self.attempts.get_mut(&r.job).filter(|t| t.number == r.attempt)
    }

    /// An attempt found open in the store on takeover (or missing here on a full comparison).
    pub fn adopt(&mut self, found: &ActiveAttempt) {
        let phase = match found.state {
            StateName::Running => Phase::Running,
            _ => Phase::Launching(Call::Unknown),
        };
        let ending = found.stopping.map(|cause| Ending { cause: cause.into(), asked_at: None });
        let tracked = Tracked { number: found.attempt, phase, deadline: found.deadline, misses: 0, ending };
        self.attempts.entry(found.job).or_insert(tracked);
    }

    /// A launch whose beginning is committed: a launch task takes it from here.
    pub fn launch_begun(&mut self, r: AttemptRef, deadline: Timestamp) {
        let phase = Phase::Launching(Call::InFlight);
        let tracked = Tracked { number: r.attempt, phase, deadline, misses: 0, ending: None };
        self.attempts.insert(r.job, tracked);
        self.launching += 1;
    }

    /// Whether the launch call of `r` is still to be made (again).
    pub fn owes_call(&self, r: AttemptRef) -> bool {
        self.get(r).is_some_and(Tracked::owes_call)
    }

    /// A launch task was started again for an attempt on the board.
    pub fn relaunched(&mut self, r: AttemptRef) {
        if let Some(t) = self.get_mut(r)
            && t.phase == Phase::Launching(Call::Unknown)
        {
            t.phase = Phase::Launching(Call::InFlight);
            self.launching += 1;
        }
    }

    /// The store has its end (or says it is none of ours any more): off the board.
    pub fn settled(&mut self, r: AttemptRef) {
        if self.has(r) {
            self.attempts.remove(&r.job);
        }
    }

    /// The store has its start.
    pub fn started(&mut self, r: AttemptRef, deadline: Timestamp) {
        if let Some(t) = self.get_mut(r) {
            t.deadline = deadline;
        }
    }

    /// A launch task came back. `None`: it ended without having made the call.
    pub fn launch_answered(
        &mut self,
        r: AttemptRef,
        answer: Option<Result<Option<RemoteStatus>, DriverError>>,
    ) -> Vec<Action> {
        self.launching = self.launching.saturating_sub(1);
        let Some(t) = self.get_mut(r) else { return Vec::new() };
        if t.phase != Phase::Launching(Call::InFlight) {
            return Vec::new();
        }
        t.phase = Phase::Launching(Call::Answered);
        let failure = |class, e: &DriverError| AttemptEnd::Failed(Failure::new(class, None, e.to_string()));
        match answer {
            None if t.ending.is_some() => {
                let end = ended_by(t.ending).unwrap_or(AttemptEnd::Stopped);
                self.end(r, end)
            }
            // Not called, and nobody wants it stopped: the call is still owed.
            None => {
                t.phase = Phase::Launching(Call::Unknown);
                vec![]
            }
            Some(Ok(None)) => self.stop_if_ending(r),
            Some(Ok(Some(status))) => {
                let mut actions = self.status(r, &status);
                actions.extend(self.stop_if_ending(r));
                actions
            }
            Some(Err(e @ DriverError::Refused(_))) => self.end(r, failure(FailureClass::Refused, &e)),
            Some(Err(e @ DriverError::NameTaken(_))) => self.end(r, failure(FailureClass::Launch, &e)),
            // No clear answer until its time ran out: the launch deadline stops it.
            Some(Err(_)) => Vec::new(),
        }
    }

    fn stop_if_ending(&self, r: AttemptRef) -> Vec<Action> {
        match self.get(r) {
            Some(Tracked { ending: Some(Ending { asked_at: None, .. }), phase, .. })
                if *phase != Phase::Ended =>
            {
                vec![Action::Stop(r)]
            }
            _ => Vec::new(),
        }
    }

    /// The cluster shows one thing.
    pub fn observe(&mut self, remote: RemoteJob) -> Vec<Action> {
        let Some((job, attempt)) = RemoteName::parse(remote.name.as_str()) else { return Vec::new() };
        let r = AttemptRef { job, attempt };
        if self.has(r) { self.status(r, &remote.status) } else { vec![Action::CheckOrphan(remote)] }
    }

    /// The cluster shows everything it has. What should be there and is not has vanished.
    pub fn observe_all(&mut self, remotes: Vec<RemoteJob>) -> Vec<Action> {
        let mut seen = HashSet::with_capacity(remotes.len());
        let mut actions = Vec::new();
        for remote in remotes {
            if let Some((job, attempt)) = RemoteName::parse(remote.name.as_str()) {
                seen.insert(AttemptRef { job, attempt });
            }
            actions.extend(self.observe(remote));
        }
        let all = self.attempts.iter().map(|(job, t)| AttemptRef { job: *job, attempt: t.number });
        let missing: Vec<AttemptRef> = all.filter(|r| !seen.contains(r)).collect();
        for r in missing {
            actions.extend(self.missing(r));
        }
        actions
    }

    fn missing(&mut self, r: AttemptRef) -> Vec<Action> {
        let Some(t) = self.get_mut(r) else { return Vec::new() };
        match t.phase {
            Phase::Ended | Phase::Launching(Call::InFlight) => Vec::new(),
            _ if t.owes_call() => vec![Action::Relaunch(r)],
            Phase::Launching(Call::Unknown) => vec![Action::Stop(r)],
            Phase::Launching(Call::Answered) if t.misses + 1 < MISSES_MAX => {
                t.misses += 1;
                Vec::new()
            }
            Phase::Launching(Call::Answered) | Phase::Running => {
                let end = gone(t.ending, "it is not on the cluster any more");
                self.end(r, end)
            }
        }
    }

    fn status(&mut self, r: AttemptRef, status: &RemoteStatus) -> Vec<Action> {
        let Some(t) = self.get_mut(r) else { return Vec::new() };
        t.misses = 0;
        if t.phase == Phase::Ended {
            return Vec::new();
        }
        if *status == RemoteStatus::Pending && t.owes_call() {
            // Whoever called may have died in the middle of it, with the attempt made but not under way: only the
            // call itself, made again, carries that to its end.
            return vec![Action::Relaunch(r)];
        }
        if t.phase == Phase::Launching(Call::Unknown) {
            // It was launched after all.
            t.phase = Phase::Launching(Call::Answered);
        }
        let ending = t.ending;
        match status {
            RemoteStatus::Pending => self.stop_if_ending(r),
            RemoteStatus::Running if t.phase == Phase::Running => self.stop_if_ending(r),
            RemoteStatus::Running => {
                t.phase = Phase::Running;
                let mut actions = vec![Action::RecordStart(r)];
                actions.extend(self.stop_if_ending(r));
                actions
            }
            RemoteStatus::Succeeded => self.end(r, AttemptEnd::Succeeded),
            RemoteStatus::Failed(failure) => {
                let end = ended_by(ending).unwrap_or_else(|| AttemptEnd::Failed(failure.clone()));
                self.end(r, end)
            }
            RemoteStatus::Stopped => {
                let remotely = || {
                    let message = "somebody stopped it at the cluster";
                    AttemptEnd::Failed(Failure::new(FailureClass::StoppedRemotely, None, message))
                };
                let end = ended_by(ending).unwrap_or_else(remotely);
                self.end(r, end)
            }
        }
    }

    fn end(&mut self, r: AttemptRef, end: AttemptEnd) -> Vec<Action> {
        let Some(t) = self.get_mut(r) else { return Vec::new() };
        if t.phase == Phase::Ended {
            return Vec::new();
        }
        t.phase = Phase::Ended;
        vec![Action::RecordEnd(r, end)]
    }

    /// It is to be stopped. One that is not on the board has been placed but not launched: nothing of it is on the
    /// cluster, so it ends at once.
    pub fn stop_wish(&mut self, r: AttemptRef, cause: StopCause) -> Vec<Action> {
        let Some(t) = self.attempts.get_mut(&r.job) else {
            let ending = Some(Ending { cause: cause.into(), asked_at: None });
            return ended_by(ending).map(|end| Action::RecordEnd(r, end)).into_iter().collect();
        };
        if t.number != r.attempt || t.phase == Phase::Ended {
            return Vec::new();
        }
        match t.ending {
            Some(Ending { cause: Cause::StopRequested, .. }) => Vec::new(),
            Some(_) if cause == StopCause::Preempted => Vec::new(),
            other => {
                // A person's wish outranks a clock or another's need: the job ends as stopped and is not tried again.
                let asked_at = other.and_then(|e| e.asked_at);
                t.ending = Some(Ending { cause: cause.into(), asked_at });
                if t.phase == Phase::Launching(Call::InFlight) {
                    vec![Action::CancelLaunch(r)]
                } else {
                    self.stop_if_ending(r)
                }
            }
        }
    }

    /// Attempts whose launch call is owed: taken over or never made, and not being ended.
    pub fn owed(&self) -> Vec<Action> {
        let owed = self.attempts.iter().filter(|(_, t)| t.owes_call());
        owed.map(|(job, t)| Action::Relaunch(AttemptRef { job: *job, attempt: t.number })).collect()
    }

    /// Clocks that have run out at `now`, and stops that have been asked for in vain since `ask_again` before.
    pub fn due(&mut self, now: Timestamp, ask_again: std::time::Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        for (job, t) in &mut self.attempts {
            let r = AttemptRef { job: *job, attempt: t.number };
            if t.ending.is_none() && t.deadline.is_due(now) {
                let cause = match t.phase {
                    Phase::Running => Some(Cause::RunTimeout),
                    Phase::Launching(Call::InFlight) | Phase::Ended => None,
                    Phase::Launching(_) => Some(Cause::LaunchDeadline),
                };
                t.ending = cause.map(|cause| Ending { cause, asked_at: None });
            }
            let askable = !matches!(t.phase, Phase::Ended | Phase::Launching(Call::InFlight));
            let waited = |e: &Ending| e.asked_at.is_none_or(|at| at.plus(ask_again).is_due(now));
            if askable && t.ending.as_ref().is_some_and(waited) {
                actions.push(Action::Stop(r));
            }
        }
        actions
    }

    /// The cluster was asked to stop it, and answered.
    pub fn stop_answered(
        &mut self,
        r: AttemptRef,
        answer: &Result<(), DriverError>,
        now: Timestamp,
    ) -> Vec<Action> {
        let Some(t) = self.get_mut(r) else { return Vec::new() };
        let Some(ending) = &mut t.ending else { return Vec::new() };
        match answer {
            Ok(()) => {
                ending.asked_at = Some(now);
                Vec::new()
            }
            // Not there yet, perhaps: the call is still out.
            Err(DriverError::NotFound) if t.phase == Phase::Launching(Call::InFlight) => Vec::new(),
            Err(DriverError::NotFound) => {
                let end = gone(t.ending, "it is not on the cluster");
                self.end(r, end)
            }
            // Asked again by `due`.
            Err(_) => Vec::new(),
        }
    }

    /// The cluster has been silent for longer than its grace: up to `limit` attempts count as lost.
    pub fn lose(&mut self, limit: usize) -> Vec<Action> {
        let open = |t: &Tracked| !matches!(t.phase, Phase::Ended | Phase::Launching(Call::InFlight));
        let all = self.attempts.iter().filter(|(_, t)| open(t));
        let lost: Vec<AttemptRef> =
            all.take(limit).map(|(job, t)| AttemptRef { job: *job, attempt: t.number }).collect();
        let mut actions = Vec::new();
        for r in lost {
            let ending = self.get(r).and_then(|t| t.ending);
            let end = gone(ending, "the cluster has been silent for longer than its grace");
            actions.extend(self.end(r, end));
        }
        actions
    }

    /// The full comparison with the store: what is open there and not here is taken on; what is here and not
    /// open there goes. `open` is everything open in the store; `pending` tells what is on its way there.
    pub fn compare(&mut self, open: &[ActiveAttempt], pending: impl Fn(AttemptRef) -> bool) -> usize {
        let known: HashSet<AttemptRef> =
            open.iter().map(|a| AttemptRef { job: a.job, attempt: a.attempt }).collect();
        let before = self.attempts.len();
        self.attempts.retain(|job, t| {
            let r = AttemptRef { job: *job, attempt: t.number };
            known.contains(&r) || pending(r) || t.phase == Phase::Launching(Call::InFlight)
        });
        let gone = before - self.attempts.len();
        let before = self.attempts.len();
        for found in open {
            self.adopt(found);
        }
        gone + self.attempts.len() - before
    }
}

/// How an attempt ends that was being ended by us.
fn ended_by(ending: Option<Ending>) -> Option<AttemptEnd> {
    let failed = |class, message: &str| AttemptEnd::Failed(Failure::new(class, None, message));
    ending.map(|e| match e.cause {
        Cause::StopRequested => AttemptEnd::Stopped,
        Cause::Preempted => failed(FailureClass::Preempted, "it was stopped to make room for another job"),
        Cause::LaunchDeadline => failed(FailureClass::Launch, "it was not running by its launch deadline"),
        Cause::RunTimeout => failed(FailureClass::RunTimeout, "it ran longer than its run timeout"),
    })
}

/// How an attempt ends that is not there any more.
fn gone(ending: Option<Ending>, how: &str) -> AttemptEnd {
    ended_by(ending).unwrap_or_else(|| AttemptEnd::Failed(Failure::new(FailureClass::Lost, None, how)))
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
