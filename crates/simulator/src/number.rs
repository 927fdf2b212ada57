//! Between fractions and whole units, in one place: rounded, never below zero, saturating.

use std::time::Duration;

/// The nearest whole number; 0 for what is negative or no number.
pub(crate) fn whole(value: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates; never below 0")]
    {
        value.round().max(0.0) as u64
    }
}

/// An index from a fraction of `len`; the last one at most.
pub(crate) fn index(fraction: f64, len: usize) -> usize {
    usize::try_from(whole((fraction * len as f64).floor())).unwrap_or(usize::MAX).min(len.saturating_sub(1))
}

/// A span of so many seconds, to the microsecond.
pub(crate) fn seconds(value: f64) -> Duration {
    Duration::from_micros(whole(value * 1e6))
}
