//! `GET /v1/jobs/{id}/logs`: the output of an attempt, read from its cluster.

use std::io;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use yard_domain::{JobId, RemoteName};
use yard_ports::store::{AttemptView, JobView};
use yard_ports::{Driver, LogStream};
use yard_wire::views::{Problem, ProblemCode};

use super::{JobPath, no_such_job};
use crate::problem::ApiError;
use crate::query::Params;
use crate::state::AppState;

/// How many streams (logs, workloads) may be open at once.
#[derive(Clone)]
pub(crate) struct Streams(Arc<Semaphore>);

impl Streams {
    pub(crate) fn new(max: usize) -> Self {
        Self(Arc::new(Semaphore::new(max.clamp(1, Semaphore::MAX_PERMITS))))
    }

    /// A place for one more, as long as it is kept.
    pub(crate) fn take(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let busy = |_| ApiError::new(ProblemCode::Busy, "too many streams are open: try again in a moment");
        self.0.clone().try_acquire_owned().map_err(busy)
    }
}

#[utoipa::path(
    get, path = "/v1/jobs/{id}/logs", tag = "jobs", summary = "Read a job's output",
    description = "Plain text. The headers x-yard-attempt and x-yard-cluster say whose it is. With follow, the stream \
        goes on until the attempt has ended; a stream that was cut (it does not end, it breaks) is taken up with offset.",
    params(
        ("id" = String, Path, description = "The job's id"),
        ("attempt" = Option<u32>, Query, description = "Of this attempt; by default the last"),
        ("follow" = Option<bool>, Query, description = "Go on until the attempt has ended"),
        ("offset" = Option<u64>, Query, description = "From this byte on; by default from the beginning"),
    ),
    responses(
        (status = 200, description = "The output", body = String, content_type = "text/plain"),
        (status = 404, description = "There is no such job or attempt, or no log of it", body = Problem),
        (status = 409, description = "The job has not been launched yet", body = Problem),
        (status = 502, description = "The cluster could not be asked", body = Problem),
    )
)]
pub(crate) async fn logs(
    State(state): State<AppState>,
    Extension(streams): Extension<Streams>,
    JobPath(id): JobPath,
    mut params: Params,
) -> Result<Response, ApiError> {
    let follow = params.switch("follow");
    let wanted = params.one_as::<u32>("attempt", "a whole number, 1 for the first");
    let offset = params.one_as::<u64>("offset", "a whole number of bytes").unwrap_or(0);
    params.finish()?;
    let slot = streams.take()?;
    let job = state.store.job(id).await?.ok_or_else(|| no_such_job(id))?;
    let attempt = choose(&job, wanted)?;
    let driver = driver(&state, id, attempt)?;
    let log = driver.logs(&RemoteName::new(id, attempt.number), offset, follow).await;
    let log = log.map_err(|e| ApiError::from(e).about(id))?;
    let body = Body::from_stream(bounded(log, state.shutdown.clone(), id).inspect(move |_| _ = &slot));
    let headers = [
        (header::CONTENT_TYPE.as_str(), HeaderValue::from_static("text/plain; charset=utf-8")),
        (header::X_CONTENT_TYPE_OPTIONS.as_str(), HeaderValue::from_static("nosniff")),
        ("x-yard-attempt", HeaderValue::from(attempt.number.0)),
        (
            "x-yard-cluster",
            HeaderValue::from_str(attempt.cluster.as_str()).unwrap_or(HeaderValue::from_static("-")),
        ),
    ];
    Ok((headers, body).into_response())
}

fn choose(job: &JobView, wanted: Option<u32>) -> Result<&AttemptView, ApiError> {
    let id = job.lifecycle.id;
    let Some(last) = job.attempts.last() else {
        let state = job.lifecycle.state.name().code();
        let detail = format!("it is {state} and has not been given to a cluster yet, so it has no log");
        return Err(ApiError::new(ProblemCode::NoAttempt, detail).about(id));
    };
    let Some(wanted) = wanted else { return Ok(last) };
    job.attempts.iter().find(|a| a.number.0 == wanted).ok_or_else(|| {
        ApiError::not_found(format!("there is no attempt {wanted}; the last is {}", last.number)).about(id)
    })
}

/// The driver of the cluster that an attempt ran on.
pub(super) fn driver(
    state: &AppState,
    id: JobId,
    attempt: &AttemptView,
) -> Result<Arc<dyn Driver>, ApiError> {
    let cluster = &attempt.cluster;
    (state.driver)(cluster).ok_or_else(|| {
        let detail = format!(
            "attempt {} ran on {cluster}, which this server can't talk to: it is not in the catalog any more, or its secret is not here",
            attempt.number
        );
        ApiError::new(ProblemCode::ClusterUnreachable, detail).about(id)
    })
}

