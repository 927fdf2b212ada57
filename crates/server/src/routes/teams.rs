//! `GET /v1/teams`: teams, their quotas and what they use.

use axum::Json;
use axum::extract::State;
use yard_domain::TeamId;
use yard_wire::views::TeamList;

use crate::access::Caller;
use crate::problem::ApiError;
use crate::query::Params;
use crate::state::AppState;

#[utoipa::path(
    get, path = "/v1/teams", operation_id = "list_teams", tag = "installation", summary = "Show teams, their quotas and what they use",
    responses((status = 200, body = TeamList))
)]
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    params: Params,
) -> Result<Json<TeamList>, ApiError> {
    params.finish()?;
    let catalog = state.store.catalog().await?;
    let accounts = state.store.accounts().await?;
    let stats = state.store.stats().await?;
    let mut list = TeamList::new(&catalog, &accounts, &stats);
    list.teams.retain(|team| team.id.parse().is_ok_and(|id: TeamId| caller.sees(&id)));
    Ok(Json(list))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::World;

    #[tokio::test]
    async fn teams_show_quota_and_use() {
        let world = World::new().await;
        let id = world.job("a").await;
        world.job("b").await;
        world.run(id, "east").await;
        let teams = world.get("/v1/teams").await.json()["teams"].clone();
        assert_eq!(teams[0]["quota"], json!({"cpu": 4.0}));
        assert_eq!((&teams[1]["id"], &teams[1]["used"]["cpu"]), (&json!("search"), &json!(1.0)));
        assert_eq!(teams[1]["open"], json!({"queued": 1, "running": 1}));
    }
}
