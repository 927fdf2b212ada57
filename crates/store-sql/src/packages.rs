//! Uploaded packages: which content each name has, and until when it is kept. The content is in the object store, under
//! a path that is never used twice, so that removing one that nothing names can't meet another that is just being made.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use yard_domain::{JobSpec, Timestamp};
use yard_ports::packages::{KeptPackage, PackageRow, package_uris};

use crate::backend::{Row, TxKind, Value};
use crate::catalog;
use crate::fault::Fault;
use crate::reader::Reader;
use crate::sql;
use crate::tx::{Conn, Work};

/// See [`yard_ports::store::Store::keep_package`].
pub(crate) struct Keep<'a> {
    pub(crate) package: &'a PackageRow,
    pub(crate) keep: Duration,
}

#[async_trait]
impl Work for Keep<'_> {
    type Out = KeptPackage;
    const NAME: &'static str = "keep_package";

    async fn run(&self, conn: &mut Conn) -> Result<KeptPackage, Fault> {
        let new = self.package;
        let now = catalog::now(conn).await?;
        let until = later(now, self.keep);
        // Before the content is looked for: an upload of the same that was faster is then seen by its content too.
        let old = find(conn, &new.uri).await?;
        let object = same_content(conn, &new.sha256).await?.unwrap_or_else(|| new.object.clone());
        let mut dropped = BTreeSet::from([new.object.clone()]);
        let bytes = Value::Int(i64::try_from(new.bytes).unwrap_or(i64::MAX));
        let content = [object.clone().into(), Value::Bytes(new.sha256.to_vec()), bytes];
        if let Some(old) = old {
            dropped.insert(old.object);
            let sql = "UPDATE packages SET object = ?, sha256 = ?, bytes = ?, used_us = ?, keep_until_us = \
                       CASE WHEN keep_until_us < ? THEN ? ELSE keep_until_us END WHERE uri = ?";
            let mut args = content.to_vec();
            args.extend([now.as_micros().into(), until.into(), until.into(), new.uri.as_str().into()]);
            conn.run(sql, args).await?;
        } else {
            let mut row = vec![new.uri.as_str().into()];
            row.extend(content);
            row.extend([now.as_micros().into(), now.as_micros().into(), until.into()]);
            let columns = ["uri", "object", "sha256", "bytes", "created_us", "used_us", "keep_until_us"];
            sql::insert(conn, "INSERT INTO packages", &columns, vec![row]).await.map_err(redo_if_taken)?;
        }
        let dropped = unnamed(conn, dropped).await?;
        Ok(KeptPackage { object, dropped })
    }
}

/// Two uploads of one package at once: whoever is second finds the first's.
fn redo_if_taken(fault: Fault) -> Fault {
    match fault {
        Fault::Sql(crate::backend::SqlError::DuplicateKey(_)) => Fault::Redo("package_taken"),
        other => other,
    }
}

/// See [`yard_ports::store::Store::use_package`].
pub(crate) struct Use<'a> {
    pub(crate) uri: &'a str,
    pub(crate) keep: Duration,
}

#[async_trait]
impl Work for Use<'_> {
    type Out = Option<PackageRow>;
    const NAME: &'static str = "use_package";

    async fn run(&self, conn: &mut Conn) -> Result<Option<PackageRow>, Fault> {
        let Some(found) = find(conn, self.uri).await? else { return Ok(None) };
        let now = catalog::now(conn).await?;
        let until = later(now, self.keep);
        let sql = "UPDATE packages SET used_us = ?, keep_until_us = \
                   CASE WHEN keep_until_us < ? THEN ? ELSE keep_until_us END WHERE uri = ?";
        let args = vec![now.as_micros().into(), until.into(), until.into(), self.uri.into()];
        conn.run(sql, args).await?;
        Ok(Some(found))
    }
}

/// See [`yard_ports::store::Store::expire_packages`].
pub(crate) struct Expire {
    pub(crate) limit: u32,
}

#[async_trait]
impl Work for Expire {
    type Out = Vec<String>;
    const NAME: &'static str = "expire_packages";

    async fn run(&self, conn: &mut Conn) -> Result<Vec<String>, Fault> {
        let now = catalog::now(conn).await?;
        let sql = format!(
            "SELECT uri, object FROM packages WHERE keep_until_us < ? ORDER BY keep_until_us LIMIT ?{}",
            conn.dialect.for_update()
        );
        let mut objects = BTreeSet::new();
        for row in conn.rows(sql, vec![now.as_micros().into(), self.limit.into()]).await? {
            let mut r = Reader::new("packages", row);
            let uri = r.text("uri")?;
            objects.insert(r.text("object")?);
            conn.run("DELETE FROM packages WHERE uri = ?", vec![uri.into()]).await?;
        }
        unnamed(conn, objects).await
    }
}

