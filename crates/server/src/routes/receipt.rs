//! `GET /v1/receipts/{team}/{key}`: what became of a submission, by its producer's own key.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use yard_domain::{SubmissionKey, TeamId, Timestamp};
use yard_wire::views::{Problem, ProblemCode, ReceiptView, time_text};

use crate::access::Caller;
use crate::problem::ApiError;
use crate::query::Params;
use crate::state::AppState;

#[utoipa::path(
    get, path = "/v1/receipts/{team}/{key}", operation_id = "get_receipt", tag = "receipts", summary = "Ask what became of a submission",
    params(
        ("team" = String, Path, description = "The team as it stood in the submission; `-` if none could be read"),
        ("key" = String, Path, description = "The producer's key, percent-encoded where needed; slashes may stand as they are"),
    ),
    responses(
        (status = 200, body = ReceiptView),
        (status = 404, description = "Nothing has come under this key (yet): newest_arrival tells how far each door is", body = Problem),
    )
)]
pub(crate) async fn receipt(
    State(state): State<AppState>,
    caller: Caller,
    path: Result<Path<(String, String)>, PathRejection>,
    params: Params,
) -> Result<Json<ReceiptView>, ApiError> {
    params.finish()?;
    let Ok(Path((team, key))) = path else {
        return Err(ApiError::new(
            ProblemCode::BadRequest,
            "the path is not valid UTF-8 after percent-decoding",
        ));
    };
    let key = SubmissionKey { team, key };
    // What came under no team that there could be is the operators' to see. Who may not see the team is not told how far
    // the doors are, either: that is one answer for a team of others and for one that is not there.
    let is_theirs = key.team.parse().is_ok_and(|team: TeamId| caller.sees(&team));
    if !is_theirs && !caller.sees_all() {
        return Err(ApiError::not_found(format!("nothing has come under {key} (yet)")));
    }
    if let Some(receipt) = state.store.receipt(&key).await? {
        return Ok(Json(ReceiptView::from(&receipt)));
    }
    let newest = state.store.newest_arrivals().await?;
    // Asked once more: what was sent before these times, and is not there now, had no verdict by then.
    match state.store.receipt(&key).await? {
        Some(receipt) => Ok(Json(ReceiptView::from(&receipt))),
        None => Err(unseen(&key, newest)),
    }
}

/// Nothing has come under the key: how far each door is tells whether something still may.
fn unseen(key: &SubmissionKey, newest: BTreeMap<String, Timestamp>) -> ApiError {
    let detail = format!(
        "nothing has come under {key} (yet): what was sent through a door before its newest_arrival has most probably been seen"
    );
    let newest = newest.into_iter().map(|(door, at)| (door, time_text(at)));
    ApiError::not_found(detail).with_newest_arrival(newest.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use yard_domain::{SubmissionKey, Timestamp};

    use crate::testing::World;

    #[tokio::test]
    async fn an_unseen_key_is_told_how_far_each_door_is() {
        let world = World::new().await;
        assert_eq!(
            world.get("/v1/receipts/search/k").await.problem(404, "not_found").get("newest_arrival"),
            None
        );
        let arrival = |key: &str, sent_at| yard_domain::Arrival {
            key: SubmissionKey { team: "search".to_owned(), key: key.to_owned() },
            source: "sqs:submissions".to_owned(),
            message_id: "m".to_owned(),
            by: None,
            sent_at: Some(Timestamp::from_micros(sent_at)),
            body_hash: [0; 32],
            content: Err(Vec::new()),
        };
        world.state.store.accept(&[arrival("a", 5_000_000), arrival("b", 3_000_000)]).await.unwrap();
        let problem = world.get("/v1/receipts/search/k").await.problem(404, "not_found");
        assert_eq!(problem["newest_arrival"], json!({"sqs:submissions": "1970-01-01T00:00:05.000000Z"}));
        assert_eq!(world.get("/v1/receipts/search/a").await.json()["verdict"], "rejected");
    }

    #[tokio::test]
    async fn keys_may_hold_slashes_colons_and_percent_signs() {
        let world = World::new().await;
        let key = "dag/run:2026-11-22T00:00:00+00:00?x=%41&#1";
        let id = world.job(key).await.to_string();
        for path in [
            "/v1/receipts/search/dag%2Frun%3A2026-11-22T00%3A00%3A00%2B00%3A00%3Fx%3D%2541%26%231",
            "/v1/receipts/search/dag/run:2026-11-22T00:00:00+00:00%3Fx=%2541&%231",
        ] {
            let receipt = world.get(path).await.json();
            assert_eq!((&receipt["job"], &receipt["key"]), (&json!(id), &json!(key)), "{path}");
        }
        world.get("/v1/receipts/search/other").await.problem(404, "not_found");
        world.get("/v1/receipts/search/%ff").await.problem(400, "bad_request");
    }
}
