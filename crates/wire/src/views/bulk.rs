//! Many submissions in one request.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use yard_domain::{FieldError, JobId, SubmissionKey, Verdict};

use super::problem::FieldProblem;
use crate::Submission;

/// Many documents, each with a verdict of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BulkRequest {
    /// The documents, each as it would be submitted alone.
    pub jobs: Vec<Submission>,
}

/// The verdicts, in the order of the documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BulkAnswer {
    /// One for each document.
    pub verdicts: Vec<BulkVerdict>,
}

/// What became of one document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BulkVerdict {
    /// `accepted`: a new job. `duplicate`: the same document came before under its key. `conflict`: the key belongs to
    /// a job with another body. `rejected`: see `errors`; kept as a receipt. `rate_limited`: the team submits faster
    /// than it may, and nothing was kept. `forbidden`: you may not submit for the team, and nothing was kept. While the
    /// database is away: `pending`: kept in a queue, to be accepted later under this id if it is the first under its key;
    /// `unavailable`: nothing was kept, or it is not known: send it again.
    pub verdict: String,
    /// The team as it stood in the document; `-` if none could be read.
    pub team: String,
    /// Its key: the one given, or the one that was made for it.
    pub key: String,
    /// The job: the new one, or the one that has the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Everything that is wrong with it, if it was rejected, or why it is forbidden.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldProblem>,
    /// With `rate_limited`: send it again after so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
}

impl BulkVerdict {
    /// The verdict on what could neither be committed nor be kept in a queue.
    pub const UNAVAILABLE: &str = "unavailable";

    /// The verdict on what came under this key.
    pub fn new(key: &SubmissionKey, verdict: &Verdict) -> Self {
        let (name, job) = match verdict {
            Verdict::Accepted { job, first: true } => ("accepted", Some(job)),
            Verdict::Accepted { job, first: false } => ("duplicate", Some(job)),
            Verdict::Conflict { job } => ("conflict", Some(job)),
            Verdict::Rejected(errors) => return Self::rejected(key, errors),
        };
        Self { job: job.map(ToString::to_string), ..Self::named(key, name) }
    }

    /// It can't be a job.
    pub fn rejected(key: &SubmissionKey, errors: &[FieldError]) -> Self {
        Self { errors: errors.iter().map(FieldProblem::from).collect(), ..Self::named(key, "rejected") }
    }

    /// It waits in a queue for the database, and will be this job.
    pub fn pending(key: &SubmissionKey, job: JobId) -> Self {
        Self { job: Some(job.to_string()), ..Self::named(key, "pending") }
    }

    /// It could not be kept now.
    pub fn unavailable(key: &SubmissionKey) -> Self {
        Self::named(key, Self::UNAVAILABLE)
    }

    /// It was turned away, to be sent again after so many seconds.
    pub fn rate_limited(key: &SubmissionKey, seconds: u64) -> Self {
        Self { retry_after_s: Some(seconds), ..Self::named(key, "rate_limited") }
    }

    /// Whoever sent it may not submit for its team; `why` is for people.
    pub fn forbidden(key: &SubmissionKey, why: &str) -> Self {
        let error = FieldProblem {
            field: "team".to_owned(),
            code: "forbidden".to_owned(),
            message: why.to_owned(),
            line: None,
        };
        Self { errors: vec![error], ..Self::named(key, "forbidden") }
    }

    fn named(key: &SubmissionKey, verdict: &str) -> Self {
        Self {
            verdict: verdict.to_owned(),
            team: key.team.clone(),
            key: key.key.clone(),
            job: None,
            errors: Vec::new(),
            retry_after_s: None,
        }
    }
}
