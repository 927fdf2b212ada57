//! Errors of the HTTP API: RFC 9457 problem documents.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use yard_domain::FieldError;

/// What went wrong, as a stable code with its HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemCode {
    /// The request itself can't be read: a query parameter, an id, a body that is no JSON.
    BadRequest,
    /// No token came, or one that is not good (any more).
    Unauthorized,
    /// The token is good, but not for this.
    Forbidden,
    /// A page of another site tried to act here.
    CrossSite,
    /// There is no such job, receipt, cluster or page.
    NotFound,
    /// What was asked for has been deleted.
    Gone,
    /// The path is there, but not for this method.
    MethodNotAllowed,
    /// The key belongs to a job with another body.
    Conflict,
    /// Another version of the catalog is in force than the one named by `expected`.
    VersionConflict,
    /// The catalog can't be put in force: see `errors`.
    InvalidCatalog,
    /// Another version is in force than the one named by `If-Match`.
    PreconditionFailed,
    /// The team submits faster than it may: wait as long as `Retry-After` says.
    RateLimited,
    /// The caller sends more requests than it may: wait as long as `Retry-After` says.
    TooManyRequests,
    /// The job has no attempt yet, so it has no log.
    NoAttempt,
    /// The cluster has no log of the attempt: it has not started there yet, or is forgotten.
    NoLog,
    /// There is nothing in the range of bytes that was asked for.
    RangeNotSatisfiable,
    /// The body is larger than allowed.
    BodyTooLarge,
    /// The body is not declared to be what it must be.
    UnsupportedMediaType,
    /// The submission can't be a job: see `errors`.
    Rejected,
    /// The server answers as many requests as it may: try again.
    Busy,
    /// A bug, or a row that does not fit the model.
    Internal,
    /// The cluster could not be asked.
    ClusterUnreachable,
    /// The database can't be used now: try again.
    Unavailable,
    /// The request took longer than allowed.
    Timeout,
}

impl ProblemCode {
    /// Every code.
    pub const ALL: [Self; 24] = [
        Self::BadRequest,
        Self::Unauthorized,
        Self::Forbidden,
        Self::CrossSite,
        Self::NotFound,
        Self::Gone,
        Self::MethodNotAllowed,
        Self::Conflict,
        Self::VersionConflict,
        Self::InvalidCatalog,
        Self::PreconditionFailed,
        Self::RateLimited,
        Self::TooManyRequests,
        Self::NoAttempt,
        Self::NoLog,
        Self::RangeNotSatisfiable,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::Rejected,
        Self::Busy,
        Self::Internal,
        Self::ClusterUnreachable,
        Self::Unavailable,
        Self::Timeout,
    ];

    /// The stable code, the HTTP status, the title.
    pub fn parts(self) -> (&'static str, u16, &'static str) {
        match self {
            Self::BadRequest => ("bad_request", 400, "The request can't be read"),
            Self::Unauthorized => ("unauthorized", 401, "Who is asking?"),
            Self::Forbidden => ("forbidden", 403, "Not allowed"),
            Self::CrossSite => ("cross_site", 403, "Not from a page of another site"),
            Self::NotFound => ("not_found", 404, "Not found"),
            Self::Gone => ("gone", 410, "Deleted"),
            Self::MethodNotAllowed => ("method_not_allowed", 405, "Not for this method"),
            Self::Conflict => ("conflict", 409, "The key belongs to a job with another body"),
            Self::VersionConflict => ("version_conflict", 409, "Another version of the catalog is in force"),
            Self::InvalidCatalog => ("invalid_catalog", 422, "The catalog can't be put in force"),
            Self::PreconditionFailed => {
                ("precondition_failed", 412, "Another version of the catalog is in force")
            }
            Self::RateLimited => ("rate_limited", 429, "The team submits faster than it may"),
            Self::TooManyRequests => ("too_many_requests", 429, "More requests than one caller may send"),
            Self::NoAttempt => ("no_attempt", 409, "The job has not been launched yet"),
            Self::NoLog => ("no_log", 404, "There is no log"),
            Self::RangeNotSatisfiable => ("range_not_satisfiable", 416, "There is nothing in this range"),
            Self::BodyTooLarge => ("body_too_large", 413, "The body is too large"),
            Self::UnsupportedMediaType => ("unsupported_media_type", 415, "The body is of another kind"),
            Self::Rejected => ("rejected", 422, "The submission was rejected"),
            Self::Busy => ("busy", 503, "Too many requests at once"),
            Self::Internal => ("internal", 500, "Internal error"),
            Self::ClusterUnreachable => ("cluster_unreachable", 502, "The cluster could not be asked"),
            Self::Unavailable => ("unavailable", 503, "The database can't be used now"),
            Self::Timeout => ("timeout", 504, "The request took too long"),
        }
    }

    /// Reads the stable code back.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.parts().0 == code)
    }
}

/// A problem document (RFC 9457, `application/problem+json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:yard:problem:<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The same for every problem of this code.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The stable code: what programs decide by.
    pub code: String,
    /// What went wrong this time, and what to do.
    pub detail: String,
    /// The job that it is about: with `conflict`, the one that has the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// With `not_found` of a receipt: when the newest message of each door that has a verdict was sent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub newest_arrival: BTreeMap<String, String>,
    /// Everything that is wrong with the request, by field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldProblem>,
}

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldProblem {
    /// Where, as a path: `resources.memory`; empty for the document as a whole.
    pub field: String,
    /// `unknown_field`, `missing`, `invalid`, `out_of_range`, `too_large`, `unknown_team`, `unknown_class`,
    /// `team_not_allowed` or `never_fits`.
    pub code: String,
    /// What is wrong with which value, and how to mend it.
    pub message: String,
    /// In a text of lines: on which, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
}

impl Problem {
    /// A problem with its detail.
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        let (name, status, title) = code.parts();
        Self {
            kind: format!("urn:yard:problem:{name}"),
            title: title.to_owned(),
            status,
            code: name.to_owned(),
            detail: detail.into(),
            job: None,
            newest_arrival: BTreeMap::new(),
            errors: Vec::new(),
        }
    }
}

impl From<&FieldError> for FieldProblem {
    fn from(error: &FieldError) -> Self {
        Self {
            field: error.field.clone(),
            code: error.code.to_owned(),
            message: error.message.clone(),
            line: None,
        }
    }
}
