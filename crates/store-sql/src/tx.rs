//! Named transactions: begun, run, committed, redone when the database or a rival says so, counted by name.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder};
use yard_ports::store::StoreError;

use crate::backend::{Backend, Dialect, Row, SqlError, Tx, TxKind, Value};
use crate::fault::{CONNECTION, Fault};

/// How long a connection is asked for again after one that was dead.
const BEGIN_AGAIN_FOR: Duration = Duration::from_secs(1);
const BEGIN_AGAIN_AFTER: Duration = Duration::from_millis(5);

/// An open transaction in the hands of a verb.
pub(crate) struct Conn {
    tx: Box<dyn Tx>,
    /// Which SQL to speak.
    pub(crate) dialect: Dialect,
    /// The verb's name, for counts.
    pub(crate) verb: &'static str,
}

impl Conn {
    pub(crate) async fn rows(
        &mut self,
        sql: impl Into<Cow<'static, str>>,
        args: Vec<Value>,
    ) -> Result<Vec<Row>, Fault> {
        Ok(self.tx.rows(sql.into(), args).await?)
    }

    pub(crate) async fn run(
        &mut self,
        sql: impl Into<Cow<'static, str>>,
        args: Vec<Value>,
    ) -> Result<u64, Fault> {
        Ok(self.tx.run(sql.into(), args).await?)
    }
}

/// The work of one transaction. It may be run more than once, each time in a transaction of its own; only one of
/// them is committed.
#[async_trait]
pub(crate) trait Work: Sync {
    /// What it answers.
    type Out: Send;
    /// Its name in counts and errors.
    const NAME: &'static str;
    /// What kind of transaction it needs.
    const KIND: TxKind = TxKind::Write;
    /// Does it.
    async fn run(&self, conn: &mut Conn) -> Result<Self::Out, Fault>;
}

/// How often, and how patiently, transactions are redone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryOptions {
    /// Most times that a transaction is redone after a deadlock, a lock timeout or a lost race.
    pub retries_max: u32,
    /// Wait before the first time; doubles, with jitter.
    pub delay_min: Duration,
    /// Longest wait.
    pub delay_max: Duration,
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self { retries_max: 10, delay_min: Duration::from_millis(2), delay_max: Duration::from_millis(250) }
    }
}

/// Runs transactions on a backend.
pub(crate) struct Runner {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) retry: RetryOptions,
}

impl Runner {
    /// Runs `work` to its commit.
    pub(crate) async fn run<W: Work>(&self, work: &W) -> Result<W::Out, StoreError> {
        let began = Instant::now();
        let mut delays = ExponentialBuilder::default()
            .with_min_delay(self.retry.delay_min)
            .with_max_delay(self.retry.delay_max)
            .with_max_times(usize::try_from(self.retry.retries_max).unwrap_or(usize::MAX))
            .with_jitter()
            .build();
        let result = loop {
            let fault = match self.once(work).await {
                Ok(out) => break Ok(out),
                Err(fault) => fault,
            };
            // A database that is down is the caller's to wait for.
            let code = fault
                .redo_code(W::KIND)
                .filter(|code| *code != CONNECTION || began.elapsed() < BEGIN_AGAIN_FOR);
            let delay = code.and_then(|code| delays.next().map(|delay| (code, delay)));
            let Some((code, delay)) = delay else { break Err(fault) };
            tracing::debug!(tx = W::NAME, code, "transaction is redone");
            metrics::counter!("yard_store_tx_retries_total", "name" => W::NAME, "code" => code).increment(1);
            tokio::time::sleep(delay).await;
        };
        let label = result.as_ref().map_or_else(Fault::label, |_| "ok");
        metrics::counter!("yard_store_tx_total", "name" => W::NAME, "result" => label).increment(1);
        metrics::histogram!("yard_store_tx_seconds", "name" => W::NAME).record(began.elapsed().as_secs_f64());
        result.map_err(|fault| fault.into_store_error(W::NAME))
    }

    async fn once<W: Work>(&self, work: &W) -> Result<W::Out, Fault> {
        let tx = self.begin(W::KIND).await?;
        let mut conn = Conn { tx, dialect: self.backend.dialect(), verb: W::NAME };
        let out = work.run(&mut conn).await?;
        conn.tx.commit().await?;
        Ok(out)
    }

    /// Pooled connections may have died unnoticed (all of them, if the database was restarted); nothing has been
    /// done on them yet, so the next is tried at once.
    async fn begin(&self, kind: TxKind) -> Result<Box<dyn Tx>, SqlError> {
        let began = Instant::now();
        loop {
            match self.backend.begin(kind).await {
                Err(SqlError::Connection(_)) if began.elapsed() < BEGIN_AGAIN_FOR => {
                    tokio::time::sleep(BEGIN_AGAIN_AFTER).await;
                }
                result => return result,
            }
        }
    }
}
