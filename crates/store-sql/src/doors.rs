//! How far each queue has been taken in: when the newest message of those with a verdict was sent.

use std::collections::BTreeMap;

use async_trait::async_trait;
use yard_domain::{Arrival, Timestamp};

use crate::backend::{Dialect, TxKind, Value};
use crate::fault::Fault;
use crate::reader::Reader;
use crate::text::fit_chars;
use crate::tx::{Conn, Work};

/// Rows of a door, over which processes are spread.
pub(crate) const SLOTS: u8 = 16;

/// Notes how far a batch has brought its doors: one row for each, in the transaction of its verdicts, at its end.
pub(crate) async fn note(conn: &mut Conn, arrivals: &[Arrival], slot: u8) -> Result<(), Fault> {
    let mut newest: BTreeMap<&str, Timestamp> = BTreeMap::new();
    for arrival in arrivals {
        if let Some(sent) = arrival.sent_at {
            let seen = newest.entry(fit_chars(&arrival.source, 200)).or_insert(sent);
            *seen = sent.max(*seen);
        }
    }
    let update = match conn.dialect {
        Dialect::MySql => "ON DUPLICATE KEY UPDATE newest_us = GREATEST(newest_us, VALUES(newest_us))",
        Dialect::Sqlite => {
            "ON CONFLICT (door, slot) DO UPDATE SET newest_us = MAX(newest_us, excluded.newest_us)"
        }
    };
    for (door, sent) in newest {
        let args = vec![door.into(), Value::Int(slot.into()), sent.as_micros().into()];
        let sql = format!("INSERT INTO arrivals_seen (door, slot, newest_us) VALUES (?, ?, ?) {update}");
        conn.run(sql, args).await?;
    }
    Ok(())
}

/// See [`yard_ports::store::Store::newest_arrivals`].
pub(crate) struct NewestArrivals;

#[async_trait]
impl Work for NewestArrivals {
    type Out = BTreeMap<String, Timestamp>;
    const NAME: &'static str = "newest_arrivals";
    const KIND: TxKind = TxKind::Read;

    async fn run(&self, conn: &mut Conn) -> Result<BTreeMap<String, Timestamp>, Fault> {
        let sql = "SELECT door, MAX(newest_us) FROM arrivals_seen GROUP BY door";
        let read = |row| {
            let mut r = Reader::new("arrivals_seen", row);
            Ok((r.text("door")?, r.time("newest_us")?))
        };
        conn.rows(sql, Vec::new()).await?.into_iter().map(read).collect()
    }
}
