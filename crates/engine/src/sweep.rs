//! Upkeep under a scheduler's lease: clocks that ran out, deletion of what ended long ago, audits.

use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use yard_domain::{LeaseScope, RetryRules};
use yard_ports::{Store, StoreError};

use crate::keeper::{Held, Keeper};
use crate::nudge::Nudges;
use crate::settings::SchedulerSettings;

/// The upkeep loop of one replica. Any number may run: each sweep skips rows in other hands.
pub struct Sweeper {
    /// The truth.
    pub store: Arc<dyn Store>,
    /// For its lease.
    pub keeper: Keeper,
    /// Whom to wake.
    pub nudges: Nudges,
    /// How often.
    pub settings: SchedulerSettings,
    /// What a launch that never began is charged to.
    pub retry: RetryRules,
}

impl Sweeper {
    /// Sweeps until `cancel`.
    pub async fn run(self, cancel: CancellationToken) {
        let mut held: Option<Held> = None;
        let (mut purge_at, mut audit_at) = (Instant::now(), Instant::now());
        while !cancel.is_cancelled() {
            if let Err(error) = self.round(&mut held, &mut purge_at, &mut audit_at).await {
                warn!(%error, "sweep failed");
                if let (StoreError::LeaseLost { .. }, Some(held)) = (&error, &held) {
                    held.mark_lost();
                }
            }
            tokio::select! {
                () = cancel.cancelled() => {}
                () = tokio::time::sleep(self.settings.sweep_interval) => {}
            }
        }
        if let Some(held) = held {
            self.keeper.give_back(&held).await;
        }
    }

    async fn round(
        &self,
        held: &mut Option<Held>,
        purge_at: &mut Instant,
        audit_at: &mut Instant,
    ) -> Result<(), StoreError> {
        if held.as_ref().is_none_or(|h| h.lost().is_cancelled()) {
            let scope = LeaseScope::Scheduler(format!("{}/sweep", self.keeper.holder()));
            *held = self.keeper.acquire(&scope, self.settings.lease).await?;
        }
        let Some(held) = held else { return Ok(()) };
        self.sweep(held).await?;
        if Instant::now() >= *purge_at {
            *purge_at = Instant::now() + self.settings.purge_interval;
            self.purge().await?;
        }
        if Instant::now() >= *audit_at {
            *audit_at = Instant::now() + self.settings.audit_interval;
            self.audit().await?;
        }
        Ok(())
    }

    async fn sweep(&self, held: &Held) -> Result<(), StoreError> {
        loop {
            let report =
                self.store.sweep_clocks(&held.lease(), &self.retry, self.settings.sweep_batch).await?;
            if report.is_empty() {
                return Ok(());
            }
            info!(?report, "clocks ran out");
            for (what, n) in [
                ("woken", report.woken),
                ("expired", report.expired),
                ("reclaimed", report.reclaimed),
                ("unplaced", report.unplaced),
            ] {
                metrics::counter!("yard_swept_total", "what" => what).increment(u64::from(n));
            }
            self.nudges.scheduler();
        }
    }

    async fn purge(&self) -> Result<(), StoreError> {
        let deleted = self.store.purge(self.settings.keep_ended, self.settings.sweep_batch).await?;
        metrics::counter!("yard_purged_total").increment(u64::from(deleted));
        let batch = self.settings.sweep_batch;
        self.store.purge_access(self.settings.keep_audit, batch).await?;
        // Numbered first, since only what has a position is trimmed: with nobody listening, nobody else does it.
        while self.store.number_events(batch).await?.is_some_and(|lines| lines > 0) {}
        while self.store.trim_events(self.settings.keep_events, batch).await? == batch {}
        Ok(())
    }

    /// Drift is a broken promise: it is never mended silently.
    async fn audit(&self) -> Result<(), StoreError> {
        let drift = self.store.audit().await?;
        metrics::gauge!("yard_ledger_drift").set(drift.len() as f64);
        for d in &drift {
            error!(owner = %d.owner, stored = ?d.stored, recomputed = ?d.recomputed, "the ledger has drifted");
        }
        Ok(())
    }
}
