//! Receipts: our verdict on every submission that arrives.

use std::fmt;

use crate::ids::JobId;
use crate::job::NewJob;
use crate::time::Timestamp;

/// The producer's name for a submission: a team (as claimed, possibly unknown to us) and a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubmissionKey {
    /// The team as it stood in the submission; `-` if none could be read.
    pub team: String,
    /// The key; made from the message's or request's own id if none was given.
    pub key: String,
}

impl fmt::Display for SubmissionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.team, self.key)
    }
}

/// One thing that is wrong with a submission.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldError {
    /// Where, as a path: `resources.memory`; empty for the document as a whole.
    pub field: String,
    /// A stable code: `unknown_field`, `missing`, `invalid`, `out_of_range`, `unknown_team`, `team_not_allowed`, `never_fits`, `too_large`.
    pub code: &'static str,
    /// What is wrong with which value, and how to mend it.
    pub message: String,
}

impl FieldError {
    /// The code of an error that says that the submission came through a door of other teams.
    pub const TEAM_NOT_ALLOWED: &'static str = "team_not_allowed";
}

/// A submission as intake hands it to the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrival {
    /// The producer's name for it.
    pub key: SubmissionKey,
    /// Which door: `sqs:<queue>`, `http`.
    pub source: String,
    /// The message's or request's own id.
    pub message_id: String,
    /// When it was sent, by the queue's clock, if it says so.
    pub sent_at: Option<Timestamp>,
    /// Who handed it over, if the door knows.
    pub by: Option<String>,
    /// SHA-256 of what arrived (of the canonical document, if it could be read).
    pub body_hash: [u8; 32],
    /// A job to be, or what is wrong with it.
    pub content: Result<Box<NewJob>, Vec<FieldError>>,
}

/// The verdict on a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is (already) a job. `first` tells whether this very arrival made it.
    Accepted {
        /// Which one.
        job: JobId,
        /// Whether this arrival was the first with its key.
        first: bool,
    },
    /// It can't be a job, and why.
    Rejected(Vec<FieldError>),
    /// Its key belongs to a job with another body.
    Conflict {
        /// The job that has the key.
        job: JobId,
    },
}

/// The kept record of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The producer's name for it.
    pub key: SubmissionKey,
    /// The verdict. `first` is always true in a kept record.
    pub verdict: Verdict,
    /// Which door.
    pub source: String,
    /// The message's or request's own id.
    pub message_id: String,
    /// When the verdict was committed.
    pub at: Timestamp,
    /// Later arrivals under the same key that had another body: when, and their message ids (newest 10).
    pub conflicts: Vec<(Timestamp, String)>,
}
