//! `GET /v1/workload`: what really arrived, for simulating it under another policy.

use std::io;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{StreamExt, stream};
use tracing::warn;
use uuid::Uuid;
use yard_domain::{JobId, Timestamp};
use yard_ports::StoreError;
use yard_ports::store::{PastArrival, TimeCursor};
use yard_wire::views::{Problem, WorkloadLine};

use super::logs::Streams;
use crate::problem::ApiError;
use crate::query::{Moment, Params};
use crate::state::AppState;

#[utoipa::path(
    get, path = "/v1/workload", operation_id = "list_workload", tag = "installation", summary = "List what arrived, for a simulation",
    description = "JSON Lines in the order of acceptance, streamed: a job per line, with how long it waited and ran. Jobs that \
        were deleted since are not in it. A stream that was cut does not end, it breaks.",
    params(
        ("from" = String, Query, description = "Accepted at this time or later (RFC 3339, UTC)"),
        ("to" = String, Query, description = "Accepted before this time"),
    ),
    responses(
        (status = 200, description = "The jobs", body = Vec<WorkloadLine>, content_type = "application/jsonl"),
        (status = 503, description = "Too many streams at once", body = Problem),
    )
)]
pub(crate) async fn workload(
    State(state): State<AppState>,
    Extension(streams): Extension<Streams>,
    mut params: Params,
) -> Result<Response, ApiError> {
    let from = params.one::<Moment>("from");
    let to = params.one::<Moment>("to");
    params.required("from", from.is_some(), "the time to begin at, such as 2026-11-22T00:00:00Z");
    params.required("to", to.is_some(), "the time to end before, such as 2026-11-23T00:00:00Z");
    params.finish()?;
    let slot = streams.take()?;
    let (Some(Moment(from)), Some(Moment(until))) = (from, to) else {
        return Err(ApiError::not_found("no time was given"));
    };
    // No job yet: the store begins at the time.
    let pages = Pages { state, after: TimeCursor { at: from, job: JobId(Uuid::nil()) }, until };
    // The first page is read here, so that a store that can't be used is an answer and not a broken stream.
    let first = pages.read().await?;
    let body = stream::unfold(Some((pages, Some(first))), next).inspect(move |_| _ = &slot);
    Ok(([(header::CONTENT_TYPE, "application/jsonl")], Body::from_stream(body)).into_response())
}

struct Pages {
    state: AppState,
    after: TimeCursor,
    until: Timestamp,
}

impl Pages {
    async fn read(&self) -> Result<Vec<PastArrival>, StoreError> {
        self.state.store.arrivals(self.after, self.until, self.state.config.page_max).await
    }
}

type Open = Option<(Pages, Option<Vec<PastArrival>>)>;

/// A page as lines, and what comes after it. Breaks off when the store fails or the server is to stop, so that a reader
/// can tell.
async fn next(open: Open) -> Option<(io::Result<Bytes>, Open)> {
    let (mut pages, read) = open?;
    let page = match read {
        Some(page) => Ok(page),
        None if pages.state.shutdown.is_cancelled() => {
            return Some((Err(io::Error::other("the server is stopping")), None));
        }
        None => pages.read().await,
    };
    let page = match page {
        Ok(page) => page,
        Err(error) => {
            warn!(%error, "a workload broke off");
            return Some((Err(io::Error::other("the store can't be read now")), None));
        }
    };
    let last = page.last()?;
    pages.after = TimeCursor { at: last.at, job: last.job };
    let mut lines = Vec::with_capacity(page.len() * 256);
    for past in &page {
        if let Err(error) = serde_json::to_writer(&mut lines, &WorkloadLine::from(past)) {
            return Some((Err(io::Error::other(error)), None));
        }
        lines.push(b'\n');
    }
    Some((Ok(lines.into()), Some((pages, None))))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use yard_domain::lifecycle::AttemptEnd;

    use crate::ServerConfig;
    use crate::testing::World;

    #[tokio::test]
    async fn what_arrived_comes_in_order_page_by_page() {
        let world = World::with(ServerConfig { page_max: 2, ..ServerConfig::default() }).await;
        let mut jobs = Vec::new();
        for key in ["a", "b", "c", "d", "e"] {
            jobs.push(world.job(key).await);
        }
        let attempt = world.run(jobs[0], "east").await;
        world.end(jobs[0], attempt, "east", AttemptEnd::Succeeded).await;
        let answer = world.get("/v1/workload?from=1970-01-01T00:00:00Z&to=2120-01-01T00:00:00Z").await;
        assert_eq!(answer.headers["content-type"], "application/jsonl");
        let text = String::from_utf8(answer.bytes.to_vec()).unwrap();
        let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let ids: Vec<_> = lines.iter().map(|l| l["job"].as_str().unwrap().to_owned()).collect();
        assert_eq!(ids, jobs.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!((&lines[1]["team"], lines[1].get("run_s")), (&json!("search"), None));
        assert!(lines[0]["run_s"].is_number() && lines[0]["waited_s"].is_number(), "{}", lines[0]);
        let none = world.get("/v1/workload?from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z").await;
        assert_eq!((none.status.as_u16(), none.bytes.len()), (200, 0));
    }

    #[tokio::test]
    async fn both_ends_are_needed_and_must_be_times() {
        let world = World::new().await;
        let problem = world.get("/v1/workload?from=yesterday").await.problem(400, "bad_request");
        let fields: Vec<_> =
            problem["errors"].as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
        assert_eq!(fields, ["from", "to"]);
    }
}
