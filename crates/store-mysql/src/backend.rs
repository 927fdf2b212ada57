//! Transactions on pooled connections.

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::mysql::{MySql, MySqlConnection};
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Executor, SqlSafeStr, Transaction};
use yard_store_sql::{Backend, Dialect, Row, SqlError, Tx, TxKind, Value};

use crate::convert::{bind, classify, read};
use crate::pool::{Connections, InUse, Taken};

pub(crate) struct MySqlBackend {
    pub(crate) connections: Arc<Connections>,
}

#[async_trait]
impl Backend for MySqlBackend {
    async fn begin(&self, kind: TxKind) -> Result<Box<dyn Tx>, SqlError> {
        let begun = async {
            let Taken { conn, in_use } = self.connections.take().await?;
            let on = match kind {
                // Each read committed by itself is what the session's isolation level would show anyway.
                TxKind::Read => On::Plain(conn),
                TxKind::Write => On::Open(open(conn, Start::Write).await?),
                TxKind::Snapshot => On::Open(open(conn, Start::Snapshot).await?),
            };
            Ok(MySqlTx { on, _in_use: in_use })
        };
        Ok(Box::new(begun.await.map_err(|e: sqlx::Error| classify(&e))?))
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

/// Opens a transaction in a task of its own. A caller who goes away while the server answers (a client that hangs up)
/// would leave the connection to the next one with a transaction open that sqlx has not counted yet, and so
/// doesn't roll back: what that one reads would be of long ago.
async fn open(conn: PoolConnection<MySql>, start: Start) -> Result<Transaction<'static, MySql>, sqlx::Error> {
    tokio::spawn(begin(conn, start)).await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
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

struct MySqlTx {
    on: On,
    _in_use: InUse,
}

enum On {
    Plain(PoolConnection<MySql>),
    Open(Transaction<'static, MySql>),
}

impl MySqlTx {
    fn conn(&mut self) -> &mut MySqlConnection {
        match &mut self.on {
            On::Plain(conn) => conn,
            On::Open(tx) => tx,
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
        match self.on {
            On::Plain(_) => Ok(()),
            On::Open(tx) => tx.commit().await.map_err(|e| classify(&e)),
        }
    }
}
