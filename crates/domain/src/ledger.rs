//! The ledger: what teams and clusters have in use. Charged with the placement, refunded with the end of
//! the attempt, in the same transactions; an audit recomputes it from the open attempts.

use std::fmt;

use crate::ids::{ClusterId, TeamId};
use crate::resources::Request;

/// Whose account it is. The order (clusters before teams, then by id) is the order in which rows are locked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccountOwner {
    /// What runs on this cluster.
    Cluster(ClusterId),
    /// What this team has running.
    Team(TeamId),
}

impl AccountOwner {
    /// `cluster` or `team`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Cluster(_) => "cluster",
            Self::Team(_) => "team",
        }
    }

    /// The owner's id.
    pub fn id(&self) -> &str {
        match self {
            Self::Cluster(c) => c.as_str(),
            Self::Team(t) => t.as_str(),
        }
    }
}

impl fmt::Display for AccountOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.id())
    }
}

/// An account with what is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Whose.
    pub owner: AccountOwner,
    /// What open attempts have been charged, together.
    pub used: Request,
}

/// An account whose stored sum is not the sum of its open attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Whose.
    pub owner: AccountOwner,
    /// What the ledger says.
    pub stored: Request,
    /// What the open attempts add up to.
    pub recomputed: Request,
}
