//! A file per endpoint: handler, errors, tests.

pub(crate) mod audit;
pub(crate) mod audit_log;
pub(crate) mod bulk;
pub(crate) mod catalog;
pub(crate) mod clusters;
pub(crate) mod deliveries;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod health;
pub(crate) mod history;
pub(crate) mod job;
pub(crate) mod jobs;
pub(crate) mod logs;
pub(crate) mod metrics;
pub(crate) mod pages;
pub(crate) mod pod_logs;
pub(crate) mod ray;
pub(crate) mod receipt;
pub(crate) mod spill;
pub(crate) mod stop;
pub(crate) mod submit;
pub(crate) mod teams;
pub(crate) mod tokens;
pub(crate) mod workload;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path};
use axum::http::request::Parts;
use axum::middleware;
use axum::routing::{delete, get, post};
use yard_domain::JobId;
use yard_ports::store::JobView;
use yard_wire::views::ProblemCode;

use crate::access::Caller;
use crate::access::gate::gate;
use crate::feed::Feed;
use crate::layers;
use crate::problem::ApiError;
use crate::state::AppState;

/// Every route with everything around it.
pub fn router(state: AppState) -> Router {
    let config = state.config.clone();
    let streams = logs::Streams::new(config.log_streams_max);
    let (state, feed) = with_feed(state);
    let ray = ray::routes(&state, &streams);
    let event_streams = events::EventStreams(logs::Streams::new(config.event_streams_max));
    let waits = job::Waits(logs::Streams::new(config.waits_max));
    let api = Router::new()
        .route("/v1/jobs", get(jobs::list).post(submit::submit))
        .route(
            "/v1/jobs/batch",
            post(bulk::submit).layer(DefaultBodyLimit::max(state.limits.bulk_body_bytes_max)),
        )
        .route("/v1/jobs/{id}", get(job::get))
        .route("/v1/jobs/{id}/events", get(events::job))
        .route("/v1/events", get(events::all))
        .layer(axum::Extension(event_streams))
        .layer(axum::Extension(waits))
        .layer(axum::Extension(feed))
        .route("/v1/jobs/{id}/explain", get(explain::job))
        .route("/v1/jobs/{id}/history", get(history::history))
        .route("/v1/jobs/{id}/logs", get(logs::logs).layer(axum::Extension(streams.clone())))
        .route("/v1/jobs/{id}/stop", post(stop::stop))
        .route("/v1/receipts/{team}/{*key}", get(receipt::receipt))
        .route("/v1/teams", get(teams::list))
        .route("/v1/teams/{team}/explain", get(explain::team))
        .route("/v1/clusters", get(clusters::list))
        .route("/v1/clusters/{id}/drain", post(clusters::drain))
        .route("/v1/clusters/{id}/resume", post(clusters::resume))
        .route("/v1/catalog", get(catalog::get).put(catalog::put))
        .route("/v1/catalog/versions", get(catalog::versions))
        .route("/v1/deliveries", get(deliveries::list))
        .route("/v1/deliveries/retry", post(deliveries::retry))
        .route("/v1/workload", get(workload::workload).layer(axum::Extension(streams)))
        .route("/v1/audit", get(audit::audit))
        .route("/v1/audit/log", get(audit_log::list))
        .route("/v1/tokens", get(tokens::list).post(tokens::create))
        .route("/v1/tokens/{id}", delete(tokens::revoke))
        .with_state(state.clone());
    let outside = Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics::metrics))
        .route("/openapi.json", get(crate::openapi::serve))
        .merge(pages::routes())
        .with_state(state.clone());
    let all = layers::guard(api, &config)
        .merge(ray)
        .merge(outside)
        // Around every route that there is, also one that is added above without a rule: it is closed then.
        .layer(middleware::from_fn_with_state(state, gate))
        .fallback(async || ApiError::not_found("there is no such page; docs/http-api.md lists them"))
        .method_not_allowed_fallback(async || {
            ApiError::new(ProblemCode::MethodNotAllowed, "see the Allow header")
        });
    layers::surround(all)
}

/// The feed of events, which every commit of a handler wakes.
fn with_feed(state: AppState) -> (AppState, Feed) {
    let feed = Feed::new(&state);
    let (nudge, woken) = (state.nudge.clone(), feed.clone());
    let nudge = std::sync::Arc::new(move || {
        nudge();
        woken.wake();
    });
    (AppState { nudge, ..state }, feed)
}

/// The job that the path names.
pub(crate) struct JobPath(pub(crate) JobId);

impl<S: Send + Sync> FromRequestParts<S> for JobPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let unreadable =
            || ApiError::new(ProblemCode::BadRequest, "the path does not hold a job's id, which is a UUID");
        let read: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, state).await;
        let Path(text) = read.map_err(|_| unreadable())?;
        text.parse().map(Self).map_err(|_| unreadable())
    }
}

/// A job that this caller sees; somebody else's is not there.
pub(crate) async fn find_job(state: &AppState, caller: &Caller, id: JobId) -> Result<JobView, ApiError> {
    let job = state.store.job(id).await?;
    job.filter(|job| caller.sees(&job.lifecycle.team)).ok_or_else(|| no_such_job(id))
}

/// The error for a job that isn't there.
pub(crate) fn no_such_job(id: JobId) -> ApiError {
    ApiError::not_found(format!(
        "there is no job {id} (jobs that ended long ago are deleted; their receipts are kept)"
    ))
}
