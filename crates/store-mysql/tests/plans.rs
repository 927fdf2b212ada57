//! The cost of the hot statements: it must not grow with the tables, whatever the optimizer believes of them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panicking")]

#[allow(dead_code, reason = "each test file uses its part of it")]
mod common;

use sqlx::mysql::MySqlPool;
use sqlx::{AssertSqlSafe, Row};
use yard_store_sql::{Dialect, hot};
use yard_testkit::store_suite::Database;

use crate::common::Schema;

const ROWS: usize = 20_000;

/// Queued jobs of 4 teams and 3 shapes; one in ten is on a cluster, one in ten has ended.
async fn fill(pool: &MySqlPool) {
    let columns = "id, team, shape, queue_order, ready, clock_kind, clock_us, cluster, pending_us, state, version, \
                   since_us, attempts, retries_own, retries_infra, preemptions, max_retries, queue_timeout_us, \
                   run_timeout_us, created_us, idem_key, name, request, selector, document";
    for chunk in (0..ROWS).collect::<Vec<_>>().chunks(1_000) {
        let row = |i: &usize| {
            let (team, shape) = (i % 4, i % 3);
            let moving = match i % 10 {
                0 => {
                    let pending = if i.is_multiple_of(20) { "1" } else { "NULL" };
                    // As binaries of before migration 2 left one in a hundred.
                    let clock = if i.is_multiple_of(100) { "NULL, NULL" } else { &format!("4, {i}") };
                    format!("NULL, {clock}, 'east', {pending}, 'placed'")
                }
                1 => format!("NULL, 3, {i}, NULL, NULL, 'succeeded'"),
                2 => format!("NULL, 2, {i}, NULL, NULL, 'queued'"),
                _ => format!("1, 1, {i}, NULL, NULL, 'queued'"),
            };
            format!(
                "(UNHEX('{i:032x}'), 't{team}', {shape}, {i}, {moving}, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 'k', 'n', '{{}}', \
                 '{{}}', '{}')",
                "d".repeat(300)
            )
        };
        let rows: Vec<String> = chunk.iter().map(row).collect();
        let sql = format!("INSERT INTO jobs ({columns}) VALUES {}", rows.join(", "));
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.unwrap();
        let ended = chunk.iter().filter(|i| *i % 10 == 1);
        let ended: Vec<String> =
            ended.map(|i| format!("(UNHEX('{i:032x}'), 1, 'east', 1, 1, 1, {i}, 'succeeded')")).collect();
        let columns = "job_id, number, cluster, placed_us, launched_us, started_us, ended_us, end_code";
        let sql = format!("INSERT INTO attempts ({columns}) VALUES {}", ended.join(", "));
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.unwrap();
    }
}

/// Deliveries of one subscription: of each job one that is dead, and three that are pending.
async fn fill_deliveries(pool: &MySqlPool) {
    let columns = "team, name, pos, lane, state, attempts, due_us, created_us, body";
    for chunk in (0..ROWS).collect::<Vec<_>>().chunks(1_000) {
        let row = |i: &usize| {
            let (state, lane) = (if i.is_multiple_of(4) { "dead" } else { "pending" }, i / 4);
            format!("('t2', 'hook', {i}, UNHEX('{lane:032x}'), '{state}', 0, {i}, 0, '{}')", "b".repeat(300))
        };
        let rows: Vec<String> = chunk.iter().map(row).collect();
        let sql = format!("INSERT INTO deliveries ({columns}) VALUES {}", rows.join(", "));
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.unwrap();
    }
}

/// How many entries and rows the server reads for a statement: its own count, whatever it calls its plan.
async fn reads(pool: &MySqlPool, sql: &str, args: &[Arg]) -> (usize, u64) {
    let mut tx = pool.begin().await.unwrap();
    sqlx::raw_sql("FLUSH STATUS").execute(&mut *tx).await.unwrap();
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for arg in args {
        query = match arg {
            Arg::Int(value) => query.bind(*value),
            Arg::Text(value) => query.bind(*value),
            Arg::Id(value) => query.bind(value.to_be_bytes().to_vec()),
        };
    }
    let rows = query.fetch_all(&mut *tx).await.unwrap().len();
    let status = sqlx::raw_sql("SHOW SESSION STATUS LIKE 'Handler_read%'").fetch_all(&mut *tx).await.unwrap();
    let count =
        |row: &sqlx::mysql::MySqlRow| row.try_get_unchecked::<String, _>(1).unwrap().parse::<u64>().unwrap();
    let reads = status.iter().map(count).sum();
    tx.rollback().await.unwrap();
    (rows, reads)
}

