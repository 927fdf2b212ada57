//! The audit log: who changed what, from where, and what it came to.

use std::time::Duration;

use async_trait::async_trait;
use yard_domain::{AuditEntry, AuditLine};

use crate::backend::{Row, TxKind, Value};
use crate::catalog;
use crate::fault::Fault;
use crate::reader::Reader;
use crate::sql;
use crate::text::fit_chars;
use crate::tx::{Conn, Work};

/// See [`yard_ports::access::AccessStore::write_audit`].
pub(crate) struct WriteLine<'a> {
    pub(crate) entry: &'a AuditEntry,
}

#[async_trait]
impl Work for WriteLine<'_> {
    type Out = ();
    const NAME: &'static str = "write_audit";

    async fn run(&self, conn: &mut Conn) -> Result<(), Fault> {
        let (entry, now) = (self.entry, conn.dialect.now());
        let sql = format!(
            "INSERT INTO audit_log (at_us, actor, address, action, target, result, request) VALUES ({now}, ?, ?, ?, ?, ?, ?)"
        );
        let args = vec![
            fit_chars(&entry.actor, 300).into(),
            fit_chars(&entry.address, 64).into(),
            fit_chars(&entry.action, 60).into(),
            fit_chars(&entry.target, 500).into(),
            fit_chars(&entry.result, 60).into(),
            fit_chars(&entry.request, 64).into(),
        ];
        conn.run(sql, args).await.map(drop)
    }
}

/// See [`yard_ports::access::AccessStore::audit_log`].
pub(crate) struct ListLines {
    pub(crate) before: Option<i64>,
    pub(crate) limit: u32,
}

#[async_trait]
impl Work for ListLines {
    type Out = Vec<AuditLine>;
    const NAME: &'static str = "audit_log";
    const KIND: TxKind = TxKind::Read;

    async fn run(&self, conn: &mut Conn) -> Result<Vec<AuditLine>, Fault> {
        let sql = "SELECT id, at_us, actor, address, action, target, result, request FROM audit_log WHERE id < ? \
                   ORDER BY id DESC LIMIT ?";
        let args = vec![self.before.unwrap_or(i64::MAX).into(), self.limit.into()];
        conn.rows(sql, args).await?.into_iter().map(read).collect()
    }
}

fn read(row: Row) -> Result<AuditLine, Fault> {
    let mut r = Reader::new("audit_log", row);
    let (id, at) = (r.int("id")?, r.time("at_us")?);
    let entry = AuditEntry {
        actor: r.text("actor")?,
        address: r.text("address")?,
        action: r.text("action")?,
        target: r.text("target")?,
        result: r.text("result")?,
        request: r.text("request")?,
    };
    Ok(AuditLine { id, at, entry })
}

/// Lines that are older than they are kept.
pub(crate) struct PurgeLines {
    pub(crate) keep: Duration,
    pub(crate) limit: u32,
}

#[async_trait]
impl Work for PurgeLines {
    type Out = u32;
    const NAME: &'static str = "purge_audit";

    async fn run(&self, conn: &mut Conn) -> Result<u32, Fault> {
        let keep = i64::try_from(self.keep.as_micros()).unwrap_or(i64::MAX);
        let before = catalog::now(conn).await?.as_micros().saturating_sub(keep);
        let sql = "SELECT id FROM audit_log WHERE at_us < ? ORDER BY at_us LIMIT ?";
        let rows = conn.rows(sql, vec![before.into(), self.limit.into()]).await?;
        let ids: Vec<Value> = rows.into_iter().flatten().collect();
        sql::delete(conn, "audit_log", "id", &ids).await
    }
}
