//! Streams of events over HTTP.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use futures::StreamExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use yard_domain::lifecycle::AttemptEnd;

use crate::testing::{World, as_operator};
use crate::{ServerConfig, router};

/// An open stream, read event by event.
struct Open {
    body: axum::body::BodyDataStream,
    rest: String,
}

impl Open {
    async fn new(app: &axum::Router, path: &str, last: Option<u64>) -> Self {
        let mut request = Request::get(path);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = app.clone().oneshot(as_operator(request.body(Body::empty()).unwrap())).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["content-type"], "text/event-stream; charset=utf-8");
        Self { body: response.into_body().into_data_stream(), rest: String::new() }
    }

    /// The next event's id and data; `None` at the end.
    async fn next(&mut self) -> Option<(u64, Value)> {
        loop {
            while let Some((block, rest)) = self.rest.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.rest = rest;
                let field = |name: &str| block.lines().find_map(|l| l.strip_prefix(name).map(str::to_owned));
                if let Some(data) = field("data: ") {
                    let id = field("id: ").unwrap().parse().unwrap();
                    return Some((id, serde_json::from_str(&data).unwrap()));
                }
            }
            let chunk = tokio::time::timeout(Duration::from_secs(10), self.body.next()).await.unwrap()?;
            self.rest.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        }
    }
}

#[tokio::test]
async fn what_happens_is_sent_as_it_happens_and_can_be_taken_up() {
    let world = World::new().await;
    let app = router(world.state.clone());
    let before = world.job("before").await;
    let mut live = Open::new(&app, "/v1/events", None).await;
    let mut running = Open::new(&app, "/v1/events?team=search&state=running,succeeded", None).await;
    let mut other = Open::new(&app, "/v1/events?team=ads&metadata.dag=x", None).await;
    let id = world.job("k").await;
    let (first, event) = live.next().await.unwrap();
    assert_eq!(
        (&event["job"], &event["event"], &event["team"]),
        (&json!(id.to_string()), &json!("accepted"), &json!("search"))
    );
    assert_eq!(
        (event["id"].as_u64(), event["seq"].as_u64(), &event["to"]),
        (Some(first), Some(1), &json!("queued"))
    );
    let document = json!({"v": 1, "team": "ads", "key": "m", "entrypoint": "x", "metadata": {"dag": "x"}});
    world.post("/v1/jobs", &document).await;
    assert_eq!(other.next().await.unwrap().1["team"], "ads");
    world.state.store.request_stop(before, "test", "").await.unwrap();
    let attempt = world.run(id, "east").await;
    world.end(id, attempt, "east", AttemptEnd::Succeeded).await;
    let of = async |open: &mut Open, until: &str| {
        let mut codes = Vec::new();
        loop {
            let event = open.next().await.unwrap().1;
            if event["job"] == id.to_string() {
                codes.push(event["event"].as_str().unwrap().to_owned());
                if codes.last().unwrap() == until {
                    return codes;
                }
            }
        }
    };
    assert_eq!(
        of(&mut live, "succeeded").await,
        ["claimed", "placed", "launch_begun", "started", "succeeded"]
    );
    assert_eq!(of(&mut running, "succeeded").await, ["started", "succeeded"]);
    let mut again = Open::new(&app, "/v1/events", Some(first)).await;
    assert_eq!(of(&mut again, "succeeded").await.len(), 5);
    let mut whole = Open::new(&app, &format!("/v1/events?after=0&job={id}"), None).await;
    assert_eq!(of(&mut whole, "succeeded").await.len(), 6);
}

#[tokio::test]
async fn the_stream_of_a_job_begins_at_its_beginning_and_ends_with_it() {
    let world = World::new().await;
    let app = router(world.state.clone());
    let id = world.job("k").await;
    let path = format!("/v1/jobs/{id}/events");
    let mut open = Open::new(&app, &path, None).await;
    assert_eq!(open.next().await.unwrap().1["event"], "accepted");
    let attempt = world.run(id, "east").await;
    for (seq, code) in [(2, "claimed"), (3, "placed"), (4, "launch_begun"), (5, "started")] {
        let (at, event) = open.next().await.unwrap();
        assert_eq!((at, event["event"].as_str().unwrap()), (seq, code));
    }
    let mut late = Open::new(&app, &path, Some(4)).await;
    assert_eq!(late.next().await.unwrap().0, 5);
    world.end(id, attempt, "east", AttemptEnd::Succeeded).await;
    assert_eq!(open.next().await.unwrap().1["to"], "succeeded");
    assert!(open.next().await.is_none());
    assert_eq!(late.next().await.unwrap().0, 6);
    let done = world.get(&format!("{path}?after=6")).await;
    assert_eq!((done.status.as_u16(), done.bytes.len()), (204, 0));
    world.get("/v1/jobs/00000000-0000-0000-0000-000000000000/events").await.problem(404, "not_found");
    world.get(&format!("{path}?after=x")).await.problem(400, "bad_request");
}

#[tokio::test]
async fn a_stream_that_is_to_end_ends_with_all_that_is_committed() {
    let world = World::new().await;
    let app = router(world.state.clone());
    let (mut jobs, mut last) = (Vec::new(), 0);
    for key in ["a", "b", "c"] {
        // Nobody has listened, and nobody has given positions since.
        let id = world.job(key).await;
        jobs.push(id.to_string());
        let mut open = Open::new(&app, &format!("/v1/events?after={last}&follow=false"), None).await;
        let (at, event) = open.next().await.expect("what is committed is told");
        assert_eq!((at, &event["job"]), (last + 1, &json!(id.to_string())));
        assert!(open.next().await.is_none());
        last = at;
    }
    let whole = world.get("/v1/events?after=0&follow=false").await;
    let text = String::from_utf8(whole.bytes.to_vec()).unwrap();
    assert!(jobs.iter().all(|job| text.contains(job.as_str())), "{text}");
}

#[tokio::test]
async fn what_is_deleted_is_said_and_streams_are_bounded() {
    let world = World::with(ServerConfig { event_streams_max: 1, ..ServerConfig::default() }).await;
    let app = router(world.state.clone());
    world.job("a").await;
    world.job("b").await;
    world.state.store.number_events(9).await.unwrap();
    world.state.store.trim_events(Duration::ZERO, 1).await.unwrap();
    let gone = world.get("/v1/events?after=0").await.problem(410, "gone");
    assert!(gone["detail"].as_str().unwrap().contains("after 0"), "{gone}");
    let wrong = world.get("/v1/events?after=-1&job=x&state=asleep").await.problem(400, "bad_request");
    assert_eq!(wrong["errors"].as_array().unwrap().len(), 3, "{wrong}");
    let mut open = Open::new(&app, "/v1/events?after=1", None).await;
    assert_eq!(open.next().await.unwrap().0, 2);
    let another = as_operator(Request::get("/v1/events").body(Body::empty()).unwrap());
    let refused = app.clone().oneshot(another).await.unwrap();
    assert_eq!(refused.status(), 503);
    world.state.shutdown.cancel();
    assert!(open.body.next().await.unwrap().is_err(), "the stream is cut, not ended");
}
