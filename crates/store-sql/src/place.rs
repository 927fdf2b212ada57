//! Where in the queue a job is.

use std::time::Duration;

use async_trait::async_trait;
use yard_domain::job::QueueOrder;
use yard_domain::{JobId, Shape, StateName};
use yard_ports::store::{QueueHead, QueuePlace};

use crate::backend::{Dialect, TxKind};
use crate::codec::{read_request, read_selector};
use crate::fault::Fault;
use crate::reader::{Reader, id_value};
use crate::tx::{Conn, Work};

/// See [`yard_ports::store::Store::queue_place`].
pub(crate) struct FindPlace {
    pub(crate) id: JobId,
}

#[async_trait]
impl Work for FindPlace {
    type Out = Option<QueuePlace>;
    const NAME: &'static str = "queue_place";
    const KIND: TxKind = TxKind::Snapshot;

    async fn run(&self, conn: &mut Conn) -> Result<Option<QueuePlace>, Fault> {
        let sql = "SELECT id, team, shape, request, selector, run_timeout_us, queue_order FROM jobs \
                   WHERE id = ? AND state = ?";
        let args = vec![id_value(self.id), StateName::Queued.code().into()];
        let Some(row) = conn.rows(sql, args).await?.pop() else { return Ok(None) };
        let mut r = Reader::new("jobs", row);
        r.job_id("id")?;
        let head = QueueHead {
            team: r.coded("team", |t| t.parse().ok())?,
            shape: Shape(r.int("shape")?),
            request: r.coded("request", read_request)?,
            clusters: r.coded("selector", read_selector)?,
            run_timeout: Duration::from_micros(r.small("run_timeout_us")?),
            orders: vec![QueueOrder(r.int("queue_order")?)],
        };
        let order = head.orders[0].0;
        let args = vec![head.team.as_str().into(), order.into(), order.into(), id_value(self.id)];
        let mut place = QueuePlace { head, ahead_of_team: 0, ahead_of_group: 0 };
        for row in conn.rows(ahead(conn.dialect), args).await? {
            let mut r = Reader::new("jobs", row);
            let (shape, count) = (Shape(r.int("shape")?), r.small::<u64>("count")?);
            place.ahead_of_team += count;
            if shape == place.head.shape {
                place.ahead_of_group = count;
            }
        }
        Ok(Some(place))
    }
}

/// How many of a team's queued jobs go before a place in the queue, by shape: team, order, order, job. Reads the team's
/// own entries of the index, and nothing else: exact, and asked by people, not by loops.
fn ahead(dialect: Dialect) -> String {
    let index = dialect.index("jobs_ready");
    format!(
        "SELECT shape, COUNT(*) FROM jobs{index} WHERE ready = 1 AND team = ? \
         AND (queue_order < ? OR (queue_order = ? AND id < ?)) GROUP BY shape"
    )
}
