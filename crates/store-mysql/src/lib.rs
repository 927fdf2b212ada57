//! The store on MySQL 8.0+, Aurora (MySQL 8) and MariaDB 10.6+.
//!
//! Sessions run READ COMMITTED in UTC: no gap locks, and a statement sees what is committed when it begins. Rows are
//! locked in one order everywhere (lease, catalog in force, cohorts, accounts, jobs by id); what deadlocks remain are
//! redone. The verbs themselves are in the store-sql crate.
//!
//! [`migrate`] makes or updates the schema; [`connect`] opens a database whose schema fits.

mod backend;
mod convert;
mod pool;
mod schema;

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::mysql::MySqlConnectOptions;
use yard_ports::store::{Store, StoreError, StoreLimits};
use yard_store_sql::{SqlStore, StoreOptions};

use crate::backend::MySqlBackend;
use crate::pool::Connections;

/// How the database is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MySqlOptions {
    /// What holds for every database.
    pub store: StoreOptions,
    /// Most connections of this process.
    pub connections_max: u32,
    /// Longest wait for a connection of the pool.
    pub acquire_timeout: Duration,
    /// A connection is replaced after this long: so that after a failover nobody stays with a server that has become
    /// read-only.
    pub connection_lifetime_max: Duration,
    /// Longest wait for a row lock, in whole seconds, before the transaction is redone.
    pub lock_wait_timeout: Duration,
    /// The server ends a connection that has been silent for this long, in whole seconds, and undoes its transaction:
    /// a process that stands still in the middle of one (stopped, paused, its host gone without a word) must not keep
    /// row locks for the hours that are the server's default. The pool gives up idle connections long before.
    pub silence_max: Duration,
    /// Prepared statements kept per connection. Times connections, times processes, it must stay below the server's
    /// `max_prepared_stmt_count` (16,382 by default).
    pub statements_max: usize,
}

impl MySqlOptions {
    /// The defaults, with these clocks.
    pub fn new(limits: StoreLimits) -> Self {
        Self {
            store: limits.into(),
            connections_max: 16,
            acquire_timeout: Duration::from_secs(30),
            connection_lifetime_max: Duration::from_mins(10),
            lock_wait_timeout: Duration::from_secs(2),
            silence_max: Duration::from_secs(5),
            statements_max: 192,
        }
    }
}

/// Opens the store at `url` (`mysql://user:password@host:port/database`). Refuses a database whose schema is not
/// this binary's.
pub async fn connect(url: &str, options: &MySqlOptions) -> Result<Arc<dyn Store>, StoreError> {
    let connections = open(url, options).await?;
    schema::check(connections.pool()).await?;
    Ok(Arc::new(SqlStore::new(Arc::new(MySqlBackend { connections }), options.store)))
}

/// Brings the schema of the database at `url` up to this binary's. The database itself must be there.
pub async fn migrate(url: &str, options: &MySqlOptions) -> Result<(), StoreError> {
    let connections = open(url, options).await?;
    schema::migrate(connections.pool()).await?;
    let backend = MySqlBackend { connections: Arc::clone(&connections) };
    SqlStore::new(Arc::new(backend), options.store).seed().await?;
    connections.pool().close().await;
    Ok(())
}

async fn open(url: &str, options: &MySqlOptions) -> Result<Arc<Connections>, StoreError> {
    // The URL may hold a password, so the error must not repeat it.
    let server = MySqlConnectOptions::from_str(url).map_err(|_| {
        StoreError::Unavailable(
            "the database's URL can't be read: mysql://user:password@host:port/database".into(),
        )
    })?;
    let server = server
        .timezone(Some("+00:00".to_owned()))
        .statement_cache_capacity(options.statements_max)
        .disable_statement_logging();
    let opened = Connections::open(server, options).await;
    opened.map_err(|e| StoreError::Unavailable(convert::classify(&e).to_string()))
}
