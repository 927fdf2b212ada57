//! `GET /v1/audit/log`: who changed what, from where, and what it came to.

use axum::Json;
use axum::extract::State;
use yard_wire::views::{AuditLineView, AuditLog};

use crate::problem::ApiError;
use crate::query::Params;
use crate::state::AppState;

/// Lines on a page unless the request says otherwise.
const PAGE: u32 = 100;

#[utoipa::path(
    get, path = "/v1/audit/log", operation_id = "list_audit_log", tag = "access", summary = "List who changed what, newest first",
    description = "Every request that changes something, also one that was refused to somebody whose token is good.",
    params(
        ("before" = Option<i64>, Query, description = "Only lines before this one: the `next` of the page before"),
        ("limit" = Option<u32>, Query, description = "At most this many; by default 100"),
    ),
    responses((status = 200, body = AuditLog))
)]
pub(crate) async fn list(
    State(state): State<AppState>,
    mut params: Params,
) -> Result<Json<AuditLog>, ApiError> {
    let before = params.one_as::<i64>("before", "a whole number: the `next` of the page before");
    let limit = params.number("limit", 1, state.config.page_max).unwrap_or(PAGE.min(state.config.page_max));
    params.finish()?;
    let mut lines = state.store.audit_log(before, limit.saturating_add(1)).await?;
    let more = lines.len() > limit as usize;
    lines.truncate(limit as usize);
    let next = if more { lines.last().map(|line| line.id) } else { None };
    Ok(Json(AuditLog { lines: lines.iter().map(AuditLineView::from).collect(), next }))
}
