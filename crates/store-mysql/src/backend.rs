//! Transactions on pooled connections.

use std::borrow::Cow;

use async_trait::async_trait;
use sqlx::mysql::{MySql, MySqlConnection, MySqlPool};
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Executor, SqlSafeStr, Transaction};
use yard_store_sql::{Backend, Dialect, Row, SqlError, Tx, TxKind, Value};

use crate::convert::{bind, classify, read};

pub(crate) struct MySqlBackend {
    pub(crate) pool: MySqlPool,
}

#[async_trait]
impl Backend for MySqlBackend {
    async fn begin(&self, kind: TxKind) -> Result<Box<dyn Tx>, SqlError> {
        let tx = match kind {
            // Each read committed by itself is what the session's isolation level would show anyway.
            TxKind::Read => self.pool.acquire().await.map(MySqlTx::Plain),
            TxKind::Write => self.open(Start::Write).await.map(MySqlTx::Open),
            TxKind::Snapshot => self.open(Start::Snapshot).await.map(MySqlTx::Open),
        };
        Ok(Box::new(tx.map_err(|e| classify(&e))?))
    }

    fn dialect(&self) -> Dialect {
        Dialect::MySql
    }
}

/// How a transaction begins.
enum Start {
    Write,
    Snapshot,
}

impl MySqlBackend {
    /// Opens a transaction in a task of its own. A caller who goes away while the server answers (a client that hangs up)
    /// would leave the connection to the next one with a transaction open that sqlx has not counted yet, and so
    /// doesn't roll back: what that one reads would be of long ago.
    async fn open(&self, start: Start) -> Result<Transaction<'static, MySql>, sqlx::Error> {
        let conn = self.pool.acquire().await?;
        tokio::spawn(begin(conn, start)).await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
    }
}

async fn begin(
    mut conn: PoolConnection<MySql>,
    start: Start,
) -> Result<Transaction<'static, MySql>, sqlx::Error> {
    let statement = match start {
        Start::Write => None,
        Start::Snapshot => {
            // For the next transaction only.
            conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
            Some("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY".into_sql_str())
        }
    };
    Transaction::begin(conn, statement).await
}

enum MySqlTx {
    Plain(PoolConnection<MySql>),
    Open(Transaction<'static, MySql>),
}

impl MySqlTx {
    fn conn(&mut self) -> &mut MySqlConnection {
        match self {
            Self::Plain(conn) => conn,
            Self::Open(tx) => tx,
        }
    }
}

#[async_trait]
impl Tx for MySqlTx {
    async fn rows(&mut self, sql: Cow<'static, str>, args: Vec<Value>) -> Result<Vec<Row>, SqlError> {
        let query = sqlx::query_with(AssertSqlSafe(sql), bind(args)?);
        let rows = query.fetch_all(self.conn()).await.map_err(|e| classify(&e))?;
        rows.iter().map(read).collect()
    }

    async fn run(&mut self, sql: Cow<'static, str>, args: Vec<Value>) -> Result<u64, SqlError> {
        let query = sqlx::query_with(AssertSqlSafe(sql), bind(args)?);
        let done = query.execute(self.conn()).await.map_err(|e| classify(&e))?;
        Ok(done.rows_affected())
    }

    async fn commit(self: Box<Self>) -> Result<(), SqlError> {
        match *self {
            Self::Plain(_) => Ok(()),
            Self::Open(tx) => tx.commit().await.map_err(|e| classify(&e)),
        }
    }
}
