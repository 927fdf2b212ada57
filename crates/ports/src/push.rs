//! Push: the store's verbs about deliveries, and the port through which they go out (docs/adr/0011-push.md).

use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;
use yard_domain::{DeliveryState, FieldError, JobId, Lease, SubscriptionId, TeamId, Timestamp};

use crate::store::{JobEvent, StoreError};

/// A verdict that made no job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Of this one alone.
    pub id: JobId,
    /// The team as it stood in the submission.
    pub team: TeamId,
    /// Its key.
    pub key: String,
    /// When the verdict was committed.
    pub at: Timestamp,
    /// What it was.
    pub verdict: NoJob,
    /// Which door.
    pub source: String,
    /// The message's or request's own id.
    pub message_id: String,
}

/// Why a submission made no job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoJob {
    /// It can't be one.
    Rejected(Vec<FieldError>),
    /// Its key belongs to this one, which has another body.
    Conflict(JobId),
}

/// Something that may have to be pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushEvent {
    /// A line of some job's history.
    Line(JobEvent),
    /// A verdict without a job, at its place in the order of all events.
    Rejection(u64, Rejection),
}

/// What comes after the last step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushPage {
    /// Up to where events have been made into deliveries.
    pub after: u64,
    /// In order.
    pub events: Vec<PushEvent>,
    /// All up to this one are in it.
    pub upto: u64,
    /// Whether events after the last step had been deleted by now.
    pub missed: bool,
}

/// A delivery to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDelivery {
    /// For whom.
    pub subscription: SubscriptionId,
    /// The event's position: with the subscription, its identity.
    pub pos: u64,
    /// The job, or what stands for one: deliveries of one lane go out in the order of their positions.
    pub lane: JobId,
    /// What is sent.
    pub body: String,
}

/// Deliveries of some events, and how far that brings us.
#[derive(Debug, Clone, Copy)]
pub struct PushStep<'a> {
    /// Where the step begins: [`PushPage::after`].
    pub after: u64,
    /// Where it ends.
    pub upto: u64,
    /// The deliveries in between.
    pub deliveries: &'a [NewDelivery],
    /// Most deliveries of one subscription that may be pending; more are dead at once.
    pub pending_max: u32,
}

/// A delivery whose turn it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueDelivery {
    /// Its event's position.
    pub pos: u64,
    /// Its lane.
    pub lane: JobId,
    /// How often it has been tried.
    pub attempts: u32,
    /// When the event was made into it.
    pub created_at: Timestamp,
    /// When this was read.
    pub read_at: Timestamp,
    /// What is sent.
    pub body: String,
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryResult {
    /// Of which delivery.
    pub pos: u64,
    /// Its lane.
    pub lane: JobId,
    /// `Ok`: it arrived.
    pub result: Result<(), DeliveryFailure>,
}

/// A failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryFailure {
    /// Why, for people.
    pub error: String,
    /// The wait before the next attempt; `None`: there will be none.
    pub wait: Option<Duration>,
}

/// A delivery as shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRow {
    /// For whom.
    pub subscription: SubscriptionId,
    /// Its event's position.
    pub pos: u64,
    /// The job, or what stands for one.
    pub lane: JobId,
    /// Whether it waits or has been given up.
    pub state: DeliveryState,
    /// How often it has been tried.
    pub attempts: u32,
    /// Pending: not before then. Dead: since then.
    pub due_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// What is sent.
    pub body: String,
}

/// Which deliveries to list, in the order of team, subscription, position.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// Of these teams; `None`: of all.
    pub teams: Option<Vec<TeamId>>,
    /// Of the subscription of this name.
    pub name: Option<String>,
    /// In this state.
    pub state: Option<DeliveryState>,
    /// Those after this one.
    pub after: Option<(SubscriptionId, u64)>,
    /// At most this many.
    pub limit: u32,
}

/// Which dead deliveries to send again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resend {
    /// Of this team.
    pub team: TeamId,
    /// Of the subscription of this name; `None`: of all of the team's.
    pub name: Option<String>,
    /// Of these events; empty: all.
    pub positions: Vec<u64>,
    /// At most this many.
    pub limit: u32,
}

/// The outbox.
#[async_trait]
pub trait PushStore: Send + Sync {
    /// Events after the last step: up to `limit`.
    async fn push_page(&self, limit: u32) -> Result<PushPage, StoreError>;
    /// Makes a step, whole or not at all. `false`: another had made it before, and nothing was written.
    async fn step_push(&self, lease: &Lease, step: PushStep<'_>) -> Result<bool, StoreError>;
    /// The subscriptions that have deliveries.
    async fn delivery_subscriptions(&self) -> Result<Vec<SubscriptionId>, StoreError>;
    /// Up to `limit` deliveries of a subscription that are due now and the first pending ones of their lanes; those due
    /// longest first.
    async fn due_deliveries(
        &self,
        subscription: &SubscriptionId,
        limit: u32,
    ) -> Result<Vec<DueDelivery>, StoreError>;
    /// Records attempts: what arrived is deleted; what failed waits, with all of its lane, or is dead.
    async fn record_deliveries(
        &self,
        lease: &Lease,
        subscription: &SubscriptionId,
        results: &[DeliveryResult],
    ) -> Result<(), StoreError>;
    /// Gives up everything that is pending for a subscription that is no more: up to `limit`. Answers how many.
    async fn retire_deliveries(
        &self,
        lease: &Lease,
        subscription: &SubscriptionId,
        reason: &str,
        limit: u32,
    ) -> Result<u32, StoreError>;
    /// Deletes up to `limit` deliveries of a subscription that have been dead for longer than `keep`. Answers how many.
    async fn purge_deliveries(
        &self,
        subscription: &SubscriptionId,
        keep: Duration,
        limit: u32,
    ) -> Result<u32, StoreError>;
    /// How many deliveries of a subscription are in a state; counts no further than `limit`.
    async fn count_deliveries(
        &self,
        subscription: &SubscriptionId,
        state: DeliveryState,
        limit: u32,
    ) -> Result<u32, StoreError>;
    /// Deliveries as shown.
    async fn deliveries(&self, filter: &DeliveryFilter) -> Result<Vec<DeliveryRow>, StoreError>;
    /// Makes dead deliveries pending again, as if they had never been tried. Answers how many.
    async fn resend_deliveries(&self, which: &Resend) -> Result<u32, StoreError>;
}

/// What goes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushMessage {
    /// The same at every attempt, and of no other message: receivers drop doubles by it.
    pub id: String,
    /// For whom.
    pub subscription: SubscriptionId,
    /// Messages of one lane are sent one after the other.
    pub lane: JobId,
    /// When it is tried, by the database's clock, in seconds since the epoch.
    pub sent_unix_s: i64,
    /// JSON.
    pub body: String,
}

/// Why a message did not arrive, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PushError {
    /// Not now: it may be tried again. It may have arrived all the same.
    #[error("{reason}")]
    Failed {
        /// For people; no secrets.
        reason: String,
        /// How long the receiver wants to be left alone.
        wait: Option<Duration>,
    },
    /// The receiver says that it is gone for good: trying again is no use.
    #[error("{0}")]
    Gone(String),
}

impl PushError {
    /// It failed, and may be tried again at any time.
    pub fn failed(reason: impl Into<String>) -> Self {
        Self::Failed { reason: reason.into(), wait: None }
    }
}

/// A way to one receiver.
#[async_trait]
pub trait PushSender: Send + Sync {
    /// Sends a message; it has arrived once this returns without an error.
    async fn send(&self, message: &PushMessage) -> Result<(), PushError>;
}
