//! `POST /api/jobs/`: a submission, through the same intake as every other door.

use std::collections::BTreeSet;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tracing::warn;
use uuid::Uuid;
use yard_domain::{Arrival, TeamId, Verdict};
use yard_ports::StoreError;
use yard_ports::packages::package_uris;
use yard_wire::canonical::parse_strict;
use yard_wire::ray::{RayContext, RaySubmission, client_field, submission};
use yard_wire::{Intake, Source};

use super::RayError;
use crate::access::Caller;
use crate::layers::RequestId;
use crate::routes::spill;
use crate::routes::submit::{count_verdict, json_body, keep_to_rate, permit};
use crate::state::AppState;

/// The door's name in receipts.
const DOOR: &str = "ray";

pub(super) async fn submit(
    State(state): State<AppState>,
    caller: Caller,
    Extension(request): Extension<RequestId>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, RayError> {
    let body = json_body(&headers, body, state.config.body_max_bytes)?;
    let refused = |text: String| RayError::new(StatusCode::BAD_REQUEST, text);
    let body = parse_strict(&body).map_err(|e| refused(format!("the body is not valid JSON: {e}")))?;
    let given = read(&state, &caller, &headers, &body).map_err(|problems| refused(problems.join("\n")))?;
    let arrival = arrival(&state, &caller, &given, request.0);
    caller.about(format!("submission {}", arrival.key));
    permit(&caller, &arrival)?;
    keep_to_rate(&state, &arrival, DOOR)?;
    let taken = Json(json!({"job_id": given.id, "submission_id": given.id}));
    let verdicts = match state.store.accept(std::slice::from_ref(&arrival)).await {
        Err(error @ StoreError::Unavailable(_)) => {
            caller.came_to("put_off");
            spill::keep(&state, &arrival, &given.document.to_string(), None, error).await?;
            return Ok(taken);
        }
        verdicts => verdicts?,
    };
    let verdict = verdicts.into_iter().next();
    let verdict = verdict
        .ok_or_else(|| RayError::new(StatusCode::INTERNAL_SERVER_ERROR, "the store gave no verdict"))?;
    count_verdict(DOOR, &verdict);
    match verdict {
        Verdict::Accepted { job, first: true } => {
            caller.about(format!("job {job}, submission {}", arrival.key));
            (state.nudge)();
            keep_packages(&state, &arrival).await;
            Ok(taken)
        }
        // Whatever the document: to Ray's client an id is used once. (The native API answers the same again.)
        Verdict::Accepted { first: false, .. } | Verdict::Conflict { .. } => {
            let text = format!(
                "ValueError: Job with submission_id {} already exists. Please use a different submission_id.",
                given.id
            );
            Err(RayError::new(StatusCode::INTERNAL_SERVER_ERROR, text))
        }
        Verdict::Rejected(errors) => {
            let lines: Vec<String> =
                errors.iter().map(|e| format!("{}: {}", client_field(&e.field), e.message)).collect();
            Err(refused(lines.join("\n")))
        }
    }
}

/// Counts as a use of what the job names. (Its acceptance alone keeps that until it can't want it any more.) What is not here
/// fails the job when it is launched, as with Ray.
async fn keep_packages(state: &AppState, arrival: &Arrival) {
    let named = arrival.content.iter().flat_map(|job| package_uris(&job.spec.runtime_env));
    for uri in named {
        if let Err(error) = state.ray.packages.touch(&uri).await {
            warn!(%error, uri, "the use of a package could not be noted");
        }
    }
}

fn read(
    state: &AppState,
    caller: &Caller,
    headers: &HeaderMap,
    body: &Value,
) -> Result<RaySubmission, Vec<String>> {
    let admission = state.admission.borrow().clone();
    let headers: Vec<(String, String)> = headers
        .iter()
        .map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        })
        .collect();
    let labels: BTreeSet<&str> =
        admission.clusters.iter().flat_map(|c| c.labels.keys()).map(String::as_str).collect();
    let only = caller.only_team();
    let context = RayContext {
        default_team: only.or(state.ray.config.default_team.as_ref()).map(TeamId::as_str),
        headers: &headers,
        cluster_labels: labels,
        new_id: new_id(Uuid::new_v4()),
    };
    submission(body, &context)
}

fn arrival(state: &AppState, caller: &Caller, given: &RaySubmission, request: String) -> Arrival {
    let by = Some(caller.actor());
    let source = Source { door: DOOR.to_owned(), message_id: request, sent_at: None, by, key: None };
    let admission = state.admission.borrow().clone();
    let intake = Intake { admission: &admission, limits: &state.limits, defaults: &state.defaults };
    let mut arrival = intake.arrival_of(&given.document, &source, (state.new_id)());
    spill::bind(&mut arrival);
    arrival
}

/// An id of Ray's form: `raysubmit_` and 16 letters or digits, none that could be taken for another.
fn new_id(random: Uuid) -> String {
    const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ123456789";
    let mut rest = random.as_u128();
    let mut id = "raysubmit_".to_owned();
    for _ in 0..16 {
        let of = LETTERS.len() as u128;
        id.push(char::from(LETTERS[usize::try_from(rest % of).unwrap_or(0)]));
        rest /= of;
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_of_ray_s_form_and_differ() {
        let ids: BTreeSet<String> = (0..1_000).map(|_| new_id(Uuid::new_v4())).collect();
        assert_eq!(ids.len(), 1_000);
        assert!(ids.iter().all(|id| id.len() == 26
            && id.starts_with("raysubmit_")
            && !id[10..].contains(['I', 'l', 'o', 'O', '0'])));
    }
}
