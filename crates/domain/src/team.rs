//! Teams and cohorts: who is charged, up to what, and who lends to whom. What follows from them together is in
//! [`crate::quota`].

use crate::ids::{CohortId, TeamId};
use crate::resources::Limits;

/// A team and its quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Team {
    /// Who is charged.
    pub id: TeamId,
    /// The cohort in which it lends and borrows; `None`: it does neither.
    pub cohort: Option<CohortId>,
    /// Its nominal quota: what its placed, launching and running jobs may use together without borrowing.
    pub quota: Limits,
    /// What it may use at most when it borrows; a resource that is not named is bounded by the cohort alone.
    pub max: Limits,
    /// What its submissions ask for where they say nothing; what is not named here either is the installation's default.
    pub request: Limits,
    /// Its weight in the order between teams (1 = normal): a team of weight 2 is owed twice the share.
    pub weight: u32,
    /// How fast it may submit; `None`: as fast as it likes.
    pub submit_rate: Option<SubmitRate>,
}

/// A bound on a team's submissions, as a token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubmitRate {
    /// In the long run, per minute and process that takes submissions in; at least 1.
    pub per_minute: u32,
    /// At once after a pause; at least 1.
    pub burst: u32,
}

impl Team {
    /// A team of weight 1 in no cohort, without bounds.
    pub fn new(id: TeamId) -> Self {
        Self {
            id,
            cohort: None,
            quota: Limits::default(),
            max: Limits::default(),
            request: Limits::default(),
            weight: 1,
            submit_rate: None,
        }
    }
}

/// Teams and cohorts that lend each other what is unused (Kueue's word for it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cohort {
    /// Its name.
    pub id: CohortId,
    /// The cohort in which it lends and borrows in turn.
    pub parent: Option<CohortId>,
    /// What it has beside its members' nominal quotas, for whichever of them needs it.
    pub quota: Limits,
    /// What its members together may use at most when it borrows from its parent.
    pub max: Limits,
    /// Its weight among its parent's members.
    pub weight: u32,
}

impl Cohort {
    /// A cohort of weight 1 at the top, with nothing of its own.
    pub fn new(id: CohortId) -> Self {
        Self { id, parent: None, quota: Limits::default(), max: Limits::default(), weight: 1 }
    }
}
