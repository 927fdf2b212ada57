//! The store suite on SQLite: each test on a file of its own.

#![expect(clippy::expect_used, reason = "a test may fail by panicking")]

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqlitePool;
use yard_ports::store::{Store, StoreLimits};
use yard_store_sqlite::{SqliteOptions, connect, migrate};
use yard_testkit::store_suite::Database;

struct File(tempfile::TempDir);

impl File {
    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("yard.db")
    }
}

#[async_trait]
impl Database for File {
    async fn open(&self, limits: StoreLimits) -> Arc<dyn Store> {
        connect(&self.path(), &SqliteOptions::new(limits)).await.expect("connect")
    }

    async fn tamper(&self, sql: &str) {
        let pool =
            SqlitePool::connect(&format!("sqlite://{}", self.path().display())).await.expect("connect");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.expect(sql);
        pool.close().await;
    }

    async fn remove(&self) {}
}

async fn fresh() -> Option<Arc<dyn Database>> {
    let file = File(tempfile::tempdir().expect("a directory"));
    let limits =
        StoreLimits { place_deadline: std::time::Duration::ZERO, launch_deadline: std::time::Duration::ZERO };
    migrate(&file.path(), &SqliteOptions::new(limits)).await.expect("migrate");
    Some(Arc::new(file))
}

yard_testkit::store_suite!(crate::fresh);
