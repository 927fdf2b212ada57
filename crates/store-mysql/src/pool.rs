//! Connections to the server: no more than are in use, none for too long.
//!
//! sqlx's own upkeep (`idle_timeout`, `max_lifetime`) is left off. Up to 0.9.0 it may count idle connections wrongly, and then
//! goes round for ever without yielding, and with it stands whatever waits on that thread
//! (<https://github.com/launchbadge/sqlx/issues/3645>; mended in its pull request 4289, which is in no release yet). So a
//! connection's age is looked at when it is taken, and what was not needed for a while is given up here.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use sqlx::mysql::{MySql, MySqlConnectOptions, MySqlPool, MySqlPoolOptions};
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Executor};
use tracing::debug;

use crate::MySqlOptions;

/// A pool of connections. Ends its upkeep when dropped.
pub(crate) struct Connections {
    pool: MySqlPool,
    usage: Arc<Usage>,
}

/// A connection, counted as in use until it is dropped.
pub(crate) struct Taken {
    pub(crate) conn: PoolConnection<MySql>,
    pub(crate) in_use: InUse,
}

impl Connections {
    /// Connects, once to begin with.
    pub(crate) async fn open(
        server: MySqlConnectOptions,
        options: &MySqlOptions,
    ) -> Result<Arc<Self>, sqlx::Error> {
        let silence_s = options.silence_max.as_secs().max(1);
        let lock_wait_s = options.lock_wait_timeout.as_secs().max(1);
        let session: Arc<str> = format!(
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
             SET SESSION innodb_lock_wait_timeout = {lock_wait_s}; SET SESSION wait_timeout = {silence_s}"
        )
        .into();
        let silence = Duration::from_secs(silence_s);
        let lifetime = options.connection_lifetime_max;
        let pool = MySqlPoolOptions::new()
            .max_connections(options.connections_max.max(1))
            .acquire_timeout(options.acquire_timeout)
            .max_lifetime(None)
            .idle_timeout(None)
            .test_before_acquire(false)
            // What has been silent for so long (we stood still) the server has ended by now.
            .before_acquire(move |_, is| {
                let fit = is.age < lifetime && is.idle_for < silence;
                Box::pin(async move { Ok(fit) })
            })
            .after_connect(move |conn, _| {
                let session = Arc::clone(&session);
                Box::pin(async move {
                    conn.execute(sqlx::raw_sql(AssertSqlSafe(session))).await?;
                    Ok(())
                })
            })
            .connect_with(server)
            .await?;
        let connections = Arc::new(Self { pool, usage: Arc::default() });
        // An unused one goes in the second of two periods at the latest, at half of the server's patience.
        tokio::spawn(upkeep(Arc::downgrade(&connections), silence / 4));
        Ok(connections)
    }

    /// Takes a connection, as soon as there is one.
    pub(crate) async fn take(&self) -> Result<Taken, sqlx::Error> {
        let in_use = self.usage.enter();
        Ok(Taken { conn: self.pool.acquire().await?, in_use })
    }

    /// The pool itself, for what is done once.
    pub(crate) fn pool(&self) -> &MySqlPool {
        &self.pool
    }

    /// Gives up as many as there are more than were in use at once since the last time. The pool is a queue: those that
    /// are found are the ones that have been idle the longest.
    async fn give_up_unused(&self, patience: Duration) {
        let surplus = self.pool.size().saturating_sub(self.usage.turn());
        for _ in 0..surplus {
            let Some(conn) = self.pool.try_acquire() else { break };
            match tokio::time::timeout(patience, conn.close()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%error, "an idle connection was broken"),
                Err(_) => debug!("an idle connection could not be closed in time"),
            }
        }
    }
}

async fn upkeep(connections: Weak<Connections>, period: Duration) {
    loop {
        tokio::time::sleep(period).await;
        let Some(connections) = connections.upgrade().filter(|c| !c.pool.is_closed()) else { break };
        connections.give_up_unused(period).await;
    }
}

/// How many are in use, or waited for.
#[derive(Default)]
struct Usage {
    now: AtomicU32,
    /// The most at once, in this period.
    peak: AtomicU32,
}

impl Usage {
    fn enter(self: &Arc<Self>) -> InUse {
        let now = self.now.fetch_add(1, Ordering::AcqRel) + 1;
        self.peak.fetch_max(now, Ordering::AcqRel);
        InUse(Arc::clone(self))
    }

    /// Ends a period; the most that were in use at once in it.
    fn turn(&self) -> u32 {
        self.peak.swap(self.now.load(Ordering::Acquire), Ordering::AcqRel)
    }
}

/// Counts for as long as it is kept.
pub(crate) struct InUse(Arc<Usage>);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_remembers_its_most_and_begins_with_what_is_in_use() {
        let usage = Arc::new(Usage::default());
        assert_eq!(usage.turn(), 0);
        let one = usage.enter();
        let two = usage.enter();
        drop(one);
        assert_eq!((usage.turn(), usage.turn()), (2, 1));
        drop(two);
        assert_eq!((usage.turn(), usage.turn()), (1, 0));
    }
}
