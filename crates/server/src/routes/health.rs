//! `GET /healthz`: is the process alive? `GET /readyz`: can it do its work?

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use yard_wire::views::{Problem, ProblemCode, time_text};

use crate::problem::ApiError;
use crate::state::AppState;

#[utoipa::path(
    get, path = "/healthz", tag = "operation", summary = "Is the process alive?",
    responses((status = 200, description = "It is"))
)]
pub(crate) async fn healthz() -> Json<Value> {
    Json(json!({"alive": true}))
}

#[utoipa::path(
    get, path = "/readyz", tag = "operation", summary = "Can the process do its work?",
    responses(
        (status = 200, description = "The database answers and has the right schema"),
        (status = 503, description = "It doesn't, or the process is stopping", body = Problem),
    )
)]
pub(crate) async fn readyz(State(state): State<AppState>) -> Result<Json<Value>, ApiError> {
    if state.shutdown.is_cancelled() {
        return Err(ApiError::new(ProblemCode::Unavailable, "the process is stopping"));
    }
    let asked = tokio::time::timeout(state.config.request_timeout, state.store.now()).await;
    let late = |_| ApiError::new(ProblemCode::Unavailable, "the database does not answer in time");
    let now = asked.map_err(late)??;
    Ok(Json(json!({"ready": true, "database_time": time_text(now)})))
}

#[cfg(test)]
mod tests {
    use crate::testing::World;

    #[tokio::test]
    async fn a_stopping_process_is_alive_but_not_ready() {
        let world = World::new().await;
        assert_eq!(world.get("/readyz").await.json()["ready"], true);
        world.state.shutdown.cancel();
        world.get("/readyz").await.problem(503, "unavailable");
        assert_eq!(world.get("/healthz").await.json()["alive"], true);
    }
}
