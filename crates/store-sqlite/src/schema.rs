//! The schema: migrations are part of the binary.

use sqlx::Row;
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqlitePool;
use yard_ports::store::StoreError;
use yard_store_sql::{Applied, Known};

use crate::convert::classify;

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/sqlite");

pub(crate) async fn migrate(pool: &SqlitePool) -> Result<(), StoreError> {
    MIGRATIONS.run(pool).await.map_err(|e| StoreError::Schema(format!("can't migrate: {e}")))
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

fn unavailable(error: sqlx::Error) -> StoreError {
    StoreError::Unavailable(classify(&error).to_string())
}
