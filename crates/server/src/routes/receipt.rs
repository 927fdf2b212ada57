//! `GET /v1/receipts/{team}/{key}`: what became of a submission, by its producer's own key.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use yard_domain::{SubmissionKey, TeamId};
use yard_wire::views::{Problem, ProblemCode, ReceiptView};

use crate::access::Caller;
use crate::problem::ApiError;
use crate::query::Params;
use crate::state::AppState;

#[utoipa::path(
    get, path = "/v1/receipts/{team}/{key}", tag = "receipts", summary = "Ask what became of a submission",
    params(
        ("team" = String, Path, description = "The team as it stood in the submission; `-` if none could be read"),
        ("key" = String, Path, description = "The producer's key, percent-encoded where needed; slashes may stand as they are"),
    ),
    responses(
        (status = 200, body = ReceiptView),
        (status = 404, description = "Nothing has come under this key", body = Problem),
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
    let unknown = || ApiError::not_found(format!("nothing has come under {key} (yet)"));
    // What came under no team that there could be is the operators' to see.
    let is_theirs = key.team.parse().is_ok_and(|team: TeamId| caller.sees(&team));
    if !is_theirs && !caller.sees_all() {
        return Err(unknown());
    }
    let receipt = state.store.receipt(&key).await?.ok_or_else(unknown)?;
    Ok(Json(ReceiptView::from(&receipt)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::World;

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
