//! How far off expected starts were: a small histogram, from which an explanation can say how much to make of one.
//!
//! Two scales of powers of four, from one minute on: how far ahead the start was expected (`horizon`, steps 0 to 6:
//! below 1 min, 4 min, 16 min, 64 min, 4.3 h, 17.1 h, and beyond) and how late it came (`late`, steps -5 to 5, from
//! "more than 4.3 h early" by "within a minute" to "more than 4.3 h late").
//!
//! Old behaviour fades: when the starts of a horizon reach [`STARTS_MAX`], each of its counts is halved. So a start
//! counts half after about 512 further ones of its horizon, a quarter after 1,024.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use yard_domain::Lease;
use yard_ports::store::{ForecastBucket, ForecastError};

use crate::backend::{Row, TxKind, Value};
use crate::fault::Fault;
use crate::fence::glance_scheduler;
use crate::reader::Reader;
use crate::sql;
use crate::tx::{Conn, Work};

/// Most starts counted of one horizon.
const STARTS_MAX: u64 = 1_024;

/// The largest step of the horizons, and of the delays.
const HORIZON_LAST: i64 = 6;
const LATE_LAST: i64 = 5;

const MINUTE_US: u64 = 60_000_000;

/// Which step a span falls into: 0 below a minute, then one more for each power of four.
fn step(micros: u64, last: i64) -> i64 {
    (0..last).find(|step| micros < edge_us(*step)).unwrap_or(last)
}

/// Where a step ends.
fn edge_us(step: i64) -> u64 {
    MINUTE_US << (2 * step)
}

/// The step of an error: 0 within a minute, negative if it came early.
fn late_step(late_us: i64) -> i64 {
    step(late_us.unsigned_abs(), LATE_LAST) * late_us.signum()
}

fn bucket(horizon: i64, late: i64, starts: u64) -> ForecastBucket {
    let span = |step| Duration::from_micros(edge_us(step));
    // Lower edge of an early step is the upper one of its mirror image.
    let late_edge = |step: i64| i64::try_from(edge_us(step)).unwrap_or(i64::MAX);
    let (late_from, late_to) = match late {
        0 => (Some(-late_edge(0)), Some(late_edge(0))),
        1.. => (Some(late_edge(late - 1)), (late < LATE_LAST).then(|| late_edge(late))),
        _ => ((late > -LATE_LAST).then(|| -late_edge(-late)), Some(-late_edge(-late - 1))),
    };
    ForecastBucket {
        horizon_from: if horizon == 0 { Duration::ZERO } else { span(horizon - 1) },
        horizon_to: (horizon < HORIZON_LAST).then(|| span(horizon)),
        late_from_us: late_from,
        late_to_us: late_to,
        starts,
    }
}

/// Makes the rows, unless they are there.
pub(crate) async fn seed(conn: &mut Conn) -> Result<(), Fault> {
    let steps = (0..=HORIZON_LAST).flat_map(|h| (-LATE_LAST..=LATE_LAST).map(move |l| (h, l)));
    let rows = steps.map(|(h, l)| vec![h.into(), l.into(), Value::Int(0)]).collect();
    let head = format!("{}forecast_errors", conn.dialect.insert_ignore());
    sql::insert(conn, &head, &["horizon", "late", "starts"], rows).await
}

fn read(row: Row) -> Result<((i64, i64), u64), Fault> {
    let mut r = Reader::new("forecast_errors", row);
    Ok(((r.int("horizon")?, r.int("late")?), r.small("starts")?))
}

/// Counts these errors in what is counted so far, and halves what has become too much.
fn count(counts: &mut BTreeMap<(i64, i64), u64>, errors: &[ForecastError]) {
    for error in errors {
        let micros = u64::try_from(error.horizon.as_micros()).unwrap_or(u64::MAX);
        let horizon = step(micros, HORIZON_LAST);
        if let Some(starts) = counts.get_mut(&(horizon, late_step(error.late_us))) {
            *starts += 1;
        }
        let of_horizon = (horizon, -LATE_LAST)..=(horizon, LATE_LAST);
        if counts.range(of_horizon.clone()).map(|(_, starts)| starts).sum::<u64>() >= STARTS_MAX {
            counts.range_mut(of_horizon).for_each(|(_, starts)| *starts /= 2);
        }
    }
}

