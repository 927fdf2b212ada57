//! When a job will probably start, and how good such forecasts have been.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use yard_domain::Timestamp;
use yard_planner::Forecast;
use yard_ports::store::ForecastBucket;

use crate::views::time::time_text;

/// Fewer past starts than this say nothing.
const STARTS_MIN: u64 = 10;

/// When a job will probably start: the planner run forward over what is open and what waits. New jobs are not foreseen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExpectedStartView {
    /// `forecast`, or why there is none: `beyond_horizon`, `too_far`, `never_as_it_is`, `unseen`, `absent`.
    pub code: String,
    /// For people.
    pub message: String,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Not before; differs from `at` where several ends were taken together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// How far off expected starts have been that were about so far ahead; left out until there are some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub past_error: Option<PastErrorView>,
}

/// How far off expected starts have been: what schedulers expected of the first jobs of teams when they first kept room
/// for them, from the same estimates of how long jobs run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PastErrorView {
    /// Of how many starts.
    pub starts: u64,
    /// Half of them came within this many seconds of what was expected; left out if it was more than can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub half_within_s: Option<u64>,
    /// Nine of ten came at most this many seconds later than expected; left out if it was more than can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nine_of_ten_late_s: Option<u64>,
    /// For people.
    pub message: String,
}

impl ExpectedStartView {
    /// As seen at `now`; `errors` is how far off expected starts have been.
    pub(super) fn new(forecast: &Forecast, now: Timestamp, errors: &[ForecastBucket]) -> Self {
        match forecast {
            Forecast::Starts { cluster, at, after } => Self {
                code: "forecast".to_owned(),
                message: if at == after {
                    format!("expected at {at} on {cluster}")
                } else {
                    format!("expected by {at} on {cluster}, not before {after}")
                },
                at: Some(time_text(*at)),
                after: Some(time_text(*after)),
                cluster: Some(cluster.to_string()),
                past_error: PastErrorView::new(errors, at.since(now)),
            },
            Forecast::Unknown(why) => Self {
                code: why.code().to_owned(),
                message: why.to_string(),
                at: None,
                after: None,
                cluster: None,
                past_error: None,
            },
        }
    }
}

impl PastErrorView {
    /// Of starts that were expected about `ahead`; `None` if there were too few.
    fn new(errors: &[ForecastBucket], ahead: Duration) -> Option<Self> {
        let near = |b: &&ForecastBucket| b.horizon_from <= ahead && b.horizon_to.is_none_or(|to| ahead < to);
        let near: Vec<&ForecastBucket> = errors.iter().filter(near).collect();
        let starts: u64 = near.iter().map(|b| b.starts).sum();
        if starts < STARTS_MIN {
            return None;
        }
        // Of a bucket only its bounds are known, so each start in it counts as the worse one: never too good.
        let off = |b: &ForecastBucket| Some(b.late_from_us?.unsigned_abs().max(b.late_to_us?.unsigned_abs()));
        let late = |b: &ForecastBucket| b.late_to_us.map(|us| u64::try_from(us).unwrap_or(0));
        let half = quantile(near.iter().map(|b| (off(b), b.starts)), starts.div_ceil(2));
        let nine = quantile(near.iter().map(|b| (late(b), b.starts)), (starts * 9).div_ceil(10));
        let within = match half {
            Some(us) => format!("within {} half of the time", span(us)),
            None => "off by hours half of the time".to_owned(),
        };
        let later = match nine {
            Some(0) => "late at most one time in ten".to_owned(),
            Some(us) => format!("at most {} late nine times in ten", span(us)),
            None => "late by hours more than one time in ten".to_owned(),
        };
        Some(Self {
            starts,
            half_within_s: half.map(|us| us / 1_000_000),
            nine_of_ten_late_s: nine.map(|us| us / 1_000_000),
            message: format!("expected starts about so far ahead were {within}, {later} (n = {starts})"),
        })
    }
}

/// The smallest value that so many are at most; `None`: it lies among those without a bound.
fn quantile(values: impl Iterator<Item = (Option<u64>, u64)>, count: u64) -> Option<u64> {
    let mut sorted: Vec<(u64, u64)> = values.filter_map(|(value, n)| Some((value?, n))).collect();
    sorted.sort_unstable();
    let mut so_far = 0;
    sorted.into_iter().find_map(|(value, n)| {
        so_far += n;
        (so_far >= count).then_some(value)
    })
}

/// `1 min`, `4 h 16 min`: steps are whole minutes.
fn span(micros: u64) -> String {
    let minutes = micros.div_ceil(60_000_000);
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes} min"),
        (hours, 0) => format!("{hours} h"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;

    fn bucket(from: Option<i64>, to: Option<i64>, starts: u64) -> ForecastBucket {
        ForecastBucket {
            horizon_from: Duration::from_mins(4),
            horizon_to: Some(Duration::from_mins(16)),
            late_from_us: from.map(|m| m * MINUTE),
            late_to_us: to.map(|m| m * MINUTE),
            starts,
        }
    }

    #[test]
    fn past_errors_are_never_told_better_than_they_were() {
        let errors = [
            bucket(None, Some(-256), 5),
            bucket(Some(-4), Some(-1), 30),
            bucket(Some(-1), Some(1), 40),
            bucket(Some(1), Some(4), 30),
            bucket(Some(16), Some(64), 10),
            bucket(Some(256), None, 5),
        ];
        let ten = Duration::from_mins(10);
        let told = PastErrorView::new(&errors, ten).unwrap();
        assert_eq!(
            told.message,
            "expected starts about so far ahead were within 4 min half of the time, at most 1 h 4 min late nine times in \
             ten (n = 120)"
        );
        assert_eq!((told.half_within_s, told.nine_of_ten_late_s), (Some(240), Some(3_840)));
        assert_eq!(PastErrorView::new(&errors, Duration::from_hours(1)), None, "of another horizon");
        assert_eq!(PastErrorView::new(&errors[..1], ten), None, "too few");
        let bad = PastErrorView::new(&[bucket(Some(256), None, 20)], ten).unwrap();
        assert_eq!((bad.half_within_s, bad.nine_of_ten_late_s), (None, None));
        let early = PastErrorView::new(&[bucket(Some(-4), Some(-1), 20)], ten).unwrap();
        assert_eq!(early.nine_of_ten_late_s, Some(0));
    }
}
