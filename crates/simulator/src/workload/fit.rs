//! Distributions that go through published quantiles.
//!
//! A quantile function is put together from pieces that meet at the published quantiles, so it reproduces them
//! exactly: a log-normal body through the two lowest, and a Pareto piece (a straight line in log-log coordinates of
//! value and probability of exceeding it) between each of the others. Beyond the last it is cut off. Nothing is
//! estimated from samples, because none are published; between the points the shape is our assumption.
//!
//! Arrivals per ten minutes (26,000 bins): p50 4, p95 23, p99 127, max 3,475. The log-normal body through 4 and 23 has
//! σ = ln(23/4)/1.645 = 1.06; it would put p99 at 47, so the tail is not log-normal. Pareto exponents: 0.94 from p95 to
//! p99, 1.68 from p99 to the maximum, which stands at 1/26,000.
//!
//! Run times (83,154 jobs): p50 1,186 s, p90 12,860 s, p99 287,333 s. Body σ = ln(12,860/1,186)/1.282 = 1.86, which would put
//! p99 at 89,800 s; the Pareto exponent from p90 on is 0.74. No maximum is published: it is cut off at 14 days (the
//! longest run timeout of the standard run), where 0.35 % of the jobs end up.

/// A quantile function through given points.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantiles {
    /// Mean and standard deviation of the logarithm in the body.
    body: (f64, f64),
    /// (probability of exceeding it, value), from the end of the body on.
    tail: Vec<(f64, f64)>,
    max: f64,
}

impl Quantiles {
    /// Through the median, the end of the body, then further points, each as (probability of being at most this,
    /// value), rising. Beyond the last point the last piece goes on up to `max`.
    pub fn through(median: f64, body_end: (f64, f64), points: &[(f64, f64)], max: f64) -> Self {
        let sigma = (body_end.1 / median).ln() / normal_quantile(body_end.0);
        let tail = std::iter::once(&body_end).chain(points).map(|(p, x)| (1.0 - p, *x)).collect();
        Self { body: (median.ln(), sigma), tail, max }
    }

    /// Arrivals per ten minutes.
    pub fn arrivals() -> Self {
        Self::through(4.0, (0.95, 23.0), &[(0.99, 127.0), (1.0 - 1.0 / 26_000.0, 3_475.0)], 3_475.0)
    }

    /// Run times in seconds.
    pub fn run_times() -> Self {
        Self::through(1_186.0, (0.90, 12_860.0), &[(0.99, 287_333.0)], 14.0 * 86_400.0)
    }

    /// The value that a share `p` (between 0 and 1) does not exceed.
    pub fn at(&self, p: f64) -> f64 {
        let above = 1.0 - p.clamp(1e-12, 1.0 - 1e-12);
        let (mu, sigma) = self.body;
        if above >= self.tail[0].0 {
            return (mu + sigma * normal_quantile(1.0 - above)).exp().min(self.max);
        }
        let last = self.tail.len().saturating_sub(2);
        let piece = (0..last).find(|i| above >= self.tail[i + 1].0).unwrap_or(last);
        let ((p0, x0), (p1, x1)) = (self.tail[piece], self.tail[piece + 1]);
        let exponent = (p0 / p1).ln() / (x1 / x0).ln();
        (x0 * (p0 / above).powf(1.0 / exponent)).min(self.max)
    }
}

/// The standard normal quantile function (Acklam's rational approximation, relative error below 1.2e-9).
fn normal_quantile(p: f64) -> f64 {
    const A: [f64; 6] = [
        -39.696_830_286_653_76,
        220.946_098_424_520_5,
        -275.928_510_446_968_7,
        138.357_751_867_269,
        -30.664_798_066_147_16,
        2.506_628_277_459_239,
    ];
    const B: [f64; 5] = [
        -54.476_098_798_224_06,
        161.585_836_858_040_9,
        -155.698_979_859_886_6,
        66.801_311_887_719_72,
        -13.280_681_552_885_72,
    ];
    const C: [f64; 6] = [
        -0.007_784_894_002_430_293,
        -0.322_396_458_041_136_5,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 4] =
        [0.007_784_695_709_041_462, 0.322_467_129_070_039_8, 2.445_134_137_142_996, 3.754_408_661_907_416];
    const LOW: f64 = 0.024_25;
    let poly = |c: &[f64], x: f64| c.iter().fold(0.0, |sum, k| sum * x + k);
    if p < LOW {
        let q = (-2.0 * p.ln()).sqrt();
        return poly(&C, q) / (poly(&D, q) * q + 1.0);
    }
    if p > 1.0 - LOW {
        return -normal_quantile(1.0 - p);
    }
    let q = p - 0.5;
    let r = q * q;
    poly(&A, r) * q / (poly(&B, r) * r + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_points_are_met_exactly() {
        let near = |got: f64, want: f64| assert!((got / want - 1.0).abs() < 1e-3, "{got} for {want}");
        let arrivals = Quantiles::arrivals();
        for (p, x) in [(0.5, 4.0), (0.95, 23.0), (0.99, 127.0), (1.0 - 1.0 / 26_000.0, 3_475.0)] {
            near(arrivals.at(p), x);
        }
        near(arrivals.at(1.0), 3_475.0);
        let runs = Quantiles::run_times();
        for (p, x) in [(0.5, 1_186.0), (0.9, 12_860.0), (0.99, 287_333.0), (1.0, 1_209_600.0)] {
            near(runs.at(p), x);
        }
    }

    #[test]
    fn quantiles_rise() {
        for quantiles in [Quantiles::arrivals(), Quantiles::run_times()] {
            let values: Vec<f64> = (0..=10_000).map(|i| quantiles.at(f64::from(i) / 10_000.0)).collect();
            assert!(values.is_sorted(), "a piece does not meet the one before");
            assert!(values[0] > 0.0);
        }
    }

    #[test]
    fn the_normal_quantile_is_that_of_the_tables() {
        for (p, z) in
            [(0.5, 0.0), (0.9, 1.281_551_6), (0.95, 1.644_853_6), (0.99, 2.326_347_9), (0.01, -2.326_347_9)]
        {
            assert!((normal_quantile(p) - z).abs() < 1e-6, "{p}");
        }
    }
}