/// How much longer than it must a package is kept for jobs: only the first of many with one package writes its row, for which
/// the others would wait.
const SLACK: Duration = Duration::from_hours(1);

/// Keeps what these jobs name until they can't want it any more: each may wait and run. (A launch counts as a use, and so
/// keeps it for a retry.)
pub(crate) async fn keep_for<'a>(
    conn: &mut Conn,
    jobs: impl Iterator<Item = &'a JobSpec>,
    now: Timestamp,
) -> Result<(), Fault> {
    let mut wanted: BTreeMap<String, i64> = BTreeMap::new();
    for spec in jobs {
        let until = later(now, spec.timeouts.queue.saturating_add(spec.timeouts.run));
        for uri in package_uris(&spec.runtime_env) {
            let latest = wanted.entry(uri).or_insert(until);
            *latest = until.max(*latest);
        }
    }
    let uris: Vec<Value> = wanted.keys().map(|uri| uri.as_str().into()).collect();
    for uris in uris.chunks(sql::BATCH) {
        let mut args = Vec::new();
        sql::pad(&mut args, uris);
        let sql =
            format!("SELECT uri, keep_until_us FROM packages WHERE uri IN ({})", sql::marks(uris.len()));
        for row in conn.rows(sql, args).await? {
            let mut r = Reader::new("packages", row);
            let (uri, kept) = (r.text("uri")?, r.int("keep_until_us")?);
            let Some(until) = wanted.get(&uri).filter(|until| **until > kept) else { continue };
            let until = until.saturating_add(i64::try_from(SLACK.as_micros()).unwrap_or(0));
            let sql = "UPDATE packages SET keep_until_us = ? WHERE uri = ? AND keep_until_us < ?";
            conn.run(sql, vec![until.into(), uri.into(), until.into()]).await?;
        }
    }
    Ok(())
}

/// See [`yard_ports::store::Store::named_objects`].
pub(crate) struct NamedObjects<'a> {
    pub(crate) objects: &'a [String],
}

#[async_trait]
impl Work for NamedObjects<'_> {
    type Out = Vec<String>;
    const NAME: &'static str = "named_objects";
    const KIND: TxKind = TxKind::Read;

    async fn run(&self, conn: &mut Conn) -> Result<Vec<String>, Fault> {
        let mut named = Vec::new();
        for batch in self.objects.chunks(sql::BATCH) {
            let values: Vec<Value> = batch.iter().map(|o| o.as_str().into()).collect();
            let mut args = Vec::new();
            sql::pad(&mut args, &values);
            let sql =
                format!("SELECT DISTINCT object FROM packages WHERE object IN ({})", sql::marks(batch.len()));
            for row in conn.rows(sql, args).await? {
                named.push(Reader::new("packages", row).text("object")?);
            }
        }
        Ok(named)
    }
}

fn later(now: Timestamp, keep: Duration) -> i64 {
    now.as_micros().saturating_add(i64::try_from(keep.as_micros()).unwrap_or(i64::MAX))
}

async fn find(conn: &mut Conn, uri: &str) -> Result<Option<PackageRow>, Fault> {
    let sql =
        format!("SELECT uri, object, sha256, bytes FROM packages WHERE uri = ?{}", conn.dialect.for_update());
    conn.rows(sql, vec![uri.into()]).await?.pop().map(read).transpose()
}

fn read(row: Row) -> Result<PackageRow, Fault> {
    let mut r = Reader::new("packages", row);
    let (uri, object) = (r.text("uri")?, r.text("object")?);
    let sha256 = r.bytes("sha256")?;
    let sha256 = sha256.try_into().map_err(|_| r.bad("sha256", &"not 32 bytes"))?;
    Ok(PackageRow { uri, object, sha256, bytes: r.small("bytes")? })
}

/// Where this content is already. Nobody takes the name from it before the end of the transaction.
async fn same_content(conn: &mut Conn, sha256: &[u8; 32]) -> Result<Option<String>, Fault> {
    let sql = format!(
        "SELECT object FROM packages WHERE sha256 = ? ORDER BY uri LIMIT 1{}",
        conn.dialect.for_update()
    );
    let row = conn.rows(sql, vec![Value::Bytes(sha256.to_vec())]).await?.pop();
    row.map(|row| Reader::new("packages", row).text("object")).transpose()
}

/// Those of these objects that no package names.
async fn unnamed(conn: &mut Conn, objects: BTreeSet<String>) -> Result<Vec<String>, Fault> {
    let objects: Vec<String> = objects.into_iter().collect();
    let named = NamedObjects { objects: &objects }.run(conn).await?;
    Ok(objects.into_iter().filter(|object| !named.contains(object)).collect())
}
