//! `GET /v1/clusters`, `POST /v1/clusters/{id}/drain` and `…/resume`.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use yard_domain::{ClusterId, ClusterSwitch};
use yard_wire::views::{ClusterList, Problem, SwitchAnswer};

use crate::access::Caller;
use crate::problem::ApiError;
use crate::query::Params;
use crate::state::AppState;

#[utoipa::path(
    get, path = "/v1/clusters", operation_id = "list_clusters", tag = "installation", summary = "Show clusters, what they have and what is in use",
    responses((status = 200, body = ClusterList))
)]
pub(crate) async fn list(
    State(state): State<AppState>,
    params: Params,
) -> Result<Json<ClusterList>, ApiError> {
    params.finish()?;
    let clusters = state.store.clusters().await?;
    let accounts = state.store.accounts().await?;
    Ok(Json(ClusterList::new(&clusters, &accounts)))
}

#[utoipa::path(
    post, path = "/v1/clusters/{id}/drain", operation_id = "drain_cluster", tag = "installation", summary = "Give a cluster no new jobs",
    description = "Those it has run to their end.",
    params(("id" = String, Path, description = "The cluster")),
    responses((status = 200, body = SwitchAnswer), (status = 404, description = "There is no such cluster", body = Problem))
)]
pub(crate) async fn drain(
    State(state): State<AppState>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<SwitchAnswer>, ApiError> {
    switch(&state, &caller, path, ClusterSwitch::Drained).await
}

#[utoipa::path(
    post, path = "/v1/clusters/{id}/resume", operation_id = "resume_cluster", tag = "installation", summary = "Give a drained cluster new jobs again",
    params(("id" = String, Path, description = "The cluster")),
    responses((status = 200, body = SwitchAnswer), (status = 404, description = "There is no such cluster", body = Problem))
)]
pub(crate) async fn resume(
    State(state): State<AppState>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<SwitchAnswer>, ApiError> {
    switch(&state, &caller, path, ClusterSwitch::Open).await
}

async fn switch(
    state: &AppState,
    caller: &Caller,
    path: Result<Path<String>, PathRejection>,
    to: ClusterSwitch,
) -> Result<Json<SwitchAnswer>, ApiError> {
    let name = path.map(|Path(text)| text).unwrap_or_default();
    let unknown = || {
        let shown: String = name.chars().take(64).collect();
        ApiError::not_found(format!("there is no cluster {shown:?}; GET /v1/clusters lists them"))
    };
    let id: ClusterId = name.parse().map_err(|_| unknown())?;
    caller.about(format!("cluster {id}"));
    if !state.store.switch_cluster(&id, to, &caller.actor()).await? {
        return Err(unknown());
    }
    if to == ClusterSwitch::Open {
        (state.nudge)();
    }
    Ok(Json(SwitchAnswer { id: id.to_string(), switch: to.code().to_owned() }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::World;

    #[tokio::test]
    async fn clusters_are_drained_and_resumed() {
        let world = World::new().await;
        let id = world.job("a").await;
        world.run(id, "east").await;
        let east = async || world.get("/v1/clusters").await.json()["clusters"][0].clone();
        let shown = east().await;
        assert_eq!((&shown["health"], &shown["takes_jobs"]), (&json!("ready"), &json!(true)));
        assert_eq!((&shown["used"]["cpu"], &shown["free"]["cpu"]), (&json!(1.0), &json!(15.0)));
        let nudged = world.nudged();
        let drained = world.post("/v1/clusters/east/drain", &json!({})).await;
        assert_eq!(drained.json(), json!({"id": "east", "switch": "drained"}));
        assert_eq!(
            (&east().await["switch"], &east().await["takes_jobs"]),
            (&json!("drained"), &json!(false))
        );
        assert_eq!(world.nudged(), nudged);
        world.post("/v1/clusters/east/resume", &json!({})).await;
        assert_eq!(east().await["switch"], "open");
        assert_eq!(world.nudged(), nudged + 1);
        let unknown = world.post("/v1/clusters/nowhere/drain", &json!({})).await.problem(404, "not_found");
        assert_eq!(unknown["detail"], r#"there is no cluster "nowhere"; GET /v1/clusters lists them"#);
        world.post("/v1/clusters/NO%20NAME/resume", &json!({})).await.problem(404, "not_found");
    }
}
