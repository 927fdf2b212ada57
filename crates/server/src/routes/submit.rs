//! `POST /v1/jobs`: hand over a job.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use yard_domain::{Arrival, JobId, Right, TeamId, Verdict};
use yard_ports::StoreError;
use yard_wire::canonical::parse_strict;
use yard_wire::views::{FieldProblem, Problem, ProblemCode, Submitted};
use yard_wire::{Intake, Source, Submission};

use crate::access::Caller;
use crate::layers::RequestId;
use crate::problem::ApiError;
use crate::routes::spill;
use crate::state::AppState;

/// The door's name in receipts and in the configuration of who may submit for whom.
pub(super) const DOOR: &str = "http";

#[utoipa::path(
    post, path = "/v1/jobs", tag = "jobs", summary = "Hand over a job",
    description = "Answers only after the verdict is committed. The same document under the same team and key is the same job.",
    params(("Idempotency-Key" = Option<String>, Header, description = "The key, if the document has none")),
    request_body = Submission,
    responses(
        (status = 201, description = "A new job", body = Submitted),
        (status = 200, description = "The same document came before under this key", body = Submitted),
        (status = 202, description = "The database is away: kept in a queue, to be accepted later", body = Submitted),
        (status = 400, description = "The body is not JSON", body = Problem),
        (status = 409, description = "The key belongs to a job with another body", body = Problem),
        (status = 413, description = "The body is too large", body = Problem),
        (status = 415, description = "The body is not declared to be JSON", body = Problem),
        (status = 429, description = "The team submits faster than it may: see Retry-After", body = Problem),
        (status = 422, description = "Rejected, with every error; kept as a receipt", body = Problem),
        (status = 503, description = "Nothing was committed, or it is not known: send it again", body = Problem),
    )
)]
pub(crate) async fn submit(
    State(state): State<AppState>,
    caller: Caller,
    Extension(request): Extension<RequestId>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let body = json_body(&headers, body, state.config.body_max_bytes)?;
    let arrival = read(&state, &caller, &headers, &body, request.0)?;
    caller.about(format!("submission {}", arrival.key));
    permit(&caller, &arrival)?;
    keep_to_rate(&state, &arrival, DOOR)?;
    let verdicts = match state.store.accept(std::slice::from_ref(&arrival)).await {
        Err(error @ StoreError::Unavailable(_)) => {
            caller.came_to("put_off");
            return spill::put_off(&state, &arrival, &body, key_beside(&headers), error).await;
        }
        verdicts => verdicts?,
    };
    let Some(verdict) = verdicts.into_iter().next() else {
        return Err(ApiError::new(ProblemCode::Internal, "the store gave no verdict"));
    };
    answer(&state, &caller, &arrival, verdict)
}

/// The body of a request that must be JSON.
pub(super) fn json_body(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
    max: usize,
) -> Result<Bytes, ApiError> {
    body_of_kind(headers, body, max, &["application/json"])
}

/// The body of a request that must be declared to be of one of these kinds.
pub(super) fn body_of_kind(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
    max: usize,
    kinds: &[&str],
) -> Result<Bytes, ApiError> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            ApiError::new(ProblemCode::BodyTooLarge, format!("at most {max} bytes are allowed"))
        }
        _ => ApiError::new(ProblemCode::BadRequest, "the body could not be read to its end"),
    })?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    // RFC 6839: application/problem+json is JSON too.
    let base = kind.rsplit_once('+').map_or(kind.clone(), |(_, suffix)| format!("application/{suffix}"));
    if kinds.contains(&kind.as_str()) || kinds.contains(&base.as_str()) {
        return Ok(body);
    }
    let given = if kind.is_empty() { "none".to_owned() } else { format!("{kind:?}") };
    let wanted = kinds.first().copied().unwrap_or_default();
    let detail = format!("the Content-Type is {given}; send the header Content-Type: {wanted}");
    Err(ApiError::new(ProblemCode::UnsupportedMediaType, detail))
}

fn read(
    state: &AppState,
    caller: &Caller,
    headers: &HeaderMap,
    body: &Bytes,
    request: String,
) -> Result<Arrival, ApiError> {
    let document = parse_strict(body)
        .map_err(|e| ApiError::new(ProblemCode::BadRequest, format!("the body is not valid JSON: {e}")))?;
    let source = Source {
        door: DOOR.to_owned(),
        message_id: request,
        sent_at: None,
        by: Some(caller.actor()),
        key: key_beside(headers),
    };
    let admission = state.admission.borrow().clone();
    let intake = Intake { admission: &admission, limits: &state.limits, defaults: &state.defaults };
    let mut arrival = intake.arrival_of(&document, &source, (state.new_id)());
    spill::bind(&mut arrival);
    Ok(arrival)
}

