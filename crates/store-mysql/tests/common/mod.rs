//! A database per test, on the servers that the environment names.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::mysql::MySqlPool;
use sqlx::{AssertSqlSafe, Connection, MySqlConnection};
use yard_ports::store::{Store, StoreLimits};
use yard_store_mysql::{MySqlOptions, connect, migrate};
use yard_testkit::store_suite::Database;

/// A schema of its own on a server.
pub struct Schema {
    server: String,
    /// Where it is.
    pub url: String,
    name: String,
}

impl Schema {
    /// Makes one on the server that the variable names, and migrates it; `None`, with a line that says so, if there
    /// is no such variable.
    pub async fn fresh(variable: &str) -> Option<Self> {
        let schema = Self::empty(variable).await?;
        migrate(&schema.url, &options(calm())).await.expect("migrate");
        Some(schema)
    }

    /// As [`Schema::fresh`], but without any table.
    pub async fn empty(variable: &str) -> Option<Self> {
        let Ok(server) = std::env::var(variable) else {
            eprintln!(
                "left out: {variable} is not set (tests/env/up.py --mariadb --mysql -- COMMAND sets it)"
            );
            return None;
        };
        let name = format!("yard_{}", uuid::Uuid::new_v4().simple());
        run(&server, &format!("CREATE DATABASE {name}")).await;
        let base = server
            .rsplit_once('/')
            .filter(|(base, _)| !base.ends_with('/'))
            .map_or(server.as_str(), |(b, _)| b);
        let url = format!("{base}/{name}");
        Some(Self { server, url, name })
    }

    /// A pool of connections past the store.
    pub async fn pool(&self) -> MySqlPool {
        MySqlPool::connect(&self.url).await.expect("connect")
    }
}

/// Few connections: many tests share a server.
pub fn options(limits: StoreLimits) -> MySqlOptions {
    MySqlOptions { connections_max: 10, ..MySqlOptions::new(limits) }
}

/// Clocks that no test runs into.
pub fn calm() -> StoreLimits {
    StoreLimits { place_deadline: Duration::from_mins(5), launch_deadline: Duration::from_mins(5) }
}

async fn run(url: &str, sql: &str) {
    let mut conn = MySqlConnection::connect(url).await.expect("connect");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await.expect(sql);
    conn.close().await.expect("close");
}

#[async_trait]
impl Database for Schema {
    async fn open(&self, limits: StoreLimits) -> Arc<dyn Store> {
        connect(&self.url, &options(limits)).await.expect("connect")
    }

    async fn tamper(&self, sql: &str) {
        run(&self.url, sql).await;
    }

    async fn remove(&self) {
        run(&self.server, &format!("DROP DATABASE {}", self.name)).await;
    }
}
