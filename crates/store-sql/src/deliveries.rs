//! Deliveries: those whose turn it is, what became of attempts, and what people see and do.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use yard_domain::{DeliveryState, Lease, LeaseScope, SubscriptionId, Timestamp};
use yard_ports::push::{DeliveryFilter, DeliveryResult, DeliveryRow, DueDelivery, Resend};
use yard_ports::store::StoreError;

use crate::backend::{Row, TxKind, Value};
use crate::catalog;
use crate::fault::Fault;
use crate::fence::fence_scheduler;
use crate::hot;
use crate::reader::{Reader, id_value};
use crate::sql;
use crate::text::fit_chars;
use crate::tx::{Conn, Work};

/// Longest error kept, in characters.
const ERROR_CHARS: usize = 1_000;

fn key(subscription: &SubscriptionId) -> [Value; 2] {
    [subscription.team.as_str().into(), subscription.name.as_str().into()]
}

fn position(pos: u64) -> Value {
    Value::Int(i64::try_from(pos).unwrap_or(i64::MAX))
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// Proves that the lease is valid, and is on this subscription.
async fn fence(conn: &mut Conn, lease: &Lease, subscription: &SubscriptionId) -> Result<Timestamp, Fault> {
    if lease.scope != LeaseScope::push(subscription) {
        let reason = format!("the lease {} is not on the subscription {subscription}", lease.scope);
        return Err(StoreError::Rejected { context: conn.verb, reason }.into());
    }
    fence_scheduler(conn, lease).await
}

/// How many are in a state, counted no further than `limit`.
pub(crate) async fn count(
    conn: &mut Conn,
    subscription: &SubscriptionId,
    state: DeliveryState,
    limit: u32,
) -> Result<u32, Fault> {
    let index = conn.dialect.index("deliveries_due");
    let sql = format!(
        "SELECT COUNT(*) FROM (SELECT 1 FROM deliveries{index} WHERE team = ? AND name = ? AND state = ? LIMIT ?) AS few"
    );
    let mut args = key(subscription).to_vec();
    args.extend([state.code().into(), limit.into()]);
    let row = conn.rows(sql, args).await?.pop().unwrap_or_default();
    Reader::new("deliveries", row).small("count")
}

/// See [`yard_ports::push::PushStore::count_deliveries`].
pub(crate) struct Count<'a> {
    pub(crate) subscription: &'a SubscriptionId,
    pub(crate) state: DeliveryState,
    pub(crate) limit: u32,
}

#[async_trait]
impl Work for Count<'_> {
    type Out = u32;
    const NAME: &'static str = "count_deliveries";
    const KIND: TxKind = TxKind::Read;

    async fn run(&self, conn: &mut Conn) -> Result<u32, Fault> {
        count(conn, self.subscription, self.state, self.limit).await
    }
}

/// See [`yard_ports::push::PushStore::delivery_subscriptions`].
pub(crate) struct Subscriptions;

#[async_trait]
impl Work for Subscriptions {
    type Out = Vec<SubscriptionId>;
    const NAME: &'static str = "delivery_subscriptions";
    const KIND: TxKind = TxKind::Read;

    async fn run(&self, conn: &mut Conn) -> Result<Vec<SubscriptionId>, Fault> {
        // From one to the next: a DISTINCT might read every entry.
        let index = conn.dialect.index("PRIMARY");
        let first = format!("SELECT team, name FROM deliveries{index} ORDER BY team, name LIMIT 1");
        let name = format!(
            "SELECT team, name FROM deliveries{index} WHERE team = ? AND name > ? ORDER BY team, name LIMIT 1"
        );
        let team =
            format!("SELECT team, name FROM deliveries{index} WHERE team > ? ORDER BY team, name LIMIT 1");
        let mut found: Vec<SubscriptionId> = Vec::new();
        let mut row = conn.rows(first, Vec::new()).await?.pop();
        while let Some(there) = row {
            let id = subscription(&mut Reader::new("deliveries", there))?;
            row = conn.rows(name.clone(), key(&id).to_vec()).await?.pop();
            if row.is_none() {
                row = conn.rows(team.clone(), vec![id.team.as_str().into()]).await?.pop();
            }
            found.push(id);
        }
        Ok(found)
    }
}