/// The key that comes beside the document.
fn key_beside(headers: &HeaderMap) -> Option<String> {
    headers.get("idempotency-key").map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned())
}

/// Nothing is kept of a submission for a team of others, not even a receipt: it would stand under their key. Whether there
/// is such a team is not told.
pub(super) fn permit(caller: &Caller, arrival: &Arrival) -> Result<(), ApiError> {
    match arrival.key.team.parse::<TeamId>() {
        Ok(team) => caller.need(Right::Submit, &team),
        // No team could be read: it will be rejected, under the name of none.
        Err(_) => Ok(()),
    }
}

/// Turns a submission away if its team submits faster than it may: nothing is kept of it.
pub(super) fn keep_to_rate(state: &AppState, arrival: &Arrival, door: &'static str) -> Result<(), ApiError> {
    let Some(seconds) = turned_away(state, arrival, door) else { return Ok(()) };
    let detail = format!("nothing was kept of it: send the same again in {seconds} s");
    Err(ApiError::new(ProblemCode::RateLimited, detail).retry_after(seconds))
}

/// Counts a submission against its team's rate: whether it is over it, and in how many seconds to come again.
pub(super) fn turned_away(state: &AppState, arrival: &Arrival, door: &'static str) -> Option<u64> {
    let team = arrival.key.team.parse::<TeamId>().ok()?;
    let wait = (state.submit_rate)(&team).err()?;
    metrics::counter!("yard_submissions_total", "door" => door, "verdict" => "rate_limited").increment(1);
    Some((wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1))
}

/// Counts what became of a submission.
pub(super) fn count_verdict(door: &'static str, verdict: &Verdict) {
    let code = match verdict {
        Verdict::Accepted { first: true, .. } => "accepted",
        Verdict::Accepted { first: false, .. } => "repeated",
        Verdict::Rejected(_) => "rejected",
        Verdict::Conflict { .. } => "conflict",
    };
    metrics::counter!("yard_submissions_total", "door" => door, "verdict" => code).increment(1);
}

fn answer(
    state: &AppState,
    caller: &Caller,
    arrival: &Arrival,
    verdict: Verdict,
) -> Result<Response, ApiError> {
    count_verdict(DOOR, &verdict);
    let key = &arrival.key;
    match verdict {
        Verdict::Accepted { job, first } => {
            caller.about(format!("job {job}, submission {key}"));
            if first {
                (state.nudge)();
            } else {
                caller.came_to("repeated");
            }
            Ok(accepted(arrival, job, first))
        }
        Verdict::Conflict { job } => {
            let detail =
                format!("{key} is job {job}, which has another document: use another key, or send the same");
            Err(ApiError::new(ProblemCode::Conflict, detail).about(job))
        }
        Verdict::Rejected(errors) => {
            let count = errors.len();
            let detail = format!("{count} error{}; the receipt is {key}", if count == 1 { "" } else { "s" });
            let errors = errors.iter().map(FieldProblem::from).collect();
            Err(ApiError::fields(ProblemCode::Rejected, detail, errors))
        }
    }
}

