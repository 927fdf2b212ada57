//! Receipts, and the answer to a submission.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use yard_domain::{Receipt, Verdict};

use super::problem::FieldProblem;
use super::time::time_text;

/// The answer to an accepted submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Submitted {
    /// The job.
    pub id: String,
    /// Who is charged.
    pub team: String,
    /// Its key: the one given, or the one that was made for it.
    pub key: String,
    /// Whether this very request made the job; `false` if the same document had come before under its key.
    pub created: bool,
    /// The database is away: the submission is kept in a queue and will be accepted later, under this id if it is the first
    /// under its key. Its receipt will tell.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pending: bool,
}

/// The kept verdict on a submission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReceiptView {
    /// The team as it stood in the submission; `-` if none could be read.
    pub team: String,
    /// Its key.
    pub key: String,
    /// `accepted` or `rejected`.
    pub verdict: String,
    /// The job, if it was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Everything that is wrong with it, if it was rejected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldProblem>,
    /// Which door: `sqs:<queue>` or `http`.
    pub source: String,
    /// The message's or request's own id.
    pub message_id: String,
    /// When the verdict was committed.
    pub at: String,
    /// Later submissions under the same key that had another body.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<ConflictView>,
}

/// A submission whose key belonged to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConflictView {
    /// When it came.
    pub at: String,
    /// Its message's or request's own id.
    pub message_id: String,
}

impl From<&Receipt> for ReceiptView {
    fn from(receipt: &Receipt) -> Self {
        let (verdict, job, errors) = match &receipt.verdict {
            Verdict::Accepted { job, .. } => ("accepted", Some(job.to_string()), Vec::new()),
            Verdict::Rejected(errors) => ("rejected", None, errors.iter().map(FieldProblem::from).collect()),
            Verdict::Conflict { job } => ("conflict", Some(job.to_string()), Vec::new()),
        };
        let conflict = |(at, id): &(_, String)| ConflictView { at: time_text(*at), message_id: id.clone() };
        Self {
            team: receipt.key.team.clone(),
            key: receipt.key.key.clone(),
            verdict: verdict.to_owned(),
            job,
            errors,
            source: receipt.source.clone(),
            message_id: receipt.message_id.clone(),
            at: time_text(receipt.at),
            conflicts: receipt.conflicts.iter().map(conflict).collect(),
        }
    }
}
