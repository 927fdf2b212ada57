//! Push: subscriptions of teams to what happens to their submissions, and when a delivery that failed is tried again.

use std::fmt;
use std::time::Duration;

use crate::ids::{PushName, TeamId};

/// A subscription: whose, and its name inside the team.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionId {
    /// Whose submissions it tells about.
    pub team: TeamId,
    /// Its name.
    pub name: PushName,
}

impl fmt::Display for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.team, self.name)
    }
}

/// What a subscription is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PushKinds {
    /// Verdicts on submissions: accepted, rejected, conflict.
    pub verdicts: bool,
    /// Ends of jobs.
    pub ends: bool,
}

impl Default for PushKinds {
    fn default() -> Self {
        Self { verdicts: true, ends: true }
    }
}

/// How often, and after what waits, a delivery is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PushRetry {
    /// Most attempts; then the delivery is dead.
    pub attempts_max: u32,
    /// Wait after the first attempt; doubles.
    pub backoff_initial: Duration,
    /// Longest wait.
    pub backoff_max: Duration,
}

impl Default for PushRetry {
    /// About twelve hours in all.
    fn default() -> Self {
        Self {
            attempts_max: 24,
            backoff_initial: Duration::from_secs(1),
            backoff_max: Duration::from_hours(1),
        }
    }
}

impl PushRetry {
    /// How long to wait after the `attempts`-th attempt has failed; `None`: that was the last. The wait is between half of
    /// and the whole of what doubling gives ("equal jitter"), by `jitter` in `0.0..=1.0`; at least what the receiver
    /// `asked` for, but never more than `backoff_max`.
    pub fn wait(&self, attempts: u32, asked: Option<Duration>, jitter: f64) -> Option<Duration> {
        if attempts >= self.attempts_max {
            return None;
        }
        let doublings = attempts.saturating_sub(1).min(31);
        let whole = self.backoff_initial.saturating_mul(1 << doublings).min(self.backoff_max);
        let spread = whole.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0));
        Some(spread.max(asked.unwrap_or_default().min(self.backoff_max)))
    }
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// It waits for its turn, or for its next attempt.
    Pending,
    /// It has been given up, and is kept for a while: it can be sent again.
    Dead,
}

impl DeliveryState {
    /// The stable code stored and shown.
    pub fn code(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Dead => "dead",
        }
    }

    /// Reads [`DeliveryState::code`] back.
    pub fn from_code(code: &str) -> Option<Self> {
        [Self::Pending, Self::Dead].into_iter().find(|state| state.code() == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: PushRetry = PushRetry {
        attempts_max: 5,
        backoff_initial: Duration::from_secs(2),
        backoff_max: Duration::from_secs(10),
    };

    fn seconds(attempts: u32, asked: Option<u64>, jitter: f64) -> Option<f64> {
        RETRY.wait(attempts, asked.map(Duration::from_secs), jitter).map(|wait| wait.as_secs_f64())
    }

    #[test]
    fn waits_double_up_to_the_longest_and_end_with_the_last_attempt() {
        let waits: Vec<_> = (1..=5).map(|attempts| seconds(attempts, None, 1.0)).collect();
        assert_eq!(waits, [Some(2.0), Some(4.0), Some(8.0), Some(10.0), None]);
        assert_eq!((seconds(1, None, 0.0), seconds(4, None, 0.0)), (Some(1.0), Some(5.0)));
        assert_eq!(
            PushRetry { attempts_max: u32::MAX, ..RETRY }.wait(4_000, None, 1.0).unwrap().as_secs(),
            10
        );
    }

    #[test]
    fn a_receiver_may_ask_for_a_longer_wait_up_to_the_longest() {
        assert_eq!(seconds(1, Some(7), 1.0), Some(7.0));
        assert_eq!(seconds(2, Some(1), 1.0), Some(4.0));
        assert_eq!(seconds(1, Some(86_400), 1.0), Some(10.0));
        assert_eq!(seconds(5, Some(7), 1.0), None);
    }

    #[test]
    fn by_default_a_receiver_may_be_away_for_half_a_day() {
        let retry = PushRetry::default();
        let least: Duration = (1..).map_while(|attempts| retry.wait(attempts, None, 0.0)).sum();
        let most: Duration = (1..).map_while(|attempts| retry.wait(attempts, None, 1.0)).sum();
        assert!(least > Duration::from_hours(6) && most < Duration::from_hours(13), "{least:?} {most:?}");
    }
}
