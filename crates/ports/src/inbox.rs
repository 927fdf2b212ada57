//! The inbox: a queue of submissions with at-least-once delivery (SQS).

use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;
use yard_domain::{JobId, Timestamp};

/// What to name a received message by when deleting or extending it: SQS's receipt handle.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MessageHandle(pub String);

/// A received message: hidden from others until its visibility timeout ends.
#[derive(Debug, Clone)]
pub struct Message {
    /// The queue's own id for it; the same at every redelivery.
    pub id: String,
    /// For deleting and extending.
    pub handle: MessageHandle,
    /// What was sent.
    pub body: String,
    /// When it was sent, by the queue's clock, if the queue says so.
    pub sent_at: Option<Timestamp>,
    /// How many times it has been received, this one included; 0 if the queue doesn't say.
    pub receive_count: u32,
    /// How the API took it in before it was put here; only from a queue that is meant for that.
    pub spilled: Option<Spilled>,
}

/// What the API knew of a submission that it could not commit, because the database was away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spilled {
    /// The id that its caller was given.
    pub job: JobId,
    /// Through which door it came: `http`.
    pub door: String,
    /// The request's own id.
    pub request: String,
    /// Who handed it over, as histories have it.
    pub by: Option<String>,
    /// The key that came beside the document, if any.
    pub key: Option<String>,
}

/// Where the API puts submissions while the database is away: a queue that intake reads.
#[async_trait]
pub trait Spill: Send + Sync {
    /// Keeps a submission; it is kept once this returns without an error.
    async fn put(&self, body: &str, spilled: &Spilled) -> Result<(), InboxError>;
}

/// Why a queue call failed.
#[derive(Debug, Error)]
pub enum InboxError {
    /// The queue could not be reached or is throttling: try again later.
    #[error("the queue {queue} can't be reached: {reason}")]
    Unavailable {
        /// Which one.
        queue: String,
        /// What the client said.
        reason: String,
    },
    /// The call can't succeed as it is: no such queue, no right to it.
    #[error("the queue {queue} refuses: {reason}")]
    Refused {
        /// Which one.
        queue: String,
        /// What the queue said.
        reason: String,
    },
}

/// A queue of submissions.
#[async_trait]
pub trait Inbox: Send + Sync {
    /// Its name, for receipts (`sqs:<name>`), logs and metric labels.
    fn name(&self) -> &str;

    /// Waits for up to the adapter's long-poll time and returns up to its batch size (SQS: 10) of messages.
    async fn receive(&self) -> Result<Vec<Message>, InboxError>;

    /// Deletes messages whose verdicts are committed. Those that could not be deleted are returned: they
    /// will come again, which is harmless.
    async fn delete(&self, handles: &[MessageHandle]) -> Result<Vec<MessageHandle>, InboxError>;

    /// Keeps messages hidden for `span` from now.
    async fn extend(&self, handles: &[MessageHandle], span: Duration) -> Result<(), InboxError>;

    /// Sends a rejected body to the dead-letter queue with its reason; does nothing if none is configured.
    async fn dead_letter(&self, body: &str, reason: &str) -> Result<(), InboxError>;

    /// How long a received message stays hidden unless extended.
    fn visibility(&self) -> Duration;
}
