//! Medians and percentiles of small samples.

use std::time::Duration;

/// The value below which the share `q` (0 to 1) of the sample lies, by the nearest-rank method; NaN of nothing.
pub fn quantile(sample: &[f64], q: f64) -> f64 {
    let mut sorted = sample.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let needed = q * sorted.len() as f64 - 1e-9;
    let reached = sorted.iter().zip(1_u32..).find(|(_, rank)| f64::from(*rank) >= needed);
    reached.map_or(f64::NAN, |(value, _)| *value)
}

/// The middle of the sample; of an even number, the mean of the two in the middle. NaN of nothing.
pub fn median(sample: &[f64]) -> f64 {
    let mut sorted = sample.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match (sorted.get(half), sorted.len() % 2) {
        (None, _) => f64::NAN,
        (Some(middle), 1) => *middle,
        (Some(upper), _) => f64::midpoint(sorted[half - 1], *upper),
    }
}

/// Milliseconds.
pub fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

/// `n` per second.
pub fn rate(n: usize, span: Duration) -> f64 {
    n as f64 / span.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_rank_and_middle() {
        let sample: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let shown = |values: &[f64]| format!("{values:?}");
        assert_eq!(shown(&[0.0, 0.5, 0.99, 1.0].map(|q| quantile(&sample, q))), "[1.0, 50.0, 99.0, 100.0]");
        assert_eq!(shown(&[median(&sample), median(&[3.0]), quantile(&[3.0], 0.99)]), "[50.5, 3.0, 3.0]");
        assert!(median(&[]).is_nan() && quantile(&[], 0.5).is_nan());
    }
}
