//! The plans of the hot statements: a search of an index in its own order, no scan, no sort.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panicking")]

use sqlx::sqlite::SqlitePool;
use sqlx::{AssertSqlSafe, Row};
use yard_ports::store::StoreLimits;
use yard_store_sql::{Dialect, hot};
use yard_store_sqlite::{SqliteOptions, migrate};

async fn plan(pool: &SqlitePool, sql: &str) -> String {
    let rows = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"))).fetch_all(pool).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>("detail")).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn hot_statements_keep_their_plans() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("yard.db");
    let limits =
        StoreLimits { place_deadline: std::time::Duration::ZERO, launch_deadline: std::time::Duration::ZERO };
    migrate(&path, &SqliteOptions::new(limits)).await.unwrap();
    let pool = SqlitePool::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    let dialect = Dialect::Sqlite;
    let statements = [
        ("jobs_ready", hot::next_team(dialect)),
        ("jobs_ready", hot::next_shape(dialect)),
        ("jobs_ready", hot::head(dialect, "team, shape, queue_order")),
        ("jobs_ready", hot::claim(dialect)),
        ("jobs_cluster", hot::placed(dialect)),
        ("jobs_cluster", hot::active(dialect)),
        ("jobs_clock", hot::backoffs(dialect)),
        ("jobs_clock", hot::expiries(dialect)),
        ("jobs_clock", hot::ended(dialect)),
        ("jobs_clock", hot::holdings(dialect)),
        ("jobs_clock", hot::unordered(dialect)),
        ("jobs_clock", hot::ended_runs(dialect)),
        ("sqlite_autoindex_jobs_1", hot::arrivals(dialect)),
        ("sqlite_autoindex_jobs_1", hot::list_end(dialect, "PRIMARY", "id < ?")),
        ("deliveries_due", hot::due_deliveries(dialect)),
        ("deliveries_lane", hot::due_deliveries(dialect)),
        ("jobs_team", hot::list_end(dialect, "jobs_team", "team = ? AND id < ?")),
    ];
    for (index, sql) in statements {
        let plan = plan(&pool, &sql).await;
        assert!(plan.contains(&format!("INDEX {index}")), "{sql}\n{plan}");
        assert!(!plan.contains("SCAN") && !plan.contains("TEMP B-TREE"), "{sql}\n{plan}");
    }
    let receipts = "SELECT job_id FROM receipts WHERE (team, idem_key) IN (VALUES (?, ?), (?, ?))";
    let plan = plan(&pool, receipts).await;
    assert!(plan.contains("SEARCH receipts USING PRIMARY KEY"), "{plan}");
}
