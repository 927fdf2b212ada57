//! `GET /v1/audit`: is every account the sum of its open attempts?

use axum::Json;
use axum::extract::State;
use yard_wire::views::AuditView;

use crate::problem::ApiError;
use crate::query::Params;
use crate::state::AppState;

#[utoipa::path(
    get, path = "/v1/audit", operation_id = "audit_accounts", tag = "installation", summary = "Recompute what is in use and compare",
    description = "Reads every open attempt: not for every second.",
    responses((status = 200, body = AuditView))
)]
pub(crate) async fn audit(
    State(state): State<AppState>,
    params: Params,
) -> Result<Json<AuditView>, ApiError> {
    params.finish()?;
    Ok(Json(AuditView::from(&state.store.audit().await?[..])))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::World;

    #[tokio::test]
    async fn a_running_job_is_charged_exactly() {
        let world = World::new().await;
        let id = world.job("a").await;
        world.run(id, "east").await;
        assert_eq!(world.get("/v1/audit").await.json(), json!({"exact": true, "drift": []}));
    }
}