/// See [`yard_ports::store::Store::add_forecast_errors`].
pub(crate) struct AddErrors<'a> {
    pub(crate) lease: &'a Lease,
    pub(crate) errors: &'a [ForecastError],
}

#[async_trait]
impl Work for AddErrors<'_> {
    type Out = ();
    const NAME: &'static str = "add_forecast_errors";

    async fn run(&self, conn: &mut Conn) -> Result<(), Fault> {
        glance_scheduler(conn, self.lease).await?;
        if self.errors.is_empty() {
            return Ok(());
        }
        let (index, lock) = (conn.dialect.index("PRIMARY"), conn.dialect.for_update());
        let sql =
            format!("SELECT horizon, late, starts FROM forecast_errors{index} ORDER BY horizon, late{lock}");
        let rows = conn.rows(sql, Vec::new()).await?;
        let before: BTreeMap<_, _> = rows.into_iter().map(read).collect::<Result<_, _>>()?;
        let mut counts = before.clone();
        count(&mut counts, self.errors);
        let changed: BTreeSet<_> = counts.iter().filter(|(step, n)| before.get(step) != Some(n)).collect();
        for ((horizon, late), starts) in changed {
            let sql = "UPDATE forecast_errors SET starts = ? WHERE horizon = ? AND late = ?";
            let starts = i64::try_from(*starts).unwrap_or(i64::MAX);
            conn.run(sql, vec![starts.into(), (*horizon).into(), (*late).into()]).await?;
        }
        Ok(())
    }
}

/// See [`yard_ports::store::Store::forecast_errors`].
pub(crate) struct Errors;

#[async_trait]
impl Work for Errors {
    type Out = Vec<ForecastBucket>;
    const NAME: &'static str = "forecast_errors";
    const KIND: TxKind = TxKind::Read;

    async fn run(&self, conn: &mut Conn) -> Result<Vec<ForecastBucket>, Fault> {
        let sql = "SELECT horizon, late, starts FROM forecast_errors WHERE starts > 0 ORDER BY horizon, late";
        let rows = conn.rows(sql, Vec::new()).await?.into_iter();
        rows.map(|row| read(row).map(|((horizon, late), starts)| bucket(horizon, late, starts))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn every_error_falls_into_the_bucket_that_names_it() {
        for late_s in [0, 59, 60, 61, 239, 240, 3_000, 100_000, 10_000_000] {
            for late_us in [late_s * SECOND, -late_s * SECOND] {
                let found = bucket(0, late_step(late_us), 1);
                assert!(found.late_from_us.is_none_or(|from| from <= late_us), "{late_us} {found:?}");
                assert!(found.late_to_us.is_none_or(|to| late_us <= to), "{late_us} {found:?}");
            }
        }
        for minutes in [0, 1, 3, 4, 63, 64, 1_023, 1_024, 1 << 30] {
            let found = bucket(step(minutes * MINUTE_US, HORIZON_LAST), 0, 1);
            let horizon = Duration::from_mins(minutes);
            assert!(
                found.horizon_from <= horizon && found.horizon_to.is_none_or(|to| horizon < to),
                "{found:?}"
            );
        }
    }

    #[test]
    fn old_errors_fade() {
        let mut counts: BTreeMap<(i64, i64), u64> =
            (-LATE_LAST..=LATE_LAST).map(|late| ((0, late), 0)).collect();
        let error = |late_us| ForecastError { horizon: Duration::ZERO, late_us };
        count(&mut counts, &vec![error(0); 1_000]);
        assert_eq!(counts[&(0, 0)], 1_000);
        count(&mut counts, &vec![error(3_600 * SECOND); 3_000]);
        assert!(counts.values().sum::<u64>() < STARTS_MAX);
        assert!(counts[&(0, 0)] < 50, "{counts:?}");
        assert!(counts[&(0, 3)] > 500, "{counts:?}");
    }
}
