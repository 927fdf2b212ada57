//! What submissions come to while the database is away: each, checked against the catalog in memory, is put into a queue that
//! intake reads, and its caller is told the id that it will have.
//!
//! Whether the commit was made before the connection broke may not be known. That does no harm: what intake reads is the same
//! document under the same key and id, so it meets its own receipt.

use axum::Json;
use axum::body::Bytes;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use tracing::{info, warn};
use yard_domain::{Arrival, JobId};
use yard_ports::{Spill, Spilled, StoreError};
use yard_wire::bound_id;
use yard_wire::views::{BulkVerdict, FieldProblem, ProblemCode, Submitted};

use crate::problem::ApiError;
use crate::state::AppState;

/// Submissions of one request that are put into the queue at once.
const AT_ONCE: usize = 16;

/// Gives a submission the id that intake will make of it, if it has to wait in the queue.
pub(super) fn bind(arrival: &mut Arrival) {
    if let Ok(job) = &mut arrival.content {
        job.id = bound_id(job.id, &arrival.key, &arrival.message_id);
    }
}

/// Puts one submission, whose document is `text`, into the queue.
async fn put(
    queue: &dyn Spill,
    arrival: &Arrival,
    job: JobId,
    text: &str,
    key: Option<String>,
) -> Result<(), ()> {
    let spilled = Spilled {
        job,
        door: arrival.source.clone(),
        request: arrival.message_id.clone(),
        by: arrival.by.clone(),
        key,
    };
    if let Err(failed) = queue.put(text, &spilled).await {
        warn!(error = %failed, "the database is away, and the queue for that time can't take a submission");
        return Err(());
    }
    info!(%job, key = %arrival.key, "the database is away: a submission waits in the queue");
    let door = arrival.source.clone();
    metrics::counter!("yard_submissions_total", "door" => door, "verdict" => "pending").increment(1);
    Ok(())
}

/// Keeps a submission that could not be committed because of `error`; what can't be a job is refused at once. Answers its id.
pub(super) async fn keep(
    state: &AppState,
    arrival: &Arrival,
    text: &str,
    key: Option<String>,
    error: StoreError,
) -> Result<JobId, ApiError> {
    let Some(queue) = &state.spill else { return Err(error.into()) };
    let job = match &arrival.content {
        Ok(job) => job.id,
        Err(errors) => {
            let detail = "it can't be a job; no receipt is kept, because the database is away";
            let errors = errors.iter().map(FieldProblem::from).collect();
            return Err(ApiError::fields(ProblemCode::Rejected, detail.to_owned(), errors));
        }
    };
    match put(queue.as_ref(), arrival, job, text, key).await {
        Ok(()) => Ok(job),
        Err(()) => Err(error.into()),
    }
}

/// As [`keep`], with the answer of `POST /v1/jobs`.
pub(super) async fn put_off(
    state: &AppState,
    arrival: &Arrival,
    body: &Bytes,
    key: Option<String>,
    error: StoreError,
) -> Result<Response, ApiError> {
    // It has been read as JSON, which is UTF-8.
    let job = keep(state, arrival, &String::from_utf8_lossy(body), key, error).await?;
    let (team, key) = (arrival.key.team.clone(), arrival.key.key.clone());
    let body = Submitted { id: job.to_string(), team, key, created: false, pending: true };
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, format!("/v1/jobs/{job}"))], Json(body)).into_response())
}

/// As [`keep`], of many with their documents: a verdict each. An error if none could be kept.
pub(super) async fn put_off_many(
    state: &AppState,
    arrivals: &[(Arrival, String)],
    error: StoreError,
) -> Result<Vec<BulkVerdict>, ApiError> {
    let Some(queue) = &state.spill else { return Err(error.into()) };
    let one = async |(arrival, text): &(Arrival, String)| match &arrival.content {
        Err(errors) => BulkVerdict::rejected(&arrival.key, errors),
        Ok(job) => match put(queue.as_ref(), arrival, job.id, text, None).await {
            Ok(()) => BulkVerdict::pending(&arrival.key, job.id),
            Err(()) => BulkVerdict::unavailable(&arrival.key),
        },
    };
    let verdicts: Vec<BulkVerdict> = stream::iter(arrivals).map(one).buffered(AT_ONCE).collect().await;
    let kept = verdicts.iter().any(|v| v.verdict != BulkVerdict::UNAVAILABLE);
    if kept { Ok(verdicts) } else { Err(error.into()) }
}
