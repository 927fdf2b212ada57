//! What was: runs that ended and jobs that arrived, by pages, for estimates and for replaying what really came.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;
use yard_domain::job::QueueOrder;
use yard_domain::{JobId, Shape, StateName, Timestamp};
use yard_ports::store::{EndedRun, PastArrival, TimeCursor};

use crate::backend::{Row, TxKind, Value};
use crate::codec::{read_request, read_selector};
use crate::fault::Fault;
use crate::hot;
use crate::reader::{Reader, id_value};
use crate::tx::{Conn, Work};

/// How far the clock of the process that made a job's id, plus the time from there to its acceptance, may be off the
/// database's at the edges of what [`Arrivals`] looks for.
pub(crate) const ID_SKEW_US: i64 = 60_000_000;

/// See [`yard_ports::store::Store::ended_runs`].
pub(crate) struct EndedRuns {
    pub(crate) after: TimeCursor,
    pub(crate) limit: u32,
}

#[async_trait]
impl Work for EndedRuns {
    type Out = Vec<EndedRun>;
    const NAME: &'static str = "ended_runs";
    const KIND: TxKind = TxKind::Read;

    async fn run(&self, conn: &mut Conn) -> Result<Vec<EndedRun>, Fault> {
        let sql = hot::ended_runs(conn.dialect);
        let (mut after, mut runs) = (self.after, Vec::new());
        // Jobs that never ran (expired, stopped in the queue) are no runs; a page of nothing else is not the end.
        while runs.is_empty() {
            let at = after.at.as_micros();
            let args = vec![at.into(), at.into(), id_value(after.job), self.limit.into()];
            let rows = conn.rows(sql.clone(), args).await?;
            let full = rows.len() == usize::try_from(self.limit).unwrap_or(usize::MAX);
            for row in rows {
                let (cursor, run) = read_run(row)?;
                after = cursor;
                runs.extend(run);
            }
            if !full || self.limit == 0 {
                break;
            }
        }
        Ok(runs)
    }
}

fn read_run(row: Row) -> Result<(TimeCursor, Option<EndedRun>), Fault> {
    let mut r = Reader::new("jobs", row);
    let job = r.job_id("id")?;
    let (team, shape) = (r.coded("team", |t| t.parse().ok())?, Shape(r.int("shape")?));
    let succeeded = r.coded("state", StateName::from_code)? == StateName::Succeeded;
    let ended_at = r.time("clock_us")?;
    let ran = ran(&mut r)?;
    let run = ran.map(|ran| EndedRun { job, team, shape, succeeded, ended_at, ran });
    Ok((TimeCursor { at: ended_at, job }, run))
}

/// From an attempt's start to its end, if it has both.
fn ran(r: &mut Reader) -> Result<Option<Duration>, Fault> {
    let (started, ended) = (r.opt_time("started_us")?, r.opt_time("ended_us")?);
    Ok(started.zip(ended).map(|(started, ended)| ended.since(started)))
}

/// See [`yard_ports::store::Store::arrivals`].
pub(crate) struct Arrivals {
    pub(crate) after: TimeCursor,
    pub(crate) until: Timestamp,
    pub(crate) limit: u32,
}

#[async_trait]
impl Work for Arrivals {
    type Out = Vec<PastArrival>;
    const NAME: &'static str = "arrivals";
    const KIND: TxKind = TxKind::Read;

    async fn run(&self, conn: &mut Conn) -> Result<Vec<PastArrival>, Fault> {
        let TimeCursor { at, job } = self.after;
        // From the second page on the job says all; only the first one needs to be found by the time.
        let (from, since) = if job.0.is_nil() {
            (first_id(at.as_micros().saturating_sub(ID_SKEW_US)), at.as_micros())
        } else {
            (job, i64::MIN)
        };
        let to = first_id(self.until.as_micros().saturating_add(ID_SKEW_US));
        let args: Vec<Value> = vec![
            id_value(from),
            id_value(to),
            since.into(),
            self.until.as_micros().into(),
            self.limit.into(),
        ];
        let rows = conn.rows(hot::arrivals(conn.dialect), args).await?;
        rows.into_iter().map(read_arrival).collect()
    }
}

/// The smallest id that can have been made at this time: version 7 begins with the milliseconds, in 48 bits.
pub(crate) fn first_id(at_us: i64) -> JobId {
    let ms = u128::try_from(at_us / 1_000).unwrap_or(0).min((1 << 48) - 1);
    JobId(Uuid::from_u128(ms << 80))
}

fn read_arrival(row: Row) -> Result<PastArrival, Fault> {
    let mut r = Reader::new("jobs", row);
    let job = r.job_id("id")?;
    let team = r.coded("team", |t| t.parse().ok())?;
    let at = r.time("created_us")?;
    let priority = QueueOrder(r.int("queue_order")?).priority();
    let (request, clusters) = (r.coded("request", read_request)?, r.coded("selector", read_selector)?);
    let run_timeout = Duration::from_micros(r.small("run_timeout_us")?);
    let queue_timeout = Duration::from_micros(r.small("queue_timeout_us")?);
    let waited = r.opt_time("placed_us")?.map(|placed| placed.since(at));
    let ran = ran(&mut r)?;
    Ok(PastArrival { job, team, at, priority, request, clusters, run_timeout, queue_timeout, ran, waited })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_ids_are_at_the_edge_of_their_millisecond() {
        let (at_ms, ids) = (1_795_386_645_123, [[0; 10], [255; 10]]);
        for random in ids {
            let id = JobId::new(at_ms, random);
            let at_us = i64::try_from(at_ms).unwrap() * 1_000;
            assert!(first_id(at_us) < id && id < first_id(at_us + 1_000));
        }
        assert_eq!(first_id(-1), JobId(Uuid::nil()));
        assert!(first_id(i64::MAX) > JobId::new(at_ms, [255; 10]));
    }
}
