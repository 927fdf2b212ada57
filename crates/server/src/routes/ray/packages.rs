//! `GET|PUT /api/packages/{protocol}/{name}`: whether a package is here; one that is uploaded.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use yard_packages::{PackageUri, PutError};

use super::RayError;
use crate::state::AppState;

type Name = Path<(String, String)>;

fn uri(Path((protocol, name)): &Name) -> Result<PackageUri, RayError> {
    PackageUri::new(protocol, name).map_err(|e| RayError::new(StatusCode::BAD_REQUEST, e.to_string()))
}

pub(super) async fn exists(State(state): State<AppState>, name: Name) -> Result<(), RayError> {
    let uri = uri(&name)?;
    if state.ray.packages.touch(uri.as_str()).await? {
        return Ok(());
    }
    Err(RayError::new(StatusCode::NOT_FOUND, format!("Package {uri} does not exist")))
}

pub(super) async fn put(
    State(state): State<AppState>,
    name: Name,
    headers: HeaderMap,
    body: Body,
) -> Result<(), RayError> {
    let uri = uri(&name)?;
    let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    state.ray.packages.check_length(length).map_err(refused)?;
    state.ray.packages.put(&uri, body.into_data_stream()).await.map_err(refused)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn refused(error: PutError) -> RayError {
    let status = match &error {
        PutError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        PutError::Broken(_) => StatusCode::BAD_REQUEST,
        PutError::Objects(_) | PutError::Store(_) => {
            tracing::warn!(%error, "a package could not be kept");
            // Where objects are kept is nobody's business.
            let text = "the package can't be kept now: nothing of it is, send it again in a moment";
            return RayError { retry_after: Some(1), ..RayError::new(StatusCode::SERVICE_UNAVAILABLE, text) };
        }
    };
    RayError::new(status, error.to_string())
}
