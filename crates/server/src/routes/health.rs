//! `GET /healthz`: is the process alive? `GET /readyz`: can it do its work?

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use yard_wire::views::{Problem, ProblemCode, time_text};

use crate::problem::ApiError;
use crate::state::AppState;

/// The process is alive.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Alive {
    /// Always true.
    pub(crate) alive: bool,
}

/// The process can do its work.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Ready {
    /// Always true.
    pub(crate) ready: bool,
    /// The database's time.
    pub(crate) database_time: String,
}

#[utoipa::path(
    get, path = "/healthz", operation_id = "healthz", tag = "operation", summary = "Is the process alive?",
    responses((status = 200, description = "It is", body = Alive))
)]
pub(crate) async fn healthz() -> Json<Alive> {
    Json(Alive { alive: true })
}

#[utoipa::path(
    get, path = "/readyz", operation_id = "readyz", tag = "operation", summary = "Can the process do its work?",
    responses(
        (status = 200, description = "The database answers and has the right schema", body = Ready),
        (status = 503, description = "It doesn't, or the process is stopping", body = Problem),
    )
)]
pub(crate) async fn readyz(State(state): State<AppState>) -> Result<Json<Ready>, ApiError> {
    if state.shutdown.is_cancelled() {
        return Err(ApiError::new(ProblemCode::Unavailable, "the process is stopping"));
    }
    let asked = tokio::time::timeout(state.config.request_timeout, state.store.now()).await;
    let late = |_| ApiError::new(ProblemCode::Unavailable, "the database does not answer in time");
    let now = asked.map_err(late)??;
    Ok(Json(Ready { ready: true, database_time: time_text(now) }))
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
