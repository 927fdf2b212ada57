//! The connections of a store: unused ones are given up before the server ends them, old ones are replaced.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panicking")]

#[allow(dead_code, reason = "each test file uses its part of it")]
mod common;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sqlx::mysql::MySqlConnection;
use sqlx::{Connection, Row};
use yard_ports::store::Store;
use yard_store_mysql::{MySqlOptions, connect};
use yard_testkit::store_suite::Database;

use crate::common::{Schema, calm, options};

/// The server's ids of the connections to a schema, but for the one that asks.
async fn sessions(asks: &mut MySqlConnection) -> BTreeSet<u64> {
    let sql = "SELECT CAST(id AS UNSIGNED) AS id FROM information_schema.processlist \
               WHERE db = DATABASE() AND id <> CONNECTION_ID()";
    let rows = sqlx::query(sql).fetch_all(asks).await.unwrap();
    rows.iter().map(|row| row.get::<u64, _>("id")).collect()
}

/// Connections that the server has ended, or lost without a word.
async fn aborted(asks: &mut MySqlConnection) -> u64 {
    let row = sqlx::query("SHOW GLOBAL STATUS LIKE 'Aborted_clients'").fetch_one(asks).await.unwrap();
    row.get::<String, _>(1).parse().unwrap()
}

async fn eventually(what: &str, mut probe: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !probe().await {
        assert!(began.elapsed() < Duration::from_secs(30), "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Eight at once.
async fn burst(store: &dyn Store) {
    futures::future::join_all((0..8).map(|_| async { store.now().await.unwrap() })).await;
}

async fn unused_connections_are_given_up(variable: &str) {
    let Some(schema) = Schema::fresh(variable).await else { return };
    let mut asks = MySqlConnection::connect(&schema.url).await.unwrap();
    let before = aborted(&mut asks).await;
    let store = connect(&schema.url, &options(calm())).await.unwrap();
    burst(store.as_ref()).await;
    assert!(sessions(&mut asks).await.len() > 1);
    // One is enough for this, and stays.
    eventually("one is left", async || {
        store.now().await.unwrap();
        sessions(&mut asks).await.len() == 1
    })
    .await;
    eventually("none is left", async || sessions(&mut asks).await.is_empty()).await;
    assert_eq!(aborted(&mut asks).await, before, "each was closed, none by the server");
    burst(store.as_ref()).await;
    assert!(!sessions(&mut asks).await.is_empty(), "there are new ones when they are needed");
    drop(store);
    schema.remove().await;
}

async fn old_connections_are_replaced(variable: &str) {
    let Some(schema) = Schema::fresh(variable).await else { return };
    let mut asks = MySqlConnection::connect(&schema.url).await.unwrap();
    let short = MySqlOptions {
        connection_lifetime_max: Duration::from_millis(200),
        // None is given up as unused meanwhile.
        silence_max: Duration::from_mins(5),
        ..options(calm())
    };
    let store = connect(&schema.url, &short).await.unwrap();
    let first = sessions(&mut asks).await;
    assert!(!first.is_empty());
    eventually("others have taken their place", async || {
        store.now().await.unwrap();
        let now = sessions(&mut asks).await;
        !now.is_empty() && now.is_disjoint(&first)
    })
    .await;
    drop(store);
    schema.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb() {
    unused_connections_are_given_up("YARD_TEST_MARIADB_URL").await;
    old_connections_are_replaced("YARD_TEST_MARIADB_URL").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql() {
    unused_connections_are_given_up("YARD_TEST_MYSQL_URL").await;
    old_connections_are_replaced("YARD_TEST_MYSQL_URL").await;
}
