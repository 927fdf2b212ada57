//! Leases: the right to act until a time, with a fencing token.

use std::fmt;
use std::time::Duration;

use crate::ids::{ClusterId, LeaseToken};
use crate::push::SubscriptionId;
use crate::time::Timestamp;

/// What a lease is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeaseRole {
    /// Claims and places jobs.
    Scheduler,
    /// Launches and watches the jobs of one cluster.
    Dispatcher,
}

/// What a lease covers: at most one live lease per scope.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LeaseScope {
    /// One scheduler replica, by its holder's name: schedulers don't exclude one another.
    Scheduler(String),
    /// All jobs of one cluster.
    Dispatch(ClusterId),
    /// That a process with the dispatcher role is alive, by its holder's name: clusters are shared out among
    /// those present.
    Presence(String),
}

impl LeaseScope {
    /// The role that goes with it.
    pub fn role(&self) -> LeaseRole {
        match self {
            Self::Scheduler(_) => LeaseRole::Scheduler,
            Self::Dispatch(_) | Self::Presence(_) => LeaseRole::Dispatcher,
        }
    }
}

impl LeaseScope {
    /// Making events into deliveries. A scheduler's, as the next one: processes of before there was push, which may run
    /// beside us for a while, would not know a kind of its own and could read no leases any more.
    pub fn push_plan() -> Self {
        Self::Scheduler("push".to_owned())
    }

    /// Sending what one subscription is owed.
    pub fn push(subscription: &SubscriptionId) -> Self {
        Self::Scheduler(format!("push/{subscription}"))
    }

    /// Reads what `Display` wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "scheduler" => Some(Self::Scheduler(rest.to_owned())),
            "dispatch" => rest.parse().ok().map(Self::Dispatch),
            "presence" => Some(Self::Presence(rest.to_owned())),
            _ => None,
        }
    }
}

impl fmt::Display for LeaseScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheduler(holder) => write!(f, "scheduler:{holder}"),
            Self::Dispatch(cluster) => write!(f, "dispatch:{cluster}"),
            Self::Presence(holder) => write!(f, "presence:{holder}"),
        }
    }
}

/// The right to act on what `scope` covers, until `expires_at` by the database's clock. Every write of a
/// scheduler or dispatcher takes one; the store checks it inside the same transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What it covers.
    pub scope: LeaseScope,
    /// Its fencing number.
    pub token: LeaseToken,
    /// Who holds it (process name, for people).
    pub holder: String,
    /// When it ends unless renewed.
    pub expires_at: Timestamp,
}

impl Lease {
    /// Whether it is still valid at `now`.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        !self.expires_at.is_due(now)
    }
}

/// How a holder times its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTerms {
    /// How long a grant or renewal lasts.
    pub ttl: Duration,
    /// How long before the end (by its own monotonic clock, counted from the moment before the last
    /// successful renewal was *sent*) a holder stops starting effects.
    pub margin: Duration,
}

impl LeaseTerms {
    /// How long after sending a successful renewal the holder may still start effects.
    pub fn trusted_for(&self) -> Duration {
        self.ttl.saturating_sub(self.margin)
    }
}
