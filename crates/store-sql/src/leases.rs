//! Leases: one row per scope. Granted with a fresh token from one counter, renewed by one statement per holder.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use yard_domain::{Lease, LeaseScope, LeaseToken, Timestamp};

use crate::backend::{Row, SqlError, TxKind, Value};
use crate::catalog;
use crate::fault::Fault;
use crate::reader::Reader;
use crate::sql;
use crate::tx::{Conn, Work};

fn micros(span: Duration) -> Value {
    Value::Int(i64::try_from(span.as_micros()).unwrap_or(i64::MAX))
}

/// Reads a lease from (scope, token, holder, expires_us), leaving further columns in the reader.
fn take_lease(r: &mut Reader) -> Result<Lease, Fault> {
    let scope = r.coded("scope", LeaseScope::parse)?;
    let token = LeaseToken(r.int("token")?);
    Ok(Lease { scope, token, holder: r.text("holder")?, expires_at: r.time("expires_us")? })
}

fn read_lease_and_now(row: Row) -> Result<(Lease, Timestamp), Fault> {
    let mut r = Reader::new("leases", row);
    Ok((take_lease(&mut r)?, r.time("now")?))
}

/// See [`yard_ports::store::Store::acquire_lease`].
pub(crate) struct Acquire<'a> {
    pub(crate) scope: &'a LeaseScope,
    pub(crate) holder: &'a str,
    pub(crate) ttl: Duration,
}

#[async_trait]
impl Work for Acquire<'_> {
    type Out = Option<Lease>;
    const NAME: &'static str = "acquire_lease";

    async fn run(&self, conn: &mut Conn) -> Result<Option<Lease>, Fault> {
        let (index, lock, now) =
            (conn.dialect.index("PRIMARY"), conn.dialect.for_update(), conn.dialect.now());
        let sql = format!(
            "SELECT scope, token, holder, expires_us, {now} FROM leases{index} WHERE scope = ?{lock}"
        );
        let row = conn.rows(sql, vec![self.scope.to_string().into()]).await?.pop();
        let (exists, now) = match row.map(read_lease_and_now).transpose()? {
            Some((held, now)) if held.is_valid(now) && held.holder != self.holder => return Ok(None),
            Some((_, now)) => (true, now),
            None => (false, catalog::now(conn).await?),
        };
        let token = next_token(conn).await?;
        let expires_at = now.plus(self.ttl);
        let us = now.as_micros();
        let args: Vec<Value> = vec![
            token.0.into(),
            self.holder.into(),
            us.into(),
            us.into(),
            expires_at.as_micros().into(),
            self.scope.to_string().into(),
        ];
        if exists {
            let sql = "UPDATE leases SET token = ?, holder = ?, acquired_us = ?, renewed_us = ?, expires_us = ? \
                       WHERE scope = ?";
            conn.run(sql, args).await?;
        } else {
            let sql = "INSERT INTO leases (token, holder, acquired_us, renewed_us, expires_us, scope) \
                       VALUES (?, ?, ?, ?, ?, ?)";
            conn.run(sql, args).await.map_err(|fault| match fault {
                Fault::Sql(SqlError::DuplicateKey(_)) => Fault::Redo("lease_race"),
                other => other,
            })?;
        }
        Ok(Some(Lease { scope: self.scope.clone(), token, holder: self.holder.to_owned(), expires_at }))
    }
}

async fn next_token(conn: &mut Conn) -> Result<LeaseToken, Fault> {
    conn.run("UPDATE meta SET number = number + 1 WHERE name = 'lease_token'", Vec::new()).await?;
    granted(conn).await
}

/// The last token granted.
pub(crate) async fn granted(conn: &mut Conn) -> Result<LeaseToken, Fault> {
    let rows = conn.rows("SELECT name, number FROM meta WHERE name = 'lease_token'", Vec::new()).await?;
    let row = rows.into_iter().next();
    let mut r =
        Reader::new("meta", row.ok_or_else(|| Fault::inconsistent("meta", &"lease_token", &"is missing"))?);
    r.text("name")?;
    Ok(LeaseToken(r.int("number")?))
}

/// See [`yard_ports::store::Store::renew_leases`].
pub(crate) struct Renew<'a> {
    pub(crate) leases: &'a [Lease],
    pub(crate) ttl: Duration,
}

#[async_trait]
impl Work for Renew<'_> {
    type Out = Vec<Option<Lease>>;
    const NAME: &'static str = "renew_leases";

    async fn run(&self, conn: &mut Conn) -> Result<Vec<Option<Lease>>, Fault> {
        let (index, now) = (conn.dialect.index("PRIMARY"), conn.dialect.now());
        let mut valid: BTreeMap<String, (Lease, Timestamp)> = BTreeMap::new();
        let mut sorted: Vec<&Lease> = self.leases.iter().collect();
        sorted.sort_unstable_by(|a, b| a.scope.cmp(&b.scope));
        for leases in sorted.chunks(sql::BATCH) {
            let marks = sql::marks(leases.len());
            let scopes: Vec<Value> = leases.iter().map(|l| l.scope.to_string().into()).collect();
            let tokens: Vec<Value> = leases.iter().map(|l| l.token.0.into()).collect();
            let update = format!(
                "UPDATE leases{index} SET renewed_us = {now}, expires_us = {now} + ? \
                 WHERE scope IN ({marks}) AND token IN ({marks}) AND expires_us > {now}"
            );
            let mut args = vec![micros(self.ttl)];
            sql::pad(&mut args, &scopes);
            sql::pad(&mut args, &tokens);
            conn.run(update, args).await?;
            let select = format!(
                "SELECT scope, token, holder, expires_us, {now} FROM leases{index} WHERE scope IN ({marks})"
            );
            let mut args = Vec::new();
            sql::pad(&mut args, &scopes);
            for row in conn.rows(select, args).await? {
                let (lease, now) = read_lease_and_now(row)?;
                valid.insert(lease.scope.to_string(), (lease, now));
            }
        }
        let renewed = |ours: &Lease| {
            let (lease, now) = valid.get(&ours.scope.to_string())?;
            (lease.token == ours.token && lease.is_valid(*now)).then(|| lease.clone())
        };
        Ok(self.leases.iter().map(renewed).collect())
    }
}

/// See [`yard_ports::store::Store::release_lease`].
pub(crate) struct Release<'a> {
    pub(crate) lease: &'a Lease,
}

#[async_trait]
impl Work for Release<'_> {
    type Out = ();
    const NAME: &'static str = "release_lease";

    async fn run(&self, conn: &mut Conn) -> Result<(), Fault> {
        let args = vec![self.lease.scope.to_string().into(), self.lease.token.0.into()];
        conn.run("DELETE FROM leases WHERE scope = ? AND token = ?", args).await?;
        Ok(())
    }
}

/// See [`yard_ports::store::Store::leases`].
pub(crate) struct Leases;

#[async_trait]
impl Work for Leases {
    type Out = Vec<Lease>;
    const NAME: &'static str = "leases";
    const KIND: TxKind = TxKind::Read;

    async fn run(&self, conn: &mut Conn) -> Result<Vec<Lease>, Fault> {
        let now = conn.dialect.now();
        let sql = format!(
            "SELECT scope, token, holder, expires_us, {now} FROM leases WHERE expires_us > {now} ORDER BY scope"
        );
        let rows = conn.rows(sql, Vec::new()).await?;
        rows.into_iter().map(|row| Ok(read_lease_and_now(row)?.0)).collect()
    }
}
