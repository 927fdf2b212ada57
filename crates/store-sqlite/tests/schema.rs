//! A file whose schema doesn't fit is refused with what to do; migrating again, or eight at once, is fine.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panicking")]

use std::path::Path;
use std::time::Duration;

use sqlx::AssertSqlSafe;
use sqlx::sqlite::SqlitePool;
use yard_ports::store::{StoreError, StoreLimits};
use yard_store_sqlite::{SqliteOptions, connect, migrate};

fn options() -> SqliteOptions {
    SqliteOptions::new(StoreLimits { place_deadline: Duration::ZERO, launch_deadline: Duration::ZERO })
}

async fn refused(path: &Path) -> String {
    match connect(path, &options()).await {
        Err(StoreError::Schema(text)) => text,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("accepted"),
    }
}

async fn tamper(path: &Path, sql: &str) {
    let pool = SqlitePool::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.unwrap();
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schemas_that_do_not_fit_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("yard.db");
    assert!(refused(&path).await.contains("run `yard migrate`"));
    assert!(!path.exists(), "a mistyped path makes no file");
    let at_once: Vec<_> = (0..8)
        .map(|_| {
            let path = path.clone();
            tokio::spawn(async move { migrate(&path, &options()).await.unwrap() })
        })
        .collect();
    for task in at_once {
        task.await.unwrap();
    }
    let instance = connect(&path, &options()).await.unwrap().instance().await.unwrap();
    migrate(&path, &options()).await.unwrap();
    assert_eq!(connect(&path, &options()).await.unwrap().instance().await.unwrap(), instance);
    tamper(&path, "UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 1").await;
    assert!(refused(&path).await.contains("another build"));
    tamper(&path, "DELETE FROM _sqlx_migrations").await;
    assert!(refused(&path).await.contains("run `yard migrate`"));
    tamper(&path, "INSERT INTO _sqlx_migrations VALUES (9999, 'later', 0, 1, x'00', 0)").await;
    assert!(refused(&path).await.contains("newer yard"));
    let migrated = migrate(&path, &options()).await;
    assert!(
        matches!(&migrated, Err(StoreError::Schema(text)) if text.contains("newer yard")),
        "{migrated:?}"
    );
}

/// What a store wrote is there when the file is opened again, by another process while this one still has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_share_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("yard.db");
    migrate(&path, &options()).await.unwrap();
    let stores = [connect(&path, &options()).await.unwrap(), connect(&path, &options()).await.unwrap()];
    let tasks: Vec<_> = stores
        .into_iter()
        .enumerate()
        .map(|(i, store)| {
            tokio::spawn(async move {
                let mut tokens = Vec::new();
                for n in 0..50 {
                    let scope = yard_domain::LeaseScope::Scheduler(format!("{i}-{n}"));
                    let lease = store.acquire_lease(&scope, "me", Duration::from_mins(1)).await.unwrap();
                    tokens.push(lease.unwrap().token);
                }
                tokens
            })
        })
        .collect();
    let mut tokens = std::collections::BTreeSet::new();
    for task in tasks {
        tokens.extend(task.await.unwrap());
    }
    assert_eq!(tokens.len(), 100, "no token is given twice");
}