fn subscription(r: &mut Reader) -> Result<SubscriptionId, Fault> {
    Ok(SubscriptionId {
        team: r.coded("team", |t| t.parse().ok())?,
        name: r.coded("name", |t| t.parse().ok())?,
    })
}

/// See [`yard_ports::push::PushStore::due_deliveries`].
pub(crate) struct Due<'a> {
    pub(crate) subscription: &'a SubscriptionId,
    pub(crate) limit: u32,
}

#[async_trait]
impl Work for Due<'_> {
    type Out = Vec<DueDelivery>;
    const NAME: &'static str = "due_deliveries";
    const KIND: TxKind = TxKind::Read;

    async fn run(&self, conn: &mut Conn) -> Result<Vec<DueDelivery>, Fault> {
        let now = catalog::now(conn).await?;
        let sql = hot::due_deliveries(conn.dialect);
        let mut args = key(self.subscription).to_vec();
        args.extend([now.as_micros().into(), self.limit.into()]);
        let read = |row: Row| {
            let mut r = Reader::new("deliveries", row);
            Ok(DueDelivery {
                pos: r.small("pos")?,
                lane: r.job_id("lane")?,
                attempts: r.small("attempts")?,
                created_at: r.time("created_us")?,
                read_at: now,
                body: r.text("body")?,
            })
        };
        conn.rows(sql, args).await?.into_iter().map(read).collect()
    }
}

/// See [`yard_ports::push::PushStore::record_deliveries`].
pub(crate) struct Record<'a> {
    pub(crate) lease: &'a Lease,
    pub(crate) subscription: &'a SubscriptionId,
    pub(crate) results: &'a [DeliveryResult],
}

#[async_trait]
impl Work for Record<'_> {
    type Out = ();
    const NAME: &'static str = "record_deliveries";

    async fn run(&self, conn: &mut Conn) -> Result<(), Fault> {
        let now = fence(conn, self.lease, self.subscription).await?;
        let key = key(self.subscription);
        let arrived: Vec<Value> =
            self.results.iter().filter(|r| r.result.is_ok()).map(|r| position(r.pos)).collect();
        for positions in arrived.chunks(sql::BATCH) {
            let mut args = key.to_vec();
            sql::pad(&mut args, positions);
            let marks = sql::marks(positions.len());
            let sql = format!("DELETE FROM deliveries WHERE team = ? AND name = ? AND pos IN ({marks})");
            conn.run(sql, args).await?;
        }
        for failed in self.results {
            let Err(failure) = &failed.result else { continue };
            let state = if failure.wait.is_some() { DeliveryState::Pending } else { DeliveryState::Dead };
            let due = now.as_micros().saturating_add(micros(failure.wait.unwrap_or_default()));
            let mut args =
                vec![state.code().into(), fit_chars(&failure.error, ERROR_CHARS).into(), due.into()];
            args.extend(key.clone());
            args.push(position(failed.pos));
            let sql = "UPDATE deliveries SET state = ?, attempts = attempts + 1, last_error = ?, due_us = ? \
                       WHERE team = ? AND name = ? AND pos = ? AND state = 'pending'";
            conn.run(sql, args).await?;
            if failure.wait.is_some() {
                // What comes behind it can't go before: looked at together with it, not at every look until then.
                let mut args = vec![due.into()];
                args.extend(key.clone());
                args.extend([id_value(failed.lane), due.into()]);
                let index = conn.dialect.index("deliveries_lane");
                let sql = format!(
                    "UPDATE deliveries{index} SET due_us = ? \
                     WHERE team = ? AND name = ? AND lane = ? AND state = 'pending' AND due_us < ?"
                );
                conn.run(sql, args).await?;
            }
        }
        Ok(())
    }
}

