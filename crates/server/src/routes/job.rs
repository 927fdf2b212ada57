//! `GET /v1/jobs/{id}`: one job, whole.

use std::str::FromStr;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use yard_domain::JobId;
use yard_ports::store;
use yard_wire::canonical::hash_bytes;
use yard_wire::views::{JobView, Problem};

use super::events::concerns;
use super::logs::Streams;
use super::{JobPath, find_job};
use crate::access::{Caller, redact};
use crate::feed::Feed;
use crate::problem::ApiError;
use crate::query::Params;
use crate::state::AppState;

/// Longest wait that may be asked for, in seconds.
const WAIT_MAX_S: u64 = 300;
/// How much of a request's longest time a wait may take: the rest is for the answer.
const SHARE_OF_TIMEOUT: f64 = 0.9;

#[utoipa::path(
    get, path = "/v1/jobs/{id}", operation_id = "get_job", tag = "jobs", summary = "Show one job",
    description = "With `wait` it is answered when the job has another version than that of If-None-Match (without it: than it has \
        now), or has ended; or when the time is over, or a little before the server's own limit on requests.",
    params(
        ("id" = String, Path, description = "The job's id"),
        ("wait" = Option<String>, Query, description = "Wait for a change: so many seconds, 0 to 300, such as 30s"),
        ("If-None-Match" = Option<String>, Header, description = "The ETag of what is known: 304 if it is still that"),
    ),
    responses(
        (status = 200, description = "The job", body = JobView, headers(("ETag" = String, description = "Its version"))),
        (status = 304, description = "It is as If-None-Match says"),
        (status = 400, description = "The id or a parameter is wrong", body = Problem),
        (status = 404, description = "There is no such job", body = Problem),
        (status = 503, description = "Too many requests wait at once, or the database can't be used now", body = Problem),
    )
)]
pub(crate) async fn get(
    State(state): State<AppState>,
    caller: Caller,
    Extension(feed): Extension<Feed>,
    Extension(waits): Extension<Waits>,
    JobPath(id): JobPath,
    mut params: Params,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let wait = params.one::<Wait>("wait").map_or(Duration::ZERO, |w| w.0);
    params.finish()?;
    let known = headers.get(header::IF_NONE_MATCH).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let job = if wait.is_zero() {
        find_job(&state, &caller, id).await?
    } else {
        let _slot = waits.0.take()?;
        changed(&state, &caller, &feed, id, version_of(known), wait).await?
    };
    let mut view = JobView::new(&job)?;
    // Before the tag is made of it: what a caller is not shown changes nothing for them.
    view.waiting = redact::for_caller(&state, &caller, view.waiting).await?;
    let tag = tag(job.lifecycle.version, &view);
    let headers = [(header::ETAG, tag.clone()), (header::CACHE_CONTROL, "no-cache".to_owned())];
    if known.split(',').any(|one| matches!(one.trim(), "*") || one.trim() == tag) {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    Ok((headers, Json(view)).into_response())
}

/// Requests that may wait at once.
#[derive(Clone)]
pub(crate) struct Waits(pub(crate) Streams);

/// The job when it has another version, or has ended, or the time is over.
async fn changed(
    state: &AppState,
    caller: &Caller,
    feed: &Feed,
    id: JobId,
    known: Option<u32>,
    wait: Duration,
) -> Result<store::JobView, ApiError> {
    let most = state.config.request_timeout.mul_f64(SHARE_OF_TIMEOUT);
    let until = Instant::now() + wait.min(most);
    // From here on, so that nothing falls between a look and the wait after it.
    let mut pages = feed.listen();
    let mut job = find_job(state, caller, id).await?;
    let known = known.unwrap_or(job.lifecycle.version);
    while job.lifecycle.version == known && !job.lifecycle.state.name().is_end() {
        let news = tokio::select! {
            () = state.shutdown.cancelled() => break,
            news = tokio::time::timeout_at(until, pages.recv()) => news,
        };
        match news {
            Ok(Ok(page)) if !concerns(&page, id) => continue,
            Ok(Ok(_) | Err(RecvError::Lagged(_))) => {}
            Ok(Err(RecvError::Closed)) | Err(_) => break,
        }
        job = find_job(state, caller, id).await?;
    }
    Ok(job)
}

/// The job's version, which grows with every line of history, and a mark of why it waits, which changes without one.
fn tag(version: u32, view: &JobView) -> String {
    let Some(waiting) = &view.waiting else { return format!("\"{version}\"") };
    let text = serde_json::to_vec(waiting).unwrap_or_default();
    let mark = hash_bytes(&text).iter().take(4).fold(0_u32, |mark, byte| mark << 8 | u32::from(*byte));
    format!("\"{version}-{mark:08x}\"")
}

/// The version in the ETag of a job.
fn version_of(tag: &str) -> Option<u32> {
    tag.trim().strip_prefix('"')?.split(['-', '"']).next()?.parse().ok()
}

/// How long to wait.
struct Wait(Duration);

impl FromStr for Wait {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_suffix('s').unwrap_or(text);
        let digits = Some(digits).filter(|d| d.len() <= 3 && d.bytes().all(|b| b.is_ascii_digit()));
        let seconds = digits.and_then(|d| d.parse::<u64>().ok()).filter(|s| *s <= WAIT_MAX_S);
        seconds
            .map(|s| Self(Duration::from_secs(s)))
            .ok_or("must be a whole number of seconds, 0 to 300, such as 30s")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body;
    use axum::http::Request;
    use serde_json::{Value, json};
    use tower::ServiceExt;
    use yard_domain::lifecycle::AttemptEnd;
    use yard_domain::{Failure, FailureClass};

    use crate::testing::{World, as_operator};
    use crate::{ServerConfig, router};

    #[tokio::test]
    async fn a_job_is_shown_from_queue_to_end() {
        let world = World::new().await;
        let id = world.job("k").await;
        let path = format!("/v1/jobs/{id}");
        let queued = world.get(&path).await.json();
        assert_eq!(
            (&queued["state"], &queued["waiting"]["code"]),
            (&json!("queued"), &json!("not_looked_at"))
        );
        assert_eq!(queued["clock"]["kind"], "queue_timeout");
        assert_eq!(queued["spec"]["entrypoint"], "python x.py");
        let attempt = world.run(id, "east").await;
        let running = world.get(&path).await.json();
        assert_eq!((&running["state"], &running["cluster"]), (&json!("running"), &json!("east")));
        assert_eq!(running["attempts"][0]["number"], 1);
        assert_eq!(running.get("waiting"), None);
        world
            .end(id, attempt, "east", AttemptEnd::Failed(Failure::new(FailureClass::User, Some(3), "boom")))
            .await;
        let failed = world.get(&path).await.json();
        assert_eq!(failed["failure"], json!({"class": "user_error", "exit_code": 3, "message": "boom"}));
        assert_eq!(failed["attempts"][0]["exit_code"], 3);
        assert!(failed["ended_at"].is_string());
    }

    async fn ask(app: &axum::Router, path: &str, known: Option<&str>) -> (u16, Option<String>, Value) {
        let mut request = Request::get(path);
        if let Some(known) = known {
            request = request.header("if-none-match", known);
        }
        let response = app.clone().oneshot(as_operator(request.body(Body::empty()).unwrap())).await.unwrap();
        let tag = response.headers().get("etag").map(|v| v.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, tag, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    #[tokio::test]
    async fn a_version_that_is_known_is_not_sent_again() {
        let world = World::new().await;
        let app = router(world.state.clone());
        let id = world.job("k").await;
        let path = format!("/v1/jobs/{id}");
        let (_, tag, _) = ask(&app, &path, None).await;
        let tag = tag.unwrap();
        assert!(tag.starts_with("\"1-"), "{tag}");
        let (status, again, body) = ask(&app, &path, Some(&format!("\"x\", {tag}"))).await;
        assert_eq!((status, again.as_ref(), body), (304, Some(&tag), Value::Null));
        assert_eq!(ask(&app, &path, Some("*")).await.0, 304);
        world.run(id, "east").await;
        let (status, tag, _) = ask(&app, &path, Some(&tag)).await;
        assert_eq!((status, tag.as_deref()), (200, Some("\"5\"")));
    }

    #[tokio::test]
    async fn a_wait_ends_with_a_change_an_end_or_its_time() {
        let config = ServerConfig { waits_max: 1, ..ServerConfig::default() };
        let world = World::with(config).await;
        let app = router(world.state.clone());
        let id = world.job("k").await;
        let path = format!("/v1/jobs/{id}?wait=20s");
        let (_, tag, _) = ask(&app, &format!("/v1/jobs/{id}"), None).await;
        let began = std::time::Instant::now();
        let waiting = tokio::spawn({
            let (app, path) = (app.clone(), path.clone());
            async move { ask(&app, &path, tag.as_deref()).await }
        });
        // The one place is taken, as another finds out.
        while ask(&app, &path.replace("20s", "0"), None).await.0 != 200
            || ask(&app, &path.replace("20s", "1"), Some("\"0\"")).await.0 != 503
        {
            tokio::task::yield_now().await;
        }
        let attempt = world.run(id, "east").await;
        let (status, tag, job) = waiting.await.unwrap();
        assert!(status == 200 && job["state"] != "queued", "{job}");
        assert!(began.elapsed() < Duration::from_secs(10));
        assert_ne!(tag.as_deref(), Some("\"1\""));
        let old = ask(&app, &path, Some("\"1\"")).await;
        assert_eq!((old.0, old.1.as_deref()), (200, Some("\"5\"")), "it has changed already");
        let same = ask(&app, &path.replace("20s", "1s"), Some("\"5\"")).await;
        assert_eq!(same.0, 304, "the time is over");
        world.end(id, attempt, "east", AttemptEnd::Succeeded).await;
        assert_eq!(ask(&app, &path, Some("\"6\"")).await.0, 304, "it has ended: nothing more will come");
        assert_eq!(ask(&app, &path, None).await.2["state"], "succeeded");
        for bad in ["301", "1m", "-1", "1.5"] {
            world.get(&format!("/v1/jobs/{id}?wait={bad}")).await.problem(400, "bad_request");
        }
        assert!(began.elapsed() < Duration::from_secs(15));
    }

    #[tokio::test]
    async fn what_is_not_there_is_not_found() {
        let world = World::new().await;
        world.get("/v1/jobs/00000000-0000-0000-0000-000000000000").await.problem(404, "not_found");
        world.get("/v1/jobs/nightly").await.problem(400, "bad_request");
        world.get("/v1/jobs/00000000-0000-0000-0000-000000000000?x=1").await.problem(400, "bad_request");
    }
}