/// The log as a body: breaks off, and does not end, when the cluster fails or the server is to stop, so that a
/// reader can tell.
fn bounded(
    log: LogStream,
    shutdown: CancellationToken,
    id: JobId,
) -> impl stream::Stream<Item = io::Result<bytes::Bytes>> + Send + 'static {
    let cut = Box::pin(shutdown.cancelled_owned());
    let log = log.map(move |chunk| {
        chunk.map_err(|error| {
            warn!(job = %id, %error, "a log broke off");
            io::Error::other("the cluster's log broke off")
        })
    });
    stream::unfold(Some((log, cut)), |open| async move {
        let (mut log, mut cut) = open?;
        tokio::select! {
            biased;
            () = &mut cut => Some((Err(io::Error::other("the server is stopping")), None)),
            chunk = log.next() => match chunk? {
                Ok(bytes) => Some((Ok(bytes), Some((log, cut)))),
                Err(error) => Some((Err(error), None)),
            },
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body;
    use axum::http::Request;
    use futures::StreamExt;
    use serde_json::json;
    use tower::ServiceExt;
    use yard_domain::{AttemptNumber, RemoteName};
    use yard_ports::DriverError;

    use crate::testing::{Log, World};
    use crate::{ServerConfig, router};

    #[tokio::test]
    async fn the_log_of_the_attempt_is_read_from_its_cluster() {
        let world = World::new().await;
        let id = world.job("k").await;
        let path = format!("/v1/jobs/{id}/logs");
        let problem = world.get(&path).await.problem(409, "no_attempt");
        assert_eq!(problem["job"], json!(id.to_string()));
        world.run(id, "east").await;
        world.get(&path).await.problem(404, "no_log");
        let name = RemoteName::new(id, AttemptNumber(1)).to_string();
        let script = |log| world.driver.logs.lock().unwrap().insert(name.clone(), log);
        script(Log::Text("hello\nworld\n"));
        let log = world.get(&path).await;
        assert_eq!((log.status.as_u16(), &log.bytes[..]), (200, &b"hello\nworld\n"[..]));
        assert_eq!(
            (&log.headers["x-yard-attempt"], &log.headers["x-yard-cluster"]),
            (&"1".parse().unwrap(), &"east".parse().unwrap())
        );
        assert_eq!(&world.get(&format!("{path}?offset=6&attempt=1")).await.bytes[..], b"world\n");
        world.get(&format!("{path}?attempt=2")).await.problem(404, "not_found");
        world.get(&format!("{path}?offset=x&follow=perhaps")).await.problem(400, "bad_request");
        for error in [
            DriverError::Unreachable("10.0.0.7:8265 refused".to_owned()),
            DriverError::Unauthorized("token abc".to_owned()),
        ] {
            script(Log::Fails(error));
            let text = world.get(&path).await.problem(502, "cluster_unreachable").to_string();
            assert!(!text.contains("10.0.0.7") && !text.contains("abc"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_cluster_without_a_driver_here_is_named() {
        let world = World::new().await;
        let id = world.job("k").await;
        world.run(id, "west").await;
        let problem = world.get(&format!("/v1/jobs/{id}/logs")).await.problem(502, "cluster_unreachable");
        assert!(problem["detail"].as_str().unwrap().contains("west"), "{problem}");
    }

    #[tokio::test]
    async fn a_log_that_breaks_off_does_not_look_finished() {
        let world = World::new().await;
        let id = world.job("k").await;
        world.run(id, "east").await;
        let name = RemoteName::new(id, AttemptNumber(1)).to_string();
        world.driver.logs.lock().unwrap().insert(name, Log::Broken("half"));
        let request = Request::get(format!("/v1/jobs/{id}/logs")).body(Body::empty()).unwrap();
        let mut body =
            router(world.state.clone()).oneshot(request).await.unwrap().into_body().into_data_stream();
        assert_eq!(&body.next().await.unwrap().unwrap()[..], b"half");
        assert!(body.next().await.unwrap().is_err());
    }

    #[tokio::test]
    async fn a_followed_log_is_bounded_by_slots_and_by_the_end_of_the_server() {
        let world = World::with(ServerConfig { log_streams_max: 1, ..ServerConfig::default() }).await;
        let id = world.job("k").await;
        world.run(id, "east").await;
        let name = RemoteName::new(id, AttemptNumber(1)).to_string();
        world.driver.logs.lock().unwrap().insert(name, Log::Text("so far"));
        let app = router(world.state.clone());
        let follow = || Request::get(format!("/v1/jobs/{id}/logs?follow=true")).body(Body::empty()).unwrap();
        let mut body = app.clone().oneshot(follow()).await.unwrap().into_body().into_data_stream();
        assert_eq!(&body.next().await.unwrap().unwrap()[..], b"so far");
        assert_eq!(app.clone().oneshot(follow()).await.unwrap().status(), 503);
        let waiting = tokio::time::timeout(Duration::from_millis(50), body.next()).await;
        assert!(waiting.is_err(), "a followed log goes on");
        world.state.shutdown.cancel();
        assert!(body.next().await.unwrap().is_err());
        assert!(body.next().await.is_none());
        drop(body);
        assert_eq!(app.oneshot(follow()).await.unwrap().status(), 200);
    }
}
