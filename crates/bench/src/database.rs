//! A database of its own for each benchmark, on the server that is measured; plain SQL beside the store.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlPool, MySqlPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};
use uuid::Uuid;

use crate::Result;

/// A fresh database. [`Scratch::drop_database`] removes it.
pub struct Scratch {
    /// Where it is.
    pub url: String,
    /// For plain SQL, the floors included.
    pub pool: MySqlPool,
    name: String,
    server: MySqlConnectOptions,
}

impl Scratch {
    /// Makes an empty database on the server of `url`. `connections`: most of the pool.
    pub async fn create(url: &str, connections: u32) -> Result<Self> {
        let name = format!("yard_bench_{}", Uuid::new_v4().simple());
        let server: MySqlConnectOptions = url.parse()?;
        let mut connection = server.connect().await?;
        run(&mut connection, &format!("CREATE DATABASE {name}")).await?;
        connection.close().await?;
        let url = with_database(url, &name)?;
        let options = server.clone().database(&name).statement_cache_capacity(500);
        let pool = MySqlPoolOptions::new().max_connections(connections).connect_with(options).await?;
        Ok(Self { url, pool, name, server })
    }

    /// Removes the database.
    pub async fn drop_database(self) -> Result<()> {
        self.pool.close().await;
        let mut connection = self.server.connect().await?;
        run(&mut connection, &format!("DROP DATABASE {}", self.name)).await?;
        Ok(connection.close().await?)
    }

    /// Runs one statement without parameters.
    pub async fn run(&self, sql: &str) -> Result<u64> {
        run(&mut *self.pool.acquire().await?, sql).await
    }

    /// Reads one number.
    pub async fn number(&self, sql: &str) -> Result<i64> {
        Ok(sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&self.pool).await?)
    }

    /// A table like `real` under the name `floor`, indexes included, without rows. Makes it again if it is there.
    pub async fn make_like(&self, floor: &str, real: &str) -> Result<()> {
        self.run(&format!("DROP TABLE IF EXISTS {floor}")).await?;
        self.run(&format!("CREATE TABLE {floor} LIKE {real}")).await?;
        Ok(())
    }

    /// Empties tables.
    pub async fn truncate(&self, tables: &[&str]) -> Result<()> {
        for table in tables {
            self.run(&format!("TRUNCATE TABLE {table}")).await?;
        }
        Ok(())
    }

    /// A counter of the server, all sessions together.
    pub async fn status(&self, name: &str) -> Result<i64> {
        let sql = format!("SHOW GLOBAL STATUS LIKE '{name}'");
        let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(&self.pool).await?;
        Ok(row.try_get::<String, _>(1)?.parse()?)
    }

    /// Waits until the server has cleaned up behind what was written, at most `longest`; tells whether it has.
    /// What one measurement left behind must not be paid for by the next.
    pub async fn settle(&self, longest: Duration) -> Result<bool> {
        let began = Instant::now();
        while began.elapsed() < longest {
            if self.status("Innodb_history_list_length").await? < 100 {
                return Ok(true);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(false)
    }

    /// What the figures depend on.
    pub async fn environment(&self) -> Result<Value> {
        let sql = "SELECT VERSION(), CAST(@@innodb_flush_log_at_trx_commit AS CHAR), CAST(@@log_bin AS CHAR), \
                   CAST(@@sync_binlog AS CHAR), CAST(@@innodb_buffer_pool_size DIV 1048576 AS CHAR)";
        let row = sqlx::query(sql).fetch_one(&self.pool).await?;
        let text = |i: usize| row.try_get::<String, _>(i);
        let flush = text(1)?;
        if flush != "1" {
            return Err(
                format!("innodb_flush_log_at_trx_commit is {flush}: figures need the default, 1").into()
            );
        }
        Ok(json!({
            "server": text(0)?, "innodb_flush_log_at_trx_commit": flush, "log_bin": text(2)?,
            "sync_binlog": text(3)?, "innodb_buffer_pool_mib": text(4)?,
        }))
    }
}

/// Runs one statement without parameters, unprepared.
async fn run(connection: &mut MySqlConnection, sql: &str) -> Result<u64> {
    Ok(sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await?.rows_affected())
}

/// The same server, another database.
fn with_database(url: &str, name: &str) -> Result<String> {
    let (address, options) = url.split_once('?').map_or((url, None), |(a, o)| (a, Some(o)));
    let scheme = address.find("://").ok_or("the URL has no scheme")? + 3;
    let server = address[scheme..].split('/').next().unwrap_or_default();
    let options = options.map_or_else(String::new, |o| format!("?{o}"));
    Ok(format!("{}{server}/{name}{options}", &address[..scheme]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_of_a_url_is_replaced() {
        let other = |url| with_database(url, "x").unwrap();
        assert_eq!(other("mysql://u:p@h:1/yard"), "mysql://u:p@h:1/x");
        assert_eq!(other("mysql://u:p@h:1/yard?ssl-mode=DISABLED"), "mysql://u:p@h:1/x?ssl-mode=DISABLED");
        assert_eq!(other("mysql://h"), "mysql://h/x");
        assert!(with_database("nonsense", "x").is_err());
    }
}
