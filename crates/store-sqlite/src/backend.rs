//! Transactions on the connection that writes and on those that read.

use std::borrow::Cow;

use async_trait::async_trait;
use sqlx::sqlite::{Sqlite, SqlitePool};
use sqlx::{AssertSqlSafe, Transaction};
use yard_store_sql::{Backend, Dialect, Row, SqlError, Tx, TxKind, Value};

use crate::convert::{bind, classify, read};

pub(crate) struct SqliteBackend {
    pub(crate) writer: SqlitePool,
    pub(crate) readers: SqlitePool,
}

#[async_trait]
impl Backend for SqliteBackend {
    async fn begin(&self, kind: TxKind) -> Result<Box<dyn Tx>, SqlError> {
        let tx = match kind {
            TxKind::Write => self.writer.begin_with("BEGIN IMMEDIATE").await,
            // In WAL mode a transaction sees the moment of its first read throughout.
            TxKind::Read | TxKind::Snapshot => self.readers.begin_with("BEGIN").await,
        };
        Ok(Box::new(SqliteTx(tx.map_err(|e| classify(&e))?)))
    }

    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }
}

struct SqliteTx(Transaction<'static, Sqlite>);

#[async_trait]
impl Tx for SqliteTx {
    async fn rows(&mut self, sql: Cow<'static, str>, args: Vec<Value>) -> Result<Vec<Row>, SqlError> {
        let query = sqlx::query_with(AssertSqlSafe(sql), bind(args)?);
        let rows = query.fetch_all(&mut *self.0).await.map_err(|e| classify(&e))?;
        rows.iter().map(read).collect()
    }

    async fn run(&mut self, sql: Cow<'static, str>, args: Vec<Value>) -> Result<u64, SqlError> {
        let query = sqlx::query_with(AssertSqlSafe(sql), bind(args)?);
        let done = query.execute(&mut *self.0).await.map_err(|e| classify(&e))?;
        Ok(done.rows_affected())
    }

    async fn commit(self: Box<Self>) -> Result<(), SqlError> {
        self.0.commit().await.map_err(|e| classify(&e))
    }
}