enum Arg {
    Int(i64),
    Text(&'static str),
    Id(u128),
}

/// Each statement reads little more than it returns: no scan, no sort, in the middle of every range.
async fn all_read_little(pool: &MySqlPool, when: &str) {
    let dialect = Dialect::MySql;
    let (team, shape, limit, now) = (Arg::Text("t2"), Arg::Int(1), Arg::Int(20), Arg::Int(i64::MAX));
    let east = || Arg::Text("east");
    let statements = [
        (hot::next_team(dialect), vec![Arg::Text("t1")], 1),
        (hot::next_shape(dialect), vec![Arg::Text("t2"), Arg::Int(2)], 1),
        (hot::head(dialect, "team, shape, queue_order"), vec![team, shape, limit], 20),
        (hot::claim(dialect), vec![Arg::Text("t2"), Arg::Int(1), Arg::Int(20)], 20),
        (hot::placed(dialect), vec![east(), Arg::Int(20)], 20),
        (hot::active(dialect), vec![east(), Arg::Id(ROWS as u128 / 2), Arg::Int(20)], 20),
        (hot::backoffs(dialect), vec![now, Arg::Int(20)], 20),
        (hot::expiries(dialect), vec![Arg::Int(i64::MAX), Arg::Int(20)], 20),
        (hot::ended(dialect), vec![Arg::Int(i64::MAX), Arg::Int(20)], 20),
        (hot::holdings(dialect), vec![Arg::Int(20)], 20),
        (hot::unordered(dialect), vec![Arg::Int(20)], 20),
    ];
    for (sql, args, wanted) in statements {
        let (rows, reads) = reads(pool, &sql, &args).await;
        assert_eq!(rows, wanted, "{when}: {sql}");
        assert!(reads <= 2 * wanted as u64 + 5, "{when}: {reads} reads for {wanted} rows: {sql}");
    }
    // Of three pending ones of a job, the first is found; each is looked behind.
    let args = vec![Arg::Text("t2"), Arg::Text("hook"), Arg::Int(i64::MAX), Arg::Int(20)];
    let sql = hot::due_deliveries(dialect);
    let (rows, read) = reads(pool, &sql, &args).await;
    assert_eq!(rows, 20, "{when}: {sql}");
    assert!(read <= 15 * 20 + 5, "{when}: {read} reads for {rows} rows: {sql}");
    // Each of these rows brings attempts with it: one more read for each, or two.
    let (middle, all) = (i64::try_from(ROWS).unwrap() / 2, Arg::Int(i64::MAX));
    let after = vec![Arg::Int(middle), Arg::Int(middle), Arg::Id(0), Arg::Int(20)];
    let window = vec![Arg::Id(ROWS as u128 / 2), Arg::Id(u128::MAX), Arg::Int(0), all, Arg::Int(20)];
    for (sql, args) in [(hot::ended_runs(dialect), after), (hot::arrivals(dialect), window)] {
        let (rows, reads) = reads(pool, &sql, &args).await;
        assert_eq!(rows, 20, "{when}: {sql}");
        assert!(reads <= 4 * 20 + 5, "{when}: {reads} reads for {rows} rows: {sql}");
    }
}

/// With statistics that are out of date, and with fresh ones.
async fn hot_statements_read_little(variable: &str) {
    let Some(schema) = Schema::fresh(variable).await else { return };
    let pool = schema.pool().await;
    fill(&pool).await;
    fill_deliveries(&pool).await;
    all_read_little(&pool, "stale statistics").await;
    sqlx::raw_sql("ANALYZE TABLE jobs, deliveries").execute(&pool).await.unwrap();
    all_read_little(&pool, "fresh statistics").await;
    pool.close().await;
    schema.remove().await;
}

#[tokio::test]
async fn mariadb() {
    hot_statements_read_little("YARD_TEST_MARIADB_URL").await;
}

#[tokio::test]
async fn mysql() {
    hot_statements_read_little("YARD_TEST_MYSQL_URL").await;
}
