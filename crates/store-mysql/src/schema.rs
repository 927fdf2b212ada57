//! The schema: migrations are part of the binary.

use sqlx::Row;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::mysql::MySqlPool;
use yard_ports::store::StoreError;
use yard_store_sql::{Applied, Known};

use crate::convert::classify;

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/mysql");

/// Longest wait for another process that migrates the same database, in seconds.
const LOCK_WAIT_S: u32 = 600;

/// Brings the schema up to date. Several processes may try at once: one does it, the others wait for it.
pub(crate) async fn migrate(pool: &MySqlPool) -> Result<(), StoreError> {
    let mut connection = pool.acquire().await.map_err(unavailable)?;
    // sqlx locks too, but with a wait of -1, which is 'for ever' to MySQL and 'not at all' to MariaDB.
    let lock = "SELECT GET_LOCK(LEFT(CONCAT('yard.migrate:', DATABASE()), 64), ?)";
    let locked: Option<i64> =
        sqlx::query_scalar(lock).bind(LOCK_WAIT_S).fetch_one(&mut *connection).await.map_err(unavailable)?;
    if locked != Some(1) {
        return Err(StoreError::Unavailable("another process is migrating this database".to_owned()));
    }
    // Not `run`: the compiler can't see that its future is Send.
    let migrated = MIGRATIONS.run_direct(None, &mut *connection, false).await;
    // The lock goes with the connection, so it must not go back to the pool.
    let closed = connection.close().await;
    migrated.map_err(|e| refused(&e))?;
    closed.map_err(unavailable)
}

fn refused(error: &MigrateError) -> StoreError {
    let newest = MIGRATIONS.iter().map(|m| m.version).max().unwrap_or(0);
    StoreError::Schema(match error {
        MigrateError::VersionMissing(unknown) => yard_store_sql::newer_schema(*unknown, newest),
        error => format!("can't migrate: {error}"),
    })
}

pub(crate) async fn check(pool: &MySqlPool) -> Result<(), StoreError> {
    let known: Vec<Known> =
        MIGRATIONS.iter().map(|m| Known { version: m.version, checksum: m.checksum.to_vec() }).collect();
    yard_store_sql::check_schema(&known, applied(pool).await.map_err(unavailable)?.as_deref())
}

async fn applied(pool: &MySqlPool) -> Result<Option<Vec<Applied>>, sqlx::Error> {
    let there = "SELECT 1 FROM information_schema.tables \
                 WHERE table_schema = DATABASE() AND table_name = '_sqlx_migrations'";
    if sqlx::query(there).fetch_optional(pool).await?.is_none() {
        return Ok(None);
    }
    let rows = sqlx::query("SELECT version, checksum, success FROM _sqlx_migrations ORDER BY version");
    let rows = rows.fetch_all(pool).await?;
    let read = |row: sqlx::mysql::MySqlRow| {
        Ok(Applied { version: row.try_get(0)?, checksum: row.try_get(1)?, success: row.try_get(2)? })
    };
    rows.into_iter().map(read).collect::<Result<_, sqlx::Error>>().map(Some)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unavailable(error: sqlx::Error) -> StoreError {
    StoreError::Unavailable(classify(&error).to_string())
}
