//! Errors as RFC 9457 problem documents. What went wrong inside is logged here, once, and never sent.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tracing::{error, warn};
use yard_domain::JobId;
use yard_ports::{DriverError, StoreError};
use yard_wire::DocumentError;
use yard_wire::views::{FieldProblem, Problem, ProblemCode};

/// How long a client is asked to wait before it tries again, in seconds.
const RETRY_AFTER_S: u64 = 1;

/// Why a request could not be answered as asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError(Box<Problem>, ProblemCode, Option<u64>);

impl ApiError {
    /// An error with its detail.
    pub fn new(code: ProblemCode, detail: impl Into<String>) -> Self {
        let wait = (code.parts().1 == StatusCode::SERVICE_UNAVAILABLE.as_u16()).then_some(RETRY_AFTER_S);
        Self(Box::new(Problem::new(code, detail)), code, wait)
    }

    /// There is no such thing.
    pub fn not_found(what: impl Into<String>) -> Self {
        Self::new(ProblemCode::NotFound, what)
    }

    /// A request with wrong fields.
    pub fn fields(code: ProblemCode, detail: impl Into<String>, errors: Vec<FieldProblem>) -> Self {
        let mut error = Self::new(code, detail);
        error.0.errors = errors;
        error
    }

    /// The same, about a job.
    #[must_use]
    pub fn about(mut self, job: JobId) -> Self {
        self.0.job = Some(job.to_string());
        self
    }

    /// The same, with how far each door is.
    #[must_use]
    pub fn with_newest_arrival(mut self, newest: BTreeMap<String, String>) -> Self {
        self.0.newest_arrival = newest;
        self
    }

    /// The same, to be tried again after so many seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.2 = Some(seconds);
        self
    }

    /// What kind of error it is.
    pub fn code(&self) -> ProblemCode {
        self.1
    }

    /// After how many seconds to try again, if that helps.
    pub(crate) fn wait(&self) -> Option<u64> {
        self.2
    }

    /// The document that is sent.
    pub fn problem(&self) -> &Problem {
        &self.0
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(*self.0)).into_response();
        response.extensions_mut().insert(self.1);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"switchyard\""));
        }
        if let Some(seconds) = self.2 {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Unavailable(_) => {
                warn!(%error, "a request failed");
                Self::new(
                    ProblemCode::Unavailable,
                    "nothing is lost: the same request can be sent again in a moment",
                )
            }
            StoreError::Schema(reason) => {
                error!(%error, "a request failed");
                Self::new(ProblemCode::Unavailable, reason.clone())
            }
            StoreError::Inconsistent { table, row, .. } => {
                error!(%error, "a request failed");
                Self::new(ProblemCode::Internal, format!("table {table}, row {row}: does not fit the model"))
            }
            StoreError::LeaseLost { .. } | StoreError::Rejected { .. } => {
                error!(%error, "a request failed");
                Self::new(ProblemCode::Internal, "this is a fault of the server; its log says more")
            }
        }
    }
}

impl From<DocumentError> for ApiError {
    fn from(error: DocumentError) -> Self {
        error!(%error, source = %error.source, "a request failed");
        Self::new(ProblemCode::Internal, error.to_string()).about(error.job)
    }
}

impl From<DriverError> for ApiError {
    fn from(error: DriverError) -> Self {
        match error {
            DriverError::NotFound => {
                Self::new(ProblemCode::NoLog, "the cluster has no log of this attempt (yet, or any more)")
            }
            // The driver's texts come from the cluster and may hold its addresses: they go to the log only.
            other => {
                warn!(error = %other, "a cluster could not be asked");
                let detail = match other.code() {
                    "unauthorized" => {
                        "it does not accept our credentials: an operator must look at its token"
                    }
                    "unreachable" | "unclear" => {
                        "it does not answer now; its jobs go on, and so may you in a moment"
                    }
                    _ => "it refuses; the server's log says more",
                };
                Self::new(ProblemCode::ClusterUnreachable, detail)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use yard_domain::LeaseToken;

    use super::*;

    #[test]
    fn the_store_s_errors_say_what_to_do_and_nothing_about_the_inside() {
        let cases = [
            (
                StoreError::Unavailable("mysql://yard:hunter2@db.internal refused".to_owned()),
                503,
                "unavailable",
            ),
            (
                StoreError::Schema("the schema is version 3; this binary knows 1 to 2".to_owned()),
                503,
                "unavailable",
            ),
            (
                StoreError::Inconsistent {
                    table: "jobs",
                    row: "j-1".to_owned(),
                    problem: "hunter2".to_owned(),
                },
                500,
                "internal",
            ),
            (StoreError::LeaseLost { scope: "hunter2".to_owned(), token: LeaseToken(1) }, 500, "internal"),
            (
                StoreError::Rejected { context: "accept", reason: "near 'hunter2'".to_owned() },
                500,
                "internal",
            ),
        ];
        for (error, status, code) in cases {
            let api = ApiError::from(error);
            let text = serde_json::to_string(api.problem()).unwrap();
            assert_eq!((api.problem().status, api.problem().code.as_str()), (status, code), "{text}");
            assert!(!text.contains("hunter2") && !text.contains("db.internal"), "{text}");
            let response = api.into_response();
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), status == 503, "{text}");
        }
        let row = ApiError::from(StoreError::Inconsistent {
            table: "jobs",
            row: "j-1".to_owned(),
            problem: String::new(),
        });
        assert_eq!(row.problem().detail, "table jobs, row j-1: does not fit the model");
    }
}
