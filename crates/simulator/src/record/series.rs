//! Values over time in a bounded number of buckets of one width, which doubles as the run grows longer.

use std::time::Duration;

use yard_domain::Timestamp;

/// Most buckets of a series.
const BUCKETS_MAX: usize = 512;
/// Samples per bucket of what is sampled and not integrated.
const SAMPLES: u32 = 16;

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    sum: f64,
    weight: f64,
    max: f64,
}

/// One value over time.
#[derive(Debug, Clone, Default)]
pub(super) struct Series(Vec<Bucket>);

impl Series {
    fn add(&mut self, bucket: usize, value: f64, weight: f64) {
        if self.0.len() <= bucket {
            self.0.resize(bucket + 1, Bucket::default());
        }
        let b = &mut self.0[bucket];
        *b = Bucket { sum: b.sum + value * weight, weight: b.weight + weight, max: b.max.max(value) };
    }

    fn halve(&mut self) {
        let pairs = self.0.chunks(2).map(|pair| {
            pair.iter().fold(Bucket::default(), |a, b| Bucket {
                sum: a.sum + b.sum,
                weight: a.weight + b.weight,
                max: a.max.max(b.max),
            })
        });
        self.0 = pairs.collect();
    }

    /// The mean of each bucket; of one in which nothing was counted, that of the one before.
    pub(super) fn means(&self) -> Vec<f64> {
        let mut last = 0.0;
        let mean = |b: &Bucket| {
            if b.weight > 0.0 {
                last = b.sum / b.weight;
            }
            last
        };
        self.0.iter().map(mean).collect()
    }

    /// The largest value of each bucket.
    pub(super) fn maxima(&self) -> Vec<f64> {
        self.0.iter().map(|b| b.max).collect()
    }

    /// The mean over all of the time that was counted.
    pub(super) fn mean(&self) -> f64 {
        let (sum, weight) = self.0.iter().fold((0.0, 0.0), |(s, w), b| (s + b.sum, w + b.weight));
        if weight > 0.0 { sum / weight } else { 0.0 }
    }

    /// The largest value ever.
    pub(super) fn max(&self) -> f64 {
        self.0.iter().map(|b| b.max).fold(0.0, f64::max)
    }
}

/// What series share: where they begin and how wide their buckets are.
#[derive(Debug, Clone)]
pub(super) struct Grid {
    start: i64,
    width: i64,
    next_sample: i64,
}

impl Grid {
    pub(super) fn new() -> Self {
        Self { start: 0, width: 1_000_000, next_sample: 0 }
    }

    pub(super) fn begin(&mut self, at: Timestamp) {
        self.start = at.as_micros();
        self.next_sample = self.start;
    }

    /// The width of a bucket.
    pub(super) fn width(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.width).unwrap_or(0))
    }

    /// Makes room for a time.
    pub(super) fn reach<'s>(&mut self, at: Timestamp, all: impl Iterator<Item = &'s mut Series>) {
        let mut halvings = 0;
        while self.bucket(at.as_micros()) >= BUCKETS_MAX {
            self.width *= 2;
            halvings += 1;
        }
        if halvings > 0 {
            for series in all {
                (0..halvings).for_each(|_| series.halve());
            }
        }
    }

    fn bucket(&self, at: i64) -> usize {
        usize::try_from((at - self.start) / self.width).unwrap_or(0)
    }

    /// The buckets from `from` to `to` (which must have been reached), with the seconds in each.
    pub(super) fn spans(&self, from: Timestamp, to: Timestamp) -> impl Iterator<Item = (usize, f64)> + use<> {
        let (mut at, to, start, width) = (from.as_micros(), to.as_micros(), self.start, self.width);
        std::iter::from_fn(move || {
            if at >= to {
                return None;
            }
            let bucket = (at - start) / width;
            let end = (start + (bucket + 1) * width).min(to);
            let seconds = (end - at) as f64 / 1e6;
            at = end;
            Some((usize::try_from(bucket).unwrap_or(0), seconds))
        })
    }

    pub(super) fn integrate(&self, series: &mut Series, from: Timestamp, to: Timestamp, value: f64) {
        for (bucket, seconds) in self.spans(from, to) {
            series.add(bucket, value, seconds);
        }
    }

    /// A single value at a time.
    pub(super) fn sample(&self, series: &mut Series, at: Timestamp, value: f64) {
        series.add(self.bucket(at.as_micros()), value, 1.0);
    }

    /// The last sampling point after the one before and before `until`, if there is one.
    pub(super) fn sampling_point(&mut self, until: Timestamp) -> Option<Timestamp> {
        if until.as_micros() <= self.next_sample {
            return None;
        }
        let step = (self.width / i64::from(SAMPLES)).max(1);
        let at = self.next_sample + (until.as_micros() - 1 - self.next_sample) / step * step;
        self.next_sample = at + step;
        Some(Timestamp::from_micros(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn the_mean_over_time_does_not_depend_on_the_width() {
        let (mut grid, mut series) = (Grid::new(), Series::default());
        grid.begin(at(100));
        let mut now = at(100);
        for i in 0..5_000 {
            let next = now.plus(Duration::from_millis(700 + i % 5 * 100));
            grid.reach(next, std::iter::once(&mut series));
            grid.integrate(&mut series, now, next, if i % 2 == 0 { 1.0 } else { 0.0 });
            now = next;
        }
        assert!(series.0.len() <= BUCKETS_MAX && grid.width() >= Duration::from_secs(8));
        assert!((series.mean() - 0.5).abs() < 0.001, "{}", series.mean());
        assert!(series.means()[..250].iter().all(|m| (0.3..0.7).contains(m)));
        assert!((series.max() - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn samples_are_taken_on_the_grid() {
        let mut grid = Grid::new();
        grid.begin(at(0));
        assert_eq!(grid.sampling_point(at(0)), None);
        assert_eq!(grid.sampling_point(at(10)).map(Timestamp::as_micros), Some(9_937_500));
        assert_eq!(grid.sampling_point(Timestamp::from_micros(9_990_000)), None);
    }
}
