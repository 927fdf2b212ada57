//! `GET /v1/jobs/{id}/history`: everything that happened to a job.

use axum::Json;
use axum::extract::State;
use yard_wire::views::{HistoryView, LineView, Problem};

use super::{JobPath, find_job};
use crate::access::{Caller, redact};
use crate::problem::ApiError;
use crate::query::Params;
use crate::state::AppState;

/// Lines on a page unless the request says otherwise.
const PAGE: u32 = 200;

#[utoipa::path(
    get, path = "/v1/jobs/{id}/history", operation_id = "job_history", tag = "jobs", summary = "Show everything that happened to a job",
    params(
        ("id" = String, Path, description = "The job's id"),
        ("after" = Option<u32>, Query, description = "Only lines after this one"),
        ("limit" = Option<u32>, Query, description = "At most this many; by default 200"),
    ),
    responses((status = 200, body = HistoryView), (status = 404, description = "There is no such job", body = Problem))
)]
pub(crate) async fn history(
    State(state): State<AppState>,
    caller: Caller,
    JobPath(id): JobPath,
    mut params: Params,
) -> Result<Json<HistoryView>, ApiError> {
    let after = params.one_as::<u32>("after", "a whole number: the `seq` of a line").unwrap_or(0);
    let limit = params.number("limit", 1, state.config.page_max).unwrap_or(PAGE.min(state.config.page_max));
    params.finish()?;
    let mut lines = state.store.history(id, after, limit.saturating_add(1)).await?;
    // Who sees every team need not be asked whose it is.
    if lines.is_empty() || !caller.sees_all() {
        find_job(&state, &caller, id).await?;
    }
    let more = lines.len() > limit as usize;
    lines.truncate(limit as usize);
    let next = if more { lines.last().map(|line| line.seq) } else { None };
    let mut views: Vec<LineView> = lines.iter().map(LineView::from).collect();
    // Only these tell of other jobs; what people wrote (a reason to stop) stays as it is.
    for view in views.iter_mut().filter(|view| view.event == "preempt_requested") {
        *view = redact::for_caller(&state, &caller, view.clone()).await?;
    }
    Ok(Json(HistoryView { id: id.to_string(), lines: views, next }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::World;

    #[tokio::test]
    async fn history_comes_in_order_and_in_pages() {
        let world = World::new().await;
        let id = world.job("k").await;
        world.run(id, "east").await;
        let path = format!("/v1/jobs/{id}/history");
        let all = world.get(&path).await.json();
        let events: Vec<_> =
            all["lines"].as_array().unwrap().iter().map(|l| l["event"].as_str().unwrap()).collect();
        assert_eq!(events, ["accepted", "claimed", "placed", "launch_begun", "started"]);
        assert_eq!(all.get("next"), None);
        assert_eq!(all["lines"][2]["data"]["cluster"], "east");
        let page = world.get(&format!("{path}?limit=2&after=1")).await.json();
        assert_eq!((&page["lines"][0]["seq"], &page["next"]), (&json!(2), &json!(3)));
        world.get(&format!("{path}?after=-1")).await.problem(400, "bad_request");
        world.get("/v1/jobs/00000000-0000-0000-0000-000000000000/history").await.problem(404, "not_found");
        assert_eq!(world.get(&format!("{path}?after=99")).await.json()["lines"], json!([]));
    }
}