/// See [`yard_ports::push::PushStore::retire_deliveries`].
pub(crate) struct Retire<'a> {
    pub(crate) lease: &'a Lease,
    pub(crate) subscription: &'a SubscriptionId,
    pub(crate) reason: &'a str,
    pub(crate) limit: u32,
}

#[async_trait]
impl Work for Retire<'_> {
    type Out = u32;
    const NAME: &'static str = "retire_deliveries";

    async fn run(&self, conn: &mut Conn) -> Result<u32, Fault> {
        let now = fence_scheduler(conn, self.lease).await?;
        let key = key(self.subscription);
        let positions = in_state(conn, &key, DeliveryState::Pending, i64::MAX, self.limit).await?;
        for positions in positions.chunks(sql::BATCH) {
            let mut args = vec![fit_chars(self.reason, ERROR_CHARS).into(), now.as_micros().into()];
            args.extend(key.clone());
            sql::pad(&mut args, positions);
            let marks = sql::marks(positions.len());
            let sql = format!(
                "UPDATE deliveries SET state = 'dead', last_error = ?, due_us = ? \
                 WHERE team = ? AND name = ? AND pos IN ({marks}) AND state = 'pending'"
            );
            conn.run(sql, args).await?;
        }
        Ok(u32::try_from(positions.len()).unwrap_or(u32::MAX))
    }
}

/// Positions of those in a state whose time is before `before_us`.
async fn in_state(
    conn: &mut Conn,
    key: &[Value; 2],
    state: DeliveryState,
    before_us: i64,
    limit: u32,
) -> Result<Vec<Value>, Fault> {
    let index = conn.dialect.index("deliveries_due");
    let sql = format!(
        "SELECT pos FROM deliveries{index} WHERE team = ? AND name = ? AND state = ? AND due_us < ? ORDER BY due_us LIMIT ?"
    );
    let mut args = key.to_vec();
    args.extend([state.code().into(), before_us.into(), limit.into()]);
    Ok(conn.rows(sql, args).await?.into_iter().flatten().collect())
}

/// See [`yard_ports::push::PushStore::purge_deliveries`].
pub(crate) struct Purge<'a> {
    pub(crate) subscription: &'a SubscriptionId,
    pub(crate) keep: Duration,
    pub(crate) limit: u32,
}

#[async_trait]
impl Work for Purge<'_> {
    type Out = u32;
    const NAME: &'static str = "purge_deliveries";

    async fn run(&self, conn: &mut Conn) -> Result<u32, Fault> {
        let before = catalog::now(conn).await?.as_micros().saturating_sub(micros(self.keep));
        let key = key(self.subscription);
        let positions = in_state(conn, &key, DeliveryState::Dead, before, self.limit).await?;
        for positions in positions.chunks(sql::BATCH) {
            let mut args = key.to_vec();
            sql::pad(&mut args, positions);
            let marks = sql::marks(positions.len());
            // Somebody may have sent it again meanwhile.
            let sql = format!(
                "DELETE FROM deliveries WHERE team = ? AND name = ? AND pos IN ({marks}) AND state = 'dead'"
            );
            conn.run(sql, args).await?;
        }
        Ok(u32::try_from(positions.len()).unwrap_or(u32::MAX))
    }
}

/// See [`yard_ports::push::PushStore::deliveries`].
pub(crate) struct List<'a> {
    pub(crate) filter: &'a DeliveryFilter,
}

