//! The API's description for programs: `GET /openapi.json`.

use axum::Json;
use utoipa::OpenApi;

use crate::routes;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Switchyard",
        description = "One queue in, many Ray clusters out. Errors are RFC 9457 problems."
    ),
    paths(
        routes::submit::submit,
        routes::jobs::list,
        routes::job::get,
        routes::history::history,
        routes::logs::logs,
        routes::stop::stop,
        routes::receipt::receipt,
        routes::teams::list,
        routes::clusters::list,
        routes::clusters::drain,
        routes::clusters::resume,
        routes::audit::audit,
        routes::health::healthz,
        routes::health::readyz,
        routes::metrics::metrics,
    )
)]
struct Description;

/// The OpenAPI document.
pub fn document() -> utoipa::openapi::OpenApi {
    Description::openapi()
}

pub(crate) async fn serve() -> Json<utoipa::openapi::OpenApi> {
    Json(document())
}
