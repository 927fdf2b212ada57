//! `GET /v1/jobs/{id}`: one job, whole.

use axum::Json;
use axum::extract::State;
use yard_wire::views::{JobView, Problem};

use super::{JobPath, find_job};
use crate::access::{Caller, redact};
use crate::problem::ApiError;
use crate::query::Params;
use crate::state::AppState;

#[utoipa::path(
    get, path = "/v1/jobs/{id}", tag = "jobs", summary = "Show one job",
    params(("id" = String, Path, description = "The job's id")),
    responses((status = 200, body = JobView), (status = 404, description = "There is no such job", body = Problem))
)]
pub(crate) async fn get(
    State(state): State<AppState>,
    caller: Caller,
    JobPath(id): JobPath,
    params: Params,
) -> Result<Json<JobView>, ApiError> {
    params.finish()?;
    let job = find_job(&state, &caller, id).await?;
    let now = state.store.now().await?;
    let mut view = JobView::new(&job, now)?;
    view.waiting = redact::for_caller(&state, &caller, view.waiting).await?;
    Ok(Json(view))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use yard_domain::lifecycle::AttemptEnd;
    use yard_domain::{Failure, FailureClass};

    use crate::testing::World;

    #[tokio::test]
    async fn a_job_is_shown_from_queue_to_end() {
        let world = World::new().await;
        let id = world.job("k").await;
        let path = format!("/v1/jobs/{id}");
        let queued = world.get(&path).await.json();
        assert_eq!(
            (&queued["state"], &queued["waiting"]["code"]),
            (&json!("queued"), &json!("not_looked_at"))
        );
        assert_eq!(queued["clock"]["kind"], "queue_timeout");
        assert_eq!(queued["spec"]["entrypoint"], "python x.py");
        let attempt = world.run(id, "east").await;
        let running = world.get(&path).await.json();
        assert_eq!((&running["state"], &running["cluster"]), (&json!("running"), &json!("east")));
        assert_eq!(running["attempts"][0]["number"], 1);
        assert_eq!(running.get("waiting"), None);
        world
            .end(id, attempt, "east", AttemptEnd::Failed(Failure::new(FailureClass::User, Some(3), "boom")))
            .await;
        let failed = world.get(&path).await.json();
        assert_eq!(failed["failure"], json!({"class": "user_error", "exit_code": 3, "message": "boom"}));
        assert_eq!(failed["attempts"][0]["exit_code"], 3);
        assert!(failed["ended_at"].is_string());
    }

    #[tokio::test]
    async fn what_is_not_there_is_not_found() {
        let world = World::new().await;
        world.get("/v1/jobs/00000000-0000-0000-0000-000000000000").await.problem(404, "not_found");
        world.get("/v1/jobs/nightly").await.problem(400, "bad_request");
        world.get("/v1/jobs/00000000-0000-0000-0000-000000000000?x=1").await.problem(400, "bad_request");
    }
}
