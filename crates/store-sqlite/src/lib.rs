//! The store on SQLite: the embedded default on one machine.
//!
//! One connection writes, a few read beside it (WAL). A write transaction begins IMMEDIATE, so it has the database's
//! only write lock from its first statement: what row locks do in MySQL needs nothing here. A commit is on disk
//! before it returns (synchronous = FULL). The verbs themselves are in the store-sql crate.
//!
//! [`migrate`] makes or updates the file's schema; [`connect`] opens a file whose schema fits.

mod backend;
mod convert;
mod schema;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use yard_ports::store::{Store, StoreError, StoreLimits};
use yard_store_sql::{SqlStore, StoreOptions};

use crate::backend::SqliteBackend;

/// How the file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqliteOptions {
    /// What holds for every database.
    pub store: StoreOptions,
    /// Connections that read beside the one that writes.
    pub readers_max: u32,
    /// Longest wait for another process's write lock.
    pub busy_timeout: Duration,
    /// Longest wait for a connection of our own.
    pub acquire_timeout: Duration,
    /// Prepared statements kept per connection.
    pub statements_max: usize,
}

impl SqliteOptions {
    /// The defaults, with these clocks.
    pub fn new(limits: StoreLimits) -> Self {
        Self {
            store: limits.into(),
            readers_max: 4,
            busy_timeout: Duration::from_secs(5),
            acquire_timeout: Duration::from_secs(30),
            statements_max: 256,
        }
    }
}

/// Opens the store in the file at `path`. Refuses a file that isn't there, or whose schema is not this binary's.
pub async fn connect(path: &Path, options: &SqliteOptions) -> Result<Arc<dyn Store>, StoreError> {
    let writer = writer(path, options, false).await?;
    schema::check(&writer).await?;
    let readers = pool(options)
        .max_connections(options.readers_max.max(1))
        .connect_lazy_with(file(path, options).read_only(true));
    let backend = Arc::new(SqliteBackend { writer, readers });
    Ok(Arc::new(SqlStore::new(backend, options.store)))
}

/// Connections to a file do not grow old, and idle ones cost nobody anything: sqlx's upkeep of them, which may go round
/// for ever (see store-mysql's pool), is left off.
fn pool(options: &SqliteOptions) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .acquire_timeout(options.acquire_timeout)
        .max_lifetime(None)
        .idle_timeout(None)
        .test_before_acquire(false)
}

/// Makes the file at `path` unless it is there, and brings its schema up to this binary's.
pub async fn migrate(path: &Path, options: &SqliteOptions) -> Result<(), StoreError> {
    let writer = writer(path, options, true).await?;
    schema::migrate(&writer).await?;
    let backend = Arc::new(SqliteBackend { readers: writer.clone(), writer: writer.clone() });
    SqlStore::new(backend, options.store).seed().await?;
    writer.close().await;
    Ok(())
}

fn file(path: &Path, options: &SqliteOptions) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(false)
        .busy_timeout(options.busy_timeout)
        .statement_cache_capacity(options.statements_max)
        .disable_statement_logging()
}

/// How often a file is opened again, should another process be making it at the same time: who turns the write-ahead
/// log on needs the file for itself, and SQLite doesn't wait for that, whatever the busy timeout.
const OPENS: u32 = 40;

async fn writer(path: &Path, options: &SqliteOptions, create: bool) -> Result<SqlitePool, StoreError> {
    let mut opens = 1;
    loop {
        let pool =
            pool(options).max_connections(1).connect_with(file(path, options).create_if_missing(create));
        match pool.await {
            Err(error) if has_code(&error, "5") && opens < OPENS => opens += 1,
            result => return result.map_err(|error| unopened(path, &error, create)),
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

fn has_code(error: &sqlx::Error, code: &str) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref() == Some(code)
}

fn unopened(path: &Path, error: &sqlx::Error, create: bool) -> StoreError {
    if has_code(error, "14") && !create {
        return StoreError::Schema(format!("there is no database at {}: run `yard migrate`", path.display()));
    }
    StoreError::Unavailable(format!("{}: {error}", path.display()))
}