#[async_trait]
impl Work for List<'_> {
    type Out = Vec<DeliveryRow>;
    const NAME: &'static str = "deliveries";
    const KIND: TxKind = TxKind::Read;

    async fn run(&self, conn: &mut Conn) -> Result<Vec<DeliveryRow>, Fault> {
        let DeliveryFilter { teams, name, state, after, limit } = self.filter;
        let (mut conditions, mut args) = (vec!["1 = 1".to_owned()], Vec::new());
        if let Some(teams) = teams {
            if teams.is_empty() {
                return Ok(Vec::new());
            }
            let teams: Vec<Value> = teams.iter().map(|team| team.as_str().into()).collect();
            conditions.push(format!("team IN ({})", sql::marks(teams.len())));
            sql::pad(&mut args, &teams);
        }
        if let Some(name) = name {
            conditions.push("name = ?".to_owned());
            args.push(name.as_str().into());
        }
        if let Some(state) = state {
            conditions.push("state = ?".to_owned());
            args.push(state.code().into());
        }
        if let Some((subscription, pos)) = after {
            conditions.push("(team > ? OR (team = ? AND (name > ? OR (name = ? AND pos > ?))))".to_owned());
            let [team, name] = key(subscription);
            args.extend([team.clone(), team, name.clone(), name, position(*pos)]);
        }
        args.push((*limit).into());
        let index = conn.dialect.index("PRIMARY");
        let sql = format!(
            "SELECT team, name, pos, lane, state, attempts, due_us, created_us, last_error, body FROM deliveries{index} \
             WHERE {} ORDER BY team, name, pos LIMIT ?",
            conditions.join(" AND ")
        );
        conn.rows(sql, args).await?.into_iter().map(read_row).collect()
    }
}

fn read_row(row: Row) -> Result<DeliveryRow, Fault> {
    let mut r = Reader::new("deliveries", row);
    Ok(DeliveryRow {
        subscription: subscription(&mut r)?,
        pos: r.small("pos")?,
        lane: r.job_id("lane")?,
        state: r.coded("state", DeliveryState::from_code)?,
        attempts: r.small("attempts")?,
        due_at: r.time("due_us")?,
        created_at: r.time("created_us")?,
        last_error: r.opt_text("last_error")?,
        body: r.text("body")?,
    })
}

/// See [`yard_ports::push::PushStore::resend_deliveries`].
pub(crate) struct SendAgain<'a> {
    pub(crate) which: &'a Resend,
}

#[async_trait]
impl Work for SendAgain<'_> {
    type Out = u32;
    const NAME: &'static str = "resend_deliveries";

    async fn run(&self, conn: &mut Conn) -> Result<u32, Fault> {
        let now = catalog::now(conn).await?;
        let mut again = 0;
        for (subscription, positions) in self.found(conn).await? {
            for positions in positions.chunks(sql::BATCH) {
                let mut args = vec![now.as_micros().into()];
                args.extend(key(&subscription));
                sql::pad(&mut args, positions);
                let marks = sql::marks(positions.len());
                let sql = format!(
                    "UPDATE deliveries SET state = 'pending', attempts = 0, due_us = ? \
                     WHERE team = ? AND name = ? AND pos IN ({marks}) AND state = 'dead'"
                );
                again += conn.run(sql, args).await?;
            }
        }
        Ok(u32::try_from(again).unwrap_or(u32::MAX))
    }
}

impl SendAgain<'_> {
    async fn found(&self, conn: &mut Conn) -> Result<BTreeMap<SubscriptionId, Vec<Value>>, Fault> {
        let Resend { team, name, positions, limit } = self.which;
        let mut conditions = vec!["team = ?".to_owned(), "state = 'dead'".to_owned()];
        let mut args = vec![team.as_str().into()];
        if let Some(name) = name {
            conditions.push("name = ?".to_owned());
            args.push(name.as_str().into());
        }
        if !positions.is_empty() {
            let positions: Vec<Value> = positions.iter().map(|pos| position(*pos)).collect();
            conditions.push(format!("pos IN ({})", sql::marks(positions.len())));
            sql::pad(&mut args, &positions);
        }
        args.push((*limit).into());
        let index = conn.dialect.index("PRIMARY");
        let sql = format!(
            "SELECT team, name, pos FROM deliveries{index} WHERE {} ORDER BY team, name, pos LIMIT ?",
            conditions.join(" AND ")
        );
        let mut found: BTreeMap<SubscriptionId, Vec<Value>> = BTreeMap::new();
        for row in conn.rows(sql, args).await? {
            let mut r = Reader::new("deliveries", row);
            found.entry(subscription(&mut r)?).or_default().push(Value::Int(r.int("pos")?));
        }
        Ok(found)
    }
}
