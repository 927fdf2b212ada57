//! Events → deliveries. One process does it for all subscriptions: each event is read once, however many there are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use yard_domain::{DeliveryState, Event, JobId, PushKinds, SubscriptionId, TeamId};
use yard_ports::StoreError;
use yard_ports::push::{NewDelivery, NoJob, PushEvent, PushStep};
use yard_wire::views::PushView;

use super::book::Book;
use super::{Shared, Subscription};
use crate::keeper::Held;

/// Why deliveries of a subscription that is no more are given up.
const TAKEN_OUT: &str = "the subscription was taken out of the catalog";

/// Which of these events are for which of these subscriptions.
pub fn decide(events: &[PushEvent], subscriptions: &[Subscription]) -> Vec<NewDelivery> {
    let mut by_team: BTreeMap<&TeamId, Vec<&Subscription>> = BTreeMap::new();
    for subscription in subscriptions {
        by_team.entry(&subscription.id.team).or_default().push(subscription);
    }
    let mut deliveries = Vec::new();
    for event in events {
        let (team, lane, pos) = address(event);
        let told: Vec<&SubscriptionId> = by_team
            .get(team)
            .into_iter()
            .flatten()
            .filter(|s| wants(s.kinds, event))
            .map(|s| &s.id)
            .collect();
        if told.is_empty() {
            continue;
        }
        let Some(body) = PushView::of(event).and_then(|view| serde_json::to_string(&view).ok()) else {
            continue;
        };
        let delivery =
            |id: &SubscriptionId| NewDelivery { subscription: id.clone(), pos, lane, body: body.clone() };
        deliveries.extend(told.into_iter().map(delivery));
    }
    deliveries
}

/// Whose it is, what it must keep the order with, and its place. A conflict comes after what happened to the job before.
fn address(event: &PushEvent) -> (&TeamId, JobId, u64) {
    match event {
        PushEvent::Line(event) => (&event.team, event.line.job, event.pos),
        PushEvent::Rejection(pos, rejection) => {
            let lane = match rejection.verdict {
                NoJob::Conflict(job) => job,
                NoJob::Rejected(_) => rejection.id,
            };
            (&rejection.team, lane, *pos)
        }
    }
}

fn wants(kinds: PushKinds, event: &PushEvent) -> bool {
    match event {
        PushEvent::Rejection(..) => kinds.verdicts,
        PushEvent::Line(event) => match event.line.event {
            Event::Accepted { .. } => kinds.verdicts,
            Event::Ended { .. } => kinds.ends,
            _ => false,
        },
    }
}

/// Makes deliveries, under its lease.
pub struct Planner {
    shared: Shared,
    book: Arc<Book>,
    held: Held,
    made: Arc<Notify>,
    shown: BTreeSet<SubscriptionId>,
}

impl Planner {
    /// Tells `made` when there are new deliveries.
    pub fn new(shared: Shared, book: Arc<Book>, held: Held, made: Arc<Notify>) -> Self {
        Self { shared, book, held, made, shown: BTreeSet::new() }
    }

    /// Works until `stop` or the lease is lost.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut upkeep_at = Instant::now();
        loop {
            let more = match self.step().await {
                Ok(more) => more,
                Err(error) => {
                    warn!(%error, "could not make events into deliveries");
                    if matches!(error, StoreError::LeaseLost { .. }) {
                        self.held.mark_lost();
                    }
                    false
                }
            };
            if Instant::now() >= upkeep_at {
                upkeep_at = Instant::now() + self.shared.settings.upkeep_interval;
                if let Err(error) = self.upkeep().await {
                    warn!(%error, "could not look after deliveries");
                }
            }
            if more && !stop.is_cancelled() && !self.held.lost().is_cancelled() {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.held.lost().cancelled() => break,
                () = tokio::time::sleep(self.shared.settings.poll_interval) => {}
            }
        }
        // Whoever goes on shows them from now on.
        for id in &self.shown {
            show(id, DeliveryState::Pending, 0);
            show(id, DeliveryState::Dead, 0);
        }
    }

    /// One page of events; whether there are more.
    async fn step(&self) -> Result<bool, StoreError> {
        let (store, settings) = (&self.shared.store, &self.shared.settings);
        let Some(listed) = self.book.read().await? else { return Ok(false) };
        // With nobody to tell, events are passed over unread.
        let limit = if listed.is_empty() { 0 } else { settings.page_max };
        if limit > 0 {
            store.number_events(limit).await?;
        }
        let page = store.push_page(limit).await?;
        // Read after the events: whoever subscribed before one of them was committed is in it.
        let Some(listed) = self.book.read().await? else { return Ok(false) };
        if limit == 0 && !listed.is_empty() {
            return Ok(true);
        }
        if page.after == page.upto {
            return Ok(false);
        }
        if page.missed && limit > 0 {
            metrics::counter!("yard_push_missed_total").increment(1);
            error!(
                after = page.after,
                "events were deleted before they were pushed: no process with the role pusher ran for longer than \
                 retention.events_keep_s"
            );
        }
        let deliveries = decide(&page.events, &listed);
        let step = PushStep {
            after: page.after,
            upto: page.upto,
            deliveries: &deliveries,
            pending_max: settings.pending_max,
        };
        if store.step_push(&self.held.lease(), step).await? && !deliveries.is_empty() {
            metrics::counter!("yard_deliveries_made_total").increment(deliveries.len() as u64);
            self.made.notify_waiters();
        }
        Ok(limit > 0 && !page.events.is_empty())
    }

    /// Gives up what nobody can be told any more, deletes what has been dead for long, and counts.
    async fn upkeep(&mut self) -> Result<(), StoreError> {
        let (store, settings) = (&self.shared.store, &self.shared.settings);
        let Some(listed) = self.book.read().await? else { return Ok(()) };
        let owed = store.delivery_subscriptions().await?;
        for id in &owed {
            let mut retired = 0;
            while listed.iter().all(|s| s.id != *id) {
                let n = store.retire_deliveries(&self.held.lease(), id, TAKEN_OUT, settings.page_max).await?;
                retired += n;
                if n < settings.page_max {
                    break;
                }
            }
            if retired > 0 {
                info!(subscription = %id, deliveries = retired, "given up: the subscription was taken out");
            }
            while store.purge_deliveries(id, settings.keep_dead, settings.page_max).await?
                == settings.page_max
            {}
            for state in [DeliveryState::Pending, DeliveryState::Dead] {
                show(id, state, store.count_deliveries(id, state, settings.pending_max).await?);
            }
        }
        for id in self.shown.iter().filter(|id| !owed.contains(id)) {
            show(id, DeliveryState::Pending, 0);
            show(id, DeliveryState::Dead, 0);
        }
        self.shown.extend(owed);
        Ok(())
    }
}

fn show(id: &SubscriptionId, state: DeliveryState, n: u32) {
    let (id, state) = (id.to_string(), state.code());
    metrics::gauge!("yard_deliveries", "subscription" => id, "state" => state).set(f64::from(n));
}
