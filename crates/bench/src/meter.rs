//! Counts and times from the product's own metrics, to say where time went.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

use crate::Result;
use crate::report::Detail;

/// What one series has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tally {
    /// Observations of a histogram.
    pub count: u64,
    /// Their sum; a counter's or gauge's value.
    pub sum: f64,
}

#[derive(Debug, Default)]
struct Series(Mutex<Tally>);

impl Series {
    fn change(&self, change: impl FnOnce(&mut Tally)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl CounterFn for Series {
    fn increment(&self, value: u64) {
        self.change(|t| t.sum += value as f64);
    }

    fn absolute(&self, value: u64) {
        self.change(|t| t.sum = t.sum.max(value as f64));
    }
}

impl GaugeFn for Series {
    fn increment(&self, value: f64) {
        self.change(|t| t.sum += value);
    }

    fn decrement(&self, value: f64) {
        self.change(|t| t.sum -= value);
    }

    fn set(&self, value: f64) {
        self.change(|t| t.sum = value);
    }
}

impl HistogramFn for Series {
    fn record(&self, value: f64) {
        self.change(|t| {
            t.count += 1;
            t.sum += value;
        });
    }
}

/// A recorder that keeps sums only.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    series: Arc<Mutex<BTreeMap<String, Arc<Series>>>>,
}

/// All series at one moment, by `name{label=value}`.
#[derive(Debug, Clone, Default)]
pub struct Reading(BTreeMap<String, Tally>);

impl Meter {
    /// Makes it this process's recorder.
    pub fn install() -> Result<Self> {
        let meter = Self::default();
        metrics::set_global_recorder(meter.clone())?;
        Ok(meter)
    }

    /// The present values.
    pub fn read(&self) -> Reading {
        let series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let value = |s: &Series| *s.0.lock().unwrap_or_else(PoisonError::into_inner);
        Reading(series.iter().map(|(name, s)| (name.clone(), value(s))).collect())
    }

    fn of(&self, key: &Key) -> Arc<Series> {
        let labels: Vec<String> = key.labels().map(|l| format!("{}={}", l.key(), l.value())).collect();
        let name = format!("{}{{{}}}", key.name(), labels.join(","));
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        series.entry(name).or_default().clone()
    }
}

impl Recorder for Meter {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.of(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.of(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.of(key))
    }
}

impl Reading {
    /// What came since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let change = |(name, now): (&String, &Tally)| {
            let before = earlier.0.get(name).copied().unwrap_or_default();
            (name.clone(), Tally { count: now.count - before.count, sum: now.sum - before.sum })
        };
        Self(self.0.iter().map(change).collect())
    }

    /// Every series of this metric, by its labels.
    pub fn of<'a>(&'a self, metric: &'a str) -> impl Iterator<Item = (&'a str, Tally)> {
        self.0.iter().filter_map(move |(name, tally)| {
            let labels = name.strip_prefix(metric)?.strip_prefix('{')?.strip_suffix('}')?;
            Some((labels, *tally))
        })
    }

    /// The sum over all labels.
    pub fn total(&self, metric: &str) -> f64 {
        self.of(metric).map(|(_, tally)| tally.sum).sum()
    }

    /// The store's transactions by verb: how many, how long each; the ones that took the most time first.
    pub fn transactions(&self) -> Vec<Detail> {
        let mut verbs: Vec<(&str, Tally)> =
            self.of("yard_store_tx_seconds").filter(|(_, t)| t.count > 0).collect();
        verbs.sort_by(|a, b| b.1.sum.total_cmp(&a.1.sum));
        let line = |(labels, t): (&str, Tally)| {
            let verb = labels.strip_prefix("name=").unwrap_or(labels);
            let what =
                format!("{verb}: {} transactions, {:.2} ms each", t.count, t.sum / t.count as f64 * 1e3);
            Detail::new(what, t.sum, "s")
        };
        let retries = self.of("yard_store_tx_retries_total").filter(|(_, t)| t.sum > 0.0);
        let retry = |(labels, t): (&str, Tally)| Detail::new(format!("redone: {labels}"), t.sum, "times");
        verbs.into_iter().map(line).chain(retries.map(retry)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_tell_what_came_since() {
        let meter = Meter::default();
        metrics::with_local_recorder(&meter, || {
            metrics::histogram!("yard_store_tx_seconds", "name" => "claim").record(0.5);
            let before = meter.read();
            metrics::histogram!("yard_store_tx_seconds", "name" => "claim").record(0.25);
            metrics::histogram!("yard_store_tx_seconds", "name" => "now").record(2.0);
            metrics::counter!("yard_store_tx_retries_total", "code" => "deadlock").increment(3);
            let lines = meter.read().since(&before).transactions();
            let shown: Vec<(&str, f64)> = lines.iter().map(|d| (d.what.as_str(), d.value)).collect();
            assert_eq!(
                shown,
                [
                    ("now: 1 transactions, 2000.00 ms each", 2.0),
                    ("claim: 1 transactions, 250.00 ms each", 0.25),
                    ("redone: code=deadlock", 3.0),
                ]
            );
        });
    }
}