fn accepted(arrival: &Arrival, job: JobId, created: bool) -> Response {
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let body = Submitted {
        id: job.to_string(),
        team: arrival.key.team.clone(),
        key: arrival.key.key.clone(),
        created,
        pending: false,
    };
    (status, [(header::LOCATION, format!("/v1/jobs/{job}"))], Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use axum::body::Body;
    use axum::http::{Request, StatusCode, header};
    use serde_json::{Value, json};
    use yard_domain::TeamId;

    use crate::ServerConfig;
    use crate::testing::{Answer, World};

    fn document() -> Value {
        json!({"v": 1, "team": "ads", "key": "nightly", "entrypoint": "python x.py", "resources": {"cpu": 2}})
    }

    async fn raw(world: &World, kind: Option<&str>, body: impl Into<Body>) -> Answer {
        let mut request = Request::post("/v1/jobs");
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        world.send(request.body(body.into()).unwrap()).await
    }

    #[tokio::test]
    async fn the_same_document_is_the_same_job_and_another_a_conflict() {
        let world = World::new().await;
        let first = world.post("/v1/jobs", &document()).await;
        assert_eq!(first.status, StatusCode::CREATED);
        let made = first.json();
        assert_eq!(
            (&made["team"], &made["key"], &made["created"]),
            (&json!("ads"), &json!("nightly"), &json!(true))
        );
        let id = made["id"].as_str().unwrap();
        assert_eq!(first.headers[header::LOCATION], format!("/v1/jobs/{id}"));
        assert_eq!(world.nudged(), 1);
        assert_eq!(world.get(&format!("/v1/jobs/{id}")).await.json()["state"], "queued");

        let again = world.post("/v1/jobs", &document()).await;
        assert_eq!(again.status, StatusCode::OK);
        assert_eq!(again.json(), json!({"id": id, "team": "ads", "key": "nightly", "created": false}));
        assert_eq!(world.nudged(), 1);

        let mut other = document();
        other["entrypoint"] = json!("python y.py");
        let conflict = world.post("/v1/jobs", &other).await.problem(409, "conflict");
        assert_eq!(conflict["job"], id);
        assert!(conflict["detail"].as_str().unwrap().contains(id), "{conflict}");
        let receipt = world.get("/v1/receipts/ads/nightly").await.json();
        assert_eq!((&receipt["verdict"], &receipt["job"]), (&json!("accepted"), &json!(id)));
        assert_eq!(receipt["conflicts"].as_array().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_rejected_submission_names_every_field_and_leaves_a_receipt() {
        let world = World::new().await;
        let bad = json!({"v": 1, "team": "nobody", "key": "k", "entrypoint": "", "resources": {"cpu": 99}, "prio": 1});
        let problem = world.post("/v1/jobs", &bad).await.problem(422, "rejected");
        let fields: Vec<_> =
            problem["errors"].as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
        assert_eq!(fields, ["entrypoint", "prio", "team", "resources.cpu"]);
        assert_eq!(problem["detail"], "4 errors; the receipt is nobody/k");
        let receipt = world.get("/v1/receipts/nobody/k").await.json();
        assert_eq!((&receipt["verdict"], &receipt["errors"]), (&json!("rejected"), &problem["errors"]));
        assert_eq!(receipt["source"], "http");
        assert_eq!(world.nudged(), 0);
    }

    #[tokio::test]
    async fn a_key_comes_from_the_header_or_is_made() {
        let world = World::new().await;
        let keyless = json!({"v": 1, "team": "search", "entrypoint": "x"});
        let with_header = || {
            Request::post("/v1/jobs")
                .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
                .header("idempotency-key", "retry-7")
                .body(Body::from(keyless.to_string()))
                .unwrap()
        };
        let first = world.send(with_header()).await;
        assert_eq!((first.status, first.json()["key"].clone()), (StatusCode::CREATED, json!("retry-7")));
        assert_eq!(world.send(with_header()).await.status, StatusCode::OK);
        let made = world.post("/v1/jobs", &keyless).await;
        let request = made.headers["x-request-id"].to_str().unwrap();
        assert_eq!(made.json()["key"], format!("http:{request}"));
    }

    #[tokio::test]
    async fn what_is_no_json_is_refused_without_a_receipt() {
        let world = World::with(ServerConfig { body_max_bytes: 200, ..ServerConfig::default() }).await;
        let json = Some("application/json");
        let problem = raw(&world, json, "{\"v\":1,").await.problem(400, "bad_request");
        assert!(problem["detail"].as_str().unwrap().contains("line 1 column 7"), "{problem}");
        raw(&world, json, vec![0xff; 10]).await.problem(400, "bad_request");
        raw(&world, json, "{\"v\":1,\"v\":1}").await.problem(400, "bad_request");
        raw(&world, Some("text/plain"), document().to_string()).await.problem(415, "unsupported_media_type");
        raw(&world, None, document().to_string()).await.problem(415, "unsupported_media_type");
        raw(&world, json, "x".repeat(201)).await.problem(413, "body_too_large");
        assert_eq!(world.get("/v1/jobs").await.json()["jobs"], json!([]));
    }

    #[tokio::test]
    async fn a_team_over_its_rate_is_told_when_to_come_again_and_nothing_is_kept() {
        let mut world = World::new().await;
        let wait = |team: &TeamId| {
            if team.as_str() == "ads" { Err(Duration::from_millis(1_200)) } else { Ok(()) }
        };
        world.state.submit_rate = Arc::new(wait);
        let answer = world.post("/v1/jobs", &document()).await;
        answer.problem(429, "rate_limited");
        assert_eq!(answer.headers[header::RETRY_AFTER], "2", "rounded up");
        world.get("/v1/receipts/ads/nightly").await.problem(404, "not_found");
        assert_eq!(world.nudged(), 0);
        world.job("another-team").await;
    }
}
