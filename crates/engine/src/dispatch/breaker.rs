//! A circuit breaker (Nygard, "Release It!"): after some failed launch calls in a row, launches wait for a
//! while, then one may try.

use std::time::Duration;

use tokio::time::Instant;

/// Holds launches back while a cluster refuses or loses them.
#[derive(Debug)]
pub struct Breaker {
    threshold: u32,
    pause: Duration,
    failures: u32,
    open_until: Option<Instant>,
}

impl Breaker {
    /// Opens after `threshold` failures in a row, for `pause`.
    pub fn new(threshold: u32, pause: Duration) -> Self {
        Self { threshold: threshold.max(1), pause, failures: 0, open_until: None }
    }

    /// How many of `wanted` launches may be begun now, beside those `in_flight`: all, none, or one to try.
    pub fn allowed(&self, wanted: u32, in_flight: usize, now: Instant) -> u32 {
        match self.open_until {
            None => wanted,
            Some(_) if self.is_holding(in_flight, now) => 0,
            Some(_) => wanted.min(1),
        }
    }

    /// A call came through (whatever it said about its job).
    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.open_until = None;
    }

    /// A call did not come through.
    pub fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= self.threshold {
            self.open_until = Some(now + self.pause);
        }
    }

    /// Whether launches are held back now. A launch that is `in_flight` is called again and again, which tries enough.
    /// With none, one may try once the pause is over, so that from then on jobs may be placed there again: otherwise
    /// there would be nothing to try with.
    pub fn is_holding(&self, in_flight: usize, now: Instant) -> bool {
        self.open_until.is_some_and(|until| now < until || in_flight > 0)
    }

    /// Whether the last calls failed and none has come through since.
    pub fn is_open(&self) -> bool {
        self.open_until.is_some()
    }
}

/// Launches that failed lately: a count that halves with each half-life.
#[derive(Debug)]
pub struct RecentFailures {
    half_life: Duration,
    count: f64,
    as_of: Instant,
}

impl RecentFailures {
    /// None yet.
    pub fn new(half_life: Duration, now: Instant) -> Self {
        Self { half_life, count: 0.0, as_of: now }
    }

    /// One more.
    pub fn add(&mut self, now: Instant) {
        self.count = self.decayed(now) + 1.0;
        self.as_of = now;
    }

    /// How many, rounded.
    pub fn count(&self, now: Instant) -> u32 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bounded, and not negative"
        )]
        let count = self.decayed(now).round().clamp(0.0, f64::from(u32::MAX)) as u32;
        count
    }

    fn decayed(&self, now: Instant) -> f64 {
        let half_lives =
            now.saturating_duration_since(self.as_of).as_secs_f64() / self.half_life.as_secs_f64().max(0.001);
        self.count * (-half_lives).exp2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn opens_lets_one_try_and_closes() {
        let mut breaker = Breaker::new(2, Duration::from_secs(5));
        let now = Instant::now();
        breaker.failed(now);
        assert_eq!(breaker.allowed(9, 1, now), 9);
        breaker.failed(now);
        assert_eq!(breaker.allowed(9, 0, now), 0);
        assert!(breaker.is_holding(0, now));
        let later = now + Duration::from_secs(5);
        assert_eq!(breaker.allowed(9, 0, later), 1);
        assert!(breaker.is_open() && !breaker.is_holding(0, later), "there must be something to try with");
        assert_eq!(breaker.allowed(9, 1, later), 0, "one is at it");
        assert!(breaker.is_holding(1, later));
        breaker.failed(later);
        assert_eq!(breaker.allowed(9, 0, later), 0);
        breaker.succeeded();
        assert!(!breaker.is_open());
        assert_eq!(breaker.allowed(9, 1, later), 9);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_fade() {
        let now = Instant::now();
        let mut failures = RecentFailures::new(Duration::from_mins(1), now);
        (0..8).for_each(|_| failures.add(now));
        let after = |minutes| failures.count(now + Duration::from_mins(minutes));
        assert_eq!([after(0), after(1), after(2), after(3), after(10)], [8, 4, 2, 1, 0]);
    }
}
