//! Deliveries of one subscription → its receiver. The lease makes this the only courier of the subscription: at most
//! `in_flight_max` calls at once, at most one for each job, and what is recorded is recorded under its token.

use std::collections::BTreeSet;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use yard_domain::JobId;
use yard_ports::push::{DeliveryFailure, DeliveryResult, DueDelivery};
use yard_ports::{PushError, PushMessage, PushSender, StoreError};

use super::pace::Pace;
use super::{Shared, Subscription};
use crate::keeper::Held;

/// An attempt that has ended.
struct Attempt {
    delivery: DueDelivery,
    result: Result<(), PushError>,
}

/// Sends what one subscription is owed.
pub struct Courier {
    shared: Shared,
    subscription: Subscription,
    held: Held,
    made: Arc<Notify>,
    rng: SmallRng,
    pace: Pace,
    under_way: JoinSet<Attempt>,
    /// Lanes of what is under way, or has ended and is not recorded yet.
    lanes: BTreeSet<JobId>,
    ended: Vec<DeliveryResult>,
}

impl Courier {
    /// Under the subscription's lease; `made` says that there may be something to send, `seed` spreads waits.
    pub fn new(shared: Shared, subscription: Subscription, held: Held, made: Arc<Notify>, seed: u64) -> Self {
        Self {
            pace: Pace::new(subscription.in_flight_max),
            shared,
            subscription,
            held,
            made,
            rng: SmallRng::seed_from_u64(seed),
            under_way: JoinSet::new(),
            lanes: BTreeSet::new(),
            ended: Vec::new(),
        }
    }

    /// Works until `stop`, then waits for the answers to what is under way; or until the lease is lost.
    pub async fn run(mut self, stop: CancellationToken) {
        let Some(sender) = self.subscription.sender.clone() else { return };
        let made = self.made.clone();
        loop {
            let stopping = stop.is_cancelled();
            if let Err(error) = self.round(&sender, !stopping).await {
                warn!(subscription = %self.subscription.id, %error, "could not go on delivering");
                if matches!(error, StoreError::LeaseLost { .. }) {
                    self.held.mark_lost();
                }
            }
            if stopping && self.under_way.is_empty() && self.ended.is_empty() {
                return;
            }
            let lost = self.held.lost().clone();
            tokio::select! {
                // What is under way may arrive all the same: whoever has the lease now sends it again.
                () = lost.cancelled() => return,
                () = stop.cancelled(), if !stopping => {}
                Some(attempt) = self.under_way.join_next() => match attempt {
                    Ok(attempt) => self.take(attempt),
                    Err(error) => {
                        // A bug. It is not known which delivery it was: whoever takes the subscription begins anew.
                        error!(subscription = %self.subscription.id, %error, "an attempt panicked");
                        return;
                    }
                },
                () = made.notified(), if !stopping => {}
                () = tokio::time::sleep(self.shared.settings.poll_interval) => {}
            }
            while let Some(Ok(attempt)) = self.under_way.try_join_next() {
                self.take(attempt);
            }
        }
    }

    /// Records what has ended, and sends what is due.
    async fn round(&mut self, sender: &Arc<dyn PushSender>, begin: bool) -> Result<(), StoreError> {
        if !self.ended.is_empty() {
            let (store, id) = (&self.shared.store, &self.subscription.id);
            store.record_deliveries(&self.held.lease(), id, &self.ended).await?;
            for result in self.ended.drain(..) {
                self.lanes.remove(&result.lane);
            }
        }
        let room = self.pace.room(self.under_way.len());
        if !begin || room == 0 {
            return Ok(());
        }
        let limit = u32::try_from(room + self.lanes.len()).unwrap_or(u32::MAX);
        let due = self.shared.store.due_deliveries(&self.subscription.id, limit).await?;
        let free: Vec<DueDelivery> =
            due.into_iter().filter(|d| !self.lanes.contains(&d.lane)).take(room).collect();
        for delivery in free {
            // Looked at right before the effect: somebody else may have the subscription by now.
            if !self.held.is_trusted() {
                break;
            }
            self.lanes.insert(delivery.lane);
            let message = self.message(&delivery);
            let sender = sender.clone();
            self.under_way.spawn(async move {
                let began = Instant::now();
                let result = sender.send(&message).await;
                metrics::histogram!("yard_delivery_seconds").record(began.elapsed().as_secs_f64());
                Attempt { delivery, result }
            });
        }
        Ok(())
    }

    fn message(&self, delivery: &DueDelivery) -> PushMessage {
        PushMessage {
            id: format!("evt_{}_{}", self.shared.instance, delivery.pos),
            subscription: self.subscription.id.clone(),
            lane: delivery.lane,
            sent_unix_s: delivery.read_at.as_micros().div_euclid(1_000_000),
            body: delivery.body.clone(),
        }
    }

    /// Notes what an attempt came to.
    fn take(&mut self, Attempt { delivery, result }: Attempt) {
        self.pace.saw(result.is_ok());
        let attempts = delivery.attempts.saturating_add(1);
        let result = result.map_err(|error| {
            let jitter = self.rng.random();
            let wait = match &error {
                PushError::Failed { wait, .. } => self.subscription.retry.wait(attempts, *wait, jitter),
                PushError::Gone(_) => None,
            };
            DeliveryFailure { error: error.to_string(), wait }
        });
        let (id, pos) = (&self.subscription.id, delivery.pos);
        let code = match &result {
            Ok(()) => {
                let lag = delivery.read_at.since(delivery.created_at);
                metrics::histogram!("yard_delivery_lag_seconds").record(lag.as_secs_f64());
                "arrived"
            }
            Err(DeliveryFailure { wait: Some(_), .. }) => "failed",
            Err(DeliveryFailure { error, wait: None }) => {
                warn!(subscription = %id, event = pos, attempts, error, "a delivery is given up");
                "dead"
            }
        };
        if code == "failed" && attempts == 1 {
            info!(subscription = %id, event = pos, "a delivery failed, and will be tried again");
        }
        metrics::counter!("yard_delivery_attempts_total", "subscription" => id.to_string(), "result" => code)
            .increment(1);
        self.ended.push(DeliveryResult { pos, lane: delivery.lane, result });
    }
}
