//! What `POST /v1/jobs` does while the database is away: the submission, checked against the catalog in memory, is put into a
//! queue that intake reads, and its caller is told the id that it will have.
//!
//! Whether the commit was made before the connection broke may not be known. That does no harm: what intake reads is the same
//! document under the same key and id, so it meets its own receipt.

use axum::Json;
use axum::body::Bytes;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tracing::{info, warn};
use yard_domain::Arrival;
use yard_ports::{Spilled, StoreError};
use yard_wire::API_DOOR;
use yard_wire::views::{FieldProblem, ProblemCode, Submitted};

use crate::problem::ApiError;
use crate::state::AppState;

/// Keeps a submission that could not be committed because of `error`; what can't be a job is refused at once.
pub(super) async fn put_off(
    state: &AppState,
    arrival: &Arrival,
    body: &Bytes,
    key: Option<String>,
    error: StoreError,
) -> Result<Response, ApiError> {
    let Some(queue) = &state.spill else { return Err(error.into()) };
    let job = match &arrival.content {
        Ok(job) => job.id,
        Err(errors) => {
            let detail = "it can't be a job; no receipt is kept, because the database is away";
            let errors = errors.iter().map(FieldProblem::from).collect();
            return Err(ApiError::fields(ProblemCode::Rejected, detail.to_owned(), errors));
        }
    };
    let spilled = Spilled {
        job,
        door: API_DOOR.to_owned(),
        request: arrival.message_id.clone(),
        by: arrival.by.clone(),
        key,
    };
    // It has been read as JSON, which is UTF-8.
    let text = String::from_utf8_lossy(body);
    if let Err(failed) = queue.put(&text, &spilled).await {
        warn!(error = %failed, "the database is away, and the queue for that time can't take a submission");
        return Err(error.into());
    }
    info!(%job, key = %arrival.key, %error, "the database is away: a submission waits in the queue");
    metrics::counter!("yard_submissions_total", "door" => API_DOOR, "verdict" => "pending").increment(1);
    let (team, key) = (arrival.key.team.clone(), arrival.key.key.clone());
    let body = Submitted { id: job.to_string(), team, key, created: false, pending: true };
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, format!("/v1/jobs/{job}"))], Json(body)).into_response())
}
