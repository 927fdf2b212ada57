//! Events made into deliveries: what comes after the last step, and the next step. `push_pos` of meta is how far that is;
//! it moves in the transaction that writes the deliveries, so each event is made into its deliveries once.

use std::collections::BTreeMap;

use async_trait::async_trait;
use yard_domain::{DeliveryState, Lease, SubscriptionId};
use yard_ports::push::{NewDelivery, PushEvent, PushPage, PushStep};
use yard_ports::store::JobEvent;

use crate::backend::{TxKind, Value};
use crate::deliveries::count;
use crate::events::{self, Numbered, REJECTION};
use crate::fault::Fault;
use crate::fence::fence_scheduler;
use crate::reader::{Reader, id_value};
use crate::tx::{Conn, Work};
use crate::{rejections, sql};

/// See [`yard_ports::push::PushStore::push_page`].
pub(crate) struct Page {
    pub(crate) limit: u32,
}

#[async_trait]
impl Work for Page {
    type Out = PushPage;
    const NAME: &'static str = "push_page";
    const KIND: TxKind = TxKind::Snapshot;

    async fn run(&self, conn: &mut Conn) -> Result<PushPage, Fault> {
        let row = conn.rows("SELECT number FROM meta WHERE name = 'push_pos'", Vec::new()).await?.pop();
        let missing = || Fault::inconsistent("meta", &"push_pos", &"is missing");
        let after: u64 = Reader::new("meta", row.ok_or_else(missing)?).small("number")?;
        let head = events::head(conn).await?;
        let Numbered { refs, missed } = events::numbered(conn, after, self.limit).await?;
        // With nothing left of what came after, there is nothing to go on to but the end.
        let upto = refs.last().map_or(head.max(after), |(pos, _)| *pos);
        let mut lines = events::lines(conn, refs.iter().map(|(_, line)| *line)).await?;
        let without_job = refs.iter().filter(|(_, (_, seq))| *seq == REJECTION).map(|(_, (id, _))| *id);
        let mut without_job = rejections::find(conn, without_job).await?;
        let event = |(pos, line): (u64, events::Ref)| {
            if line.1 == REJECTION {
                return without_job.remove(&line.0).map(|rejection| PushEvent::Rejection(pos, rejection));
            }
            lines.remove(&line).map(|event| PushEvent::Line(JobEvent { pos, ..event }))
        };
        Ok(PushPage { after, events: refs.into_iter().filter_map(event).collect(), upto, missed })
    }
}

/// See [`yard_ports::push::PushStore::step_push`].
pub(crate) struct Step<'a> {
    pub(crate) lease: &'a Lease,
    pub(crate) step: PushStep<'a>,
}

#[async_trait]
impl Work for Step<'_> {
    type Out = bool;
    const NAME: &'static str = "step_push";

    async fn run(&self, conn: &mut Conn) -> Result<bool, Fault> {
        let now = fence_scheduler(conn, self.lease).await?;
        if !self.go_on(conn).await? {
            return Ok(false);
        }
        let mut by_subscription: BTreeMap<&SubscriptionId, Vec<&NewDelivery>> = BTreeMap::new();
        for delivery in self.step.deliveries {
            by_subscription.entry(&delivery.subscription).or_default().push(delivery);
        }
        let mut rows = Vec::with_capacity(self.step.deliveries.len());
        for (subscription, deliveries) in by_subscription {
            let max = self.step.pending_max;
            let pending = count(conn, subscription, DeliveryState::Pending, max).await?;
            let room = max.saturating_sub(pending) as usize;
            let us = Value::Int(now.as_micros());
            rows.extend(deliveries.into_iter().enumerate().map(|(nth, delivery)| {
                let (state, error) = if nth < room {
                    (DeliveryState::Pending, Value::Null)
                } else {
                    let error = format!("given up at once: {max} deliveries of {subscription} were waiting");
                    (DeliveryState::Dead, error.into())
                };
                vec![
                    subscription.team.as_str().into(),
                    subscription.name.as_str().into(),
                    i64::try_from(delivery.pos).unwrap_or(i64::MAX).into(),
                    id_value(delivery.lane),
                    state.code().into(),
                    Value::Int(0),
                    us.clone(),
                    us.clone(),
                    error,
                    delivery.body.as_str().into(),
                ]
            }));
        }
        let columns = [
            "team",
            "name",
            "pos",
            "lane",
            "state",
            "attempts",
            "due_us",
            "created_us",
            "last_error",
            "body",
        ];
        sql::insert(conn, "INSERT INTO deliveries", &columns, rows).await?;
        Ok(true)
    }
}

impl Step<'_> {
    /// Moves on from where the step begins; `false` if that is not where we are.
    async fn go_on(&self, conn: &mut Conn) -> Result<bool, Fault> {
        let position = |pos: u64| Value::Int(i64::try_from(pos).unwrap_or(i64::MAX));
        let upto = position(self.step.upto);
        let sql = "UPDATE meta SET number = ? WHERE name = 'push_pos' AND number = ?";
        Ok(conn.run(sql, vec![upto, position(self.step.after)]).await? == 1)
    }
}
