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

    /// How many of `wanted` launches may be begun now: all, none, or one to try.
    pub fn allowed(&self, wanted: u32, now: Instant) -> u32 {
        match self.open_until {
            None => wanted,
            Some(until) if now < until => 0,
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

    /// Whether launches are held back.
    pub fn is_open(&self) -> bool {
        self.open_until.is_some()
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
        assert_eq!(breaker.allowed(9, now), 9);
        breaker.failed(now);
        assert_eq!(breaker.allowed(9, now), 0);
        let later = now + Duration::from_secs(5);
        assert_eq!(breaker.allowed(9, later), 1);
        breaker.failed(later);
        assert_eq!(breaker.allowed(9, later), 0);
        breaker.succeeded();
        assert!(!breaker.is_open());
        assert_eq!(breaker.allowed(9, later), 9);
    }
}
