//! Open attempts as placement must know them, and the wish that some of them make room.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use yard_domain::job::QueueOrder;
use yard_domain::{AttemptNumber, JobId, Lease, Shape};
use yard_ports::store::{AttemptRef, OpenHolding, PreemptOrder};

use crate::backend::{Row, TxKind};
use crate::codec::read_request;
use crate::fault::Fault;
use crate::fence::fence_scheduler;
use crate::hot;
use crate::moves::{Moves, actor_of, lock_jobs};
use crate::reader::Reader;
use crate::rows::current_preemption;
use crate::text::fit_chars;
use crate::tx::{Conn, Work};

/// See [`yard_ports::store::Store::open_holdings`].
pub(crate) struct OpenHoldings {
    pub(crate) limit: u32,
}

#[async_trait]
impl Work for OpenHoldings {
    type Out = Vec<OpenHolding>;
    const NAME: &'static str = "open_holdings";
    const KIND: TxKind = TxKind::Read;

    async fn run(&self, conn: &mut Conn) -> Result<Vec<OpenHolding>, Fault> {
        let rows = conn.rows(hot::holdings(conn.dialect), vec![self.limit.into()]).await?;
        rows.into_iter().map(read).collect()
    }
}

fn read(row: Row) -> Result<OpenHolding, Fault> {
    let mut r = Reader::new("jobs", row);
    let attempt = AttemptRef { job: r.job_id("id")?, attempt: AttemptNumber(r.small("attempts")?) };
    let (team, shape) = (r.coded("team", |t| t.parse().ok())?, Shape(r.int("shape")?));
    let cluster = r.coded("cluster", |t| t.parse().ok())?;
    let request = r.coded("request", read_request)?;
    let order = QueueOrder(r.int("queue_order")?);
    let placed_at = r.time("placed_us")?;
    let started_at = r.opt_time("started_us")?;
    let run_timeout = Duration::from_micros(r.small("run_timeout_us")?);
    let stop = r.opt_time("stop_us")?;
    let preempt = current_preemption(r.opt_time("preempt_us")?, Some(placed_at));
    let leaving = stop.is_some() || preempt.is_some();
    Ok(OpenHolding {
        attempt,
        team,
        shape,
        cluster,
        request,
        order,
        placed_at,
        started_at,
        run_timeout,
        leaving,
    })
}

/// See [`yard_ports::store::Store::request_preemptions`].
pub(crate) struct RequestPreemptions<'a> {
    pub(crate) lease: &'a Lease,
    pub(crate) orders: &'a [PreemptOrder],
}

#[async_trait]
impl Work for RequestPreemptions<'_> {
    type Out = u32;
    const NAME: &'static str = "request_preemptions";

    async fn run(&self, conn: &mut Conn) -> Result<u32, Fault> {
        let now = fence_scheduler(conn, self.lease).await?;
        let mut held = lock_jobs(conn, self.orders.iter().map(|o| o.attempt.job)).await?;
        let mut moves = Moves::new(actor_of(self.lease), now);
        let mut asked = BTreeMap::new();
        for PreemptOrder { attempt, for_team, reason } in self.orders {
            let Some(job) = held.get_mut(&attempt.job) else { continue };
            let reason = fit_chars(reason, 2_000);
            let event = job.record.job.request_preemption(attempt.attempt, for_team.clone(), reason);
            let Some((event, open)) = event.zip(job.record.job.state.open_attempt().cloned()) else {
                continue;
            };
            moves.apply(job, &event)?;
            asked.insert(attempt.job, open.cluster);
        }
        Moves::wish(conn, asked.iter().map(|(job, cluster): (&JobId, _)| (cluster, *job))).await?;
        moves.write(conn, held.values()).await?;
        Ok(u32::try_from(asked.len()).unwrap_or(u32::MAX))
    }
}
