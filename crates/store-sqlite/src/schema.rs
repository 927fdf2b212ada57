//! The schema: migrations are part of the binary.

use std::time::Duration;

use sqlx::Row;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::SqlitePool;
use yard_ports::store::StoreError;
use yard_store_sql::{Applied, Known};

use crate::convert::classify;

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/sqlite");

/// How often a migration is tried again, should another process migrate the same file at the same time.
const TRIES: u32 = 20;

/// Brings the schema up to date. Several processes may try at once: each migration is a transaction of the only
/// writer, so one of them applies it, and the others find it applied when they try again.
pub(crate) async fn migrate(pool: &SqlitePool) -> Result<(), StoreError> {
    let mut tries = 1;
    loop {
        let mut connection = pool.acquire().await.map_err(unavailable)?;
        // Not `run`: the compiler can't see that its future is Send.
        match MIGRATIONS.run_direct(None, &mut *connection, false).await {
            Ok(()) => return Ok(()),
            Err(error) if tries == TRIES || !is_rivalry(&error) => {
                return Err(refused(&error));
            }
            Err(_) => tries += 1,
        }
        drop(connection);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What is wrong with the migrations themselves stays wrong; what the database says may be another's doing.
fn is_rivalry(error: &MigrateError) -> bool {
    matches!(error, MigrateError::Execute(_) | MigrateError::ExecuteMigration(..))
}

fn refused(error: &MigrateError) -> StoreError {
    let newest = MIGRATIONS.iter().map(|m| m.version).max().unwrap_or(0);
    StoreError::Schema(match error {
        MigrateError::VersionMissing(unknown) => yard_store_sql::newer_schema(*unknown, newest),
        error => format!("can't migrate: {error}"),
    })
}

pub(crate) async fn check(pool: &SqlitePool) -> Result<(), StoreError> {
    let known: Vec<Known> =
        MIGRATIONS.iter().map(|m| Known { version: m.version, checksum: m.checksum.to_vec() }).collect();
    yard_store_sql::check_schema(&known, applied(pool).await.map_err(unavailable)?.as_deref())
}

async fn applied(pool: &SqlitePool) -> Result<Option<Vec<Applied>>, sqlx::Error> {
    let there = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_sqlx_migrations'";
    if sqlx::query(there).fetch_optional(pool).await?.is_none() {
        return Ok(None);
    }
    let rows = sqlx::query("SELECT version, checksum, success FROM _sqlx_migrations ORDER BY version");
    let rows = rows.fetch_all(pool).await?;
    let read = |row: sqlx::sqlite::SqliteRow| {
        Ok(Applied { version: row.try_get(0)?, checksum: row.try_get(1)?, success: row.try_get(2)? })
    };
    rows.into_iter().map(read).collect::<Result<_, sqlx::Error>>().map(Some)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unavailable(error: sqlx::Error) -> StoreError {
    StoreError::Unavailable(classify(&error).to_string())
}
