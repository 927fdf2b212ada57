//! Events while a transaction is held open: what commits late comes late, and is not skipped.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panicking")]

#[allow(dead_code, reason = "each test file uses its part of it")]
mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use yard_ports::store::JobEvent;
use yard_testkit::store_suite::{Database, World};

use crate::common::Schema;

/// What the store would write for a wish to stop a queued job, but for its end.
async fn write_late(stalled: &mut sqlx::MySqlConnection, slow: yard_domain::JobId) {
    let mut refs = slow.0.as_bytes().to_vec();
    refs.extend_from_slice(&2_u32.to_be_bytes());
    sqlx::query("UPDATE jobs SET version = 2, stop_us = since_us WHERE id = ?")
        .bind(slow.0.as_bytes().to_vec())
        .execute(&mut *stalled)
        .await
        .unwrap();
    sqlx::query("INSERT INTO event_batches (at_us, line_refs) VALUES (1, ?)")
        .bind(refs)
        .execute(&mut *stalled)
        .await
        .unwrap();
    sqlx::query(
        "INSERT INTO history VALUES (?, 2, 1, 'user:slow', 'queued', 'queued', 'stop_requested', '{\"reason\":\"late\"}')",
    )
    .bind(slow.0.as_bytes().to_vec())
    .execute(&mut *stalled)
    .await
    .unwrap();
}

/// A transaction writes a line of history and its reference first of all, and commits after eight writers have written
/// theirs and readers have gone past.
async fn a_stalled_transaction_is_not_skipped(variable: &str) {
    let Some(schema) = Schema::fresh(variable).await else { return };
    let schema = Arc::new(schema);
    let world = Arc::new(World::new(schema.clone()).await);
    let slow = world.accept("ads", 1).await[0];
    let pool = schema.pool().await;
    let mut connection = pool.acquire().await.unwrap();
    // As the store's own sessions: no gap locks.
    sqlx::raw_sql("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        .execute(&mut *connection)
        .await
        .unwrap();
    let mut stalled = sqlx::Connection::begin(&mut *connection).await.unwrap();
    write_late(&mut stalled, slow).await;
    let left = Arc::new(AtomicU64::new(8));
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let (world, left) = (world.clone(), left.clone());
            tokio::spawn(async move {
                for _ in 0..10 {
                    let job = world.accept("ml", 3).await[0];
                    world.store.request_stop(job, "test", "").await.unwrap();
                }
                left.fetch_sub(1, Ordering::Relaxed);
            })
        })
        .collect();
    let (mut at, mut seen): (u64, Vec<JobEvent>) = (0, Vec::new());
    let mut stalled = Some(stalled);
    let began = std::time::Instant::now();
    loop {
        assert!(began.elapsed() < Duration::from_mins(1), "{} seen", seen.len());
        let over = stalled.is_none();
        // Before what is read here: so nothing of theirs can be left out.
        let done = left.load(Ordering::Relaxed) == 0;
        world.store.number_events(10).await.unwrap();
        let page = world.store.events(at, 50).await.unwrap();
        assert_eq!(
            page.events.iter().map(|e| e.pos).collect::<Vec<_>>(),
            (at + 1..=page.upto).collect::<Vec<_>>()
        );
        let nothing = page.upto == at;
        at = page.upto;
        seen.extend(page.events);
        let late = seen.iter().any(|e| e.line.job == slow && e.line.seq == 2);
        assert!(over || !late, "what is not committed is not seen");
        if nothing && done {
            match stalled.take() {
                // Everybody else is done and seen; now it commits.
                Some(tx) => {
                    assert_eq!(seen.len(), 1 + 8 * 10 * 5);
                    tx.commit().await.unwrap();
                }
                None if late => break,
                None => {}
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(seen.len(), 2 + 8 * 10 * 5, "nothing twice");
    assert_eq!(seen.last().map(|e| (e.line.job, e.line.seq)), Some((slow, 2)));
    drop(stalled);
    drop(connection);
    pool.close().await;
    schema.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb() {
    a_stalled_transaction_is_not_skipped("YARD_TEST_MARIADB_URL").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql() {
    a_stalled_transaction_is_not_skipped("YARD_TEST_MYSQL_URL").await;
}
