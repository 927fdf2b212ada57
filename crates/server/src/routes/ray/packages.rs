//! `GET|PUT /api/packages/{protocol}/{name}`: whether a package is here; one that is uploaded.
//! `GET /api/packages/link/{grant}/{name}`: a package, for a cluster that was given the link.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use yard_packages::{DownloadError, PackageUri, PutError};
use yard_ports::packages::PackageError;

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

/// The link is all that it takes: it names one package, and ends.
pub(super) async fn download(
    State(state): State<AppState>,
    Path((grant, name)): Path<(String, String)>,
) -> Result<Response, RayError> {
    let content = state.ray.packages.download(&grant, &name).await.map_err(not_given)?;
    // A reader that is too slow is cut off; it sees by the length that something is missing.
    let end = tokio::time::sleep(state.ray.config.upload_timeout);
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, content.bytes.to_string()),
        (header::CACHE_CONTROL, "private, no-store".to_owned()),
    ];
    Ok((headers, Body::from_stream(content.stream.take_until(Box::pin(end)))).into_response())
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn not_given(error: DownloadError) -> RayError {
    let status = match &error {
        DownloadError::Link(_) => StatusCode::FORBIDDEN,
        DownloadError::NoLinks
        | DownloadError::Package(PackageError::Missing(_) | PackageError::NoLink { .. }) => {
            StatusCode::NOT_FOUND
        }
        DownloadError::Package(PackageError::Unavailable { uri, .. }) => {
            tracing::warn!(%error, "a package could not be read");
            let text = format!("package {uri} can't be read now: ask again in a moment");
            return RayError { retry_after: Some(1), ..RayError::new(StatusCode::SERVICE_UNAVAILABLE, text) };
        }
    };
    RayError::new(status, error.to_string())
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
