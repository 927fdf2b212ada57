//! That every way in and out keeps to teams: many submissions at once, streams of events, receipts, the Ray Jobs API.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, header};
use futures::StreamExt;
use serde_json::{Value, json};
use tower::ServiceExt;
use yard_domain::{Arrival, Role, SubmissionKey, Timestamp};

use crate::access::Freshness;
use crate::testing::{Answer, OPERATOR, World};
use crate::{AccessConfig, router};

/// Nothing that was looked up counts.
const NONE: Freshness = Freshness { refresh: Duration::ZERO, outage: Duration::ZERO };

fn document(team: &str, key: &str) -> Value {
    json!({"v": 1, "team": team, "key": key, "entrypoint": "true"})
}

#[tokio::test]
async fn of_many_submissions_those_for_other_teams_alone_are_refused() {
    let world = World::new().await;
    let submitter = world.token(Role::Submitter, &["ads"]).await;
    let batch = async |list: &[Value]| {
        let body = Some(json!({"jobs": list}));
        world.ask("POST", "/v1/jobs/batch", &submitter.text, body).await.json()["verdicts"].clone()
    };
    let verdicts = batch(&[document("ads", "a"), document("search", "b"), document("ads", "c")]).await;
    let told: Vec<_> = verdicts.as_array().unwrap().iter().map(|v| v["verdict"].as_str().unwrap()).collect();
    assert_eq!(told, ["accepted", "forbidden", "accepted"]);
    assert_eq!(
        verdicts[1],
        json!({"verdict": "forbidden", "team": "search", "key": "b", "errors": [{"field": "team", "code": "forbidden",
            "message": "this takes a submitter of team search; you are a submitter"}]})
    );
    world.get("/v1/receipts/search/b").await.problem(404, "not_found");
    let id = verdicts[0]["job"].as_str().unwrap();
    let history = world.get(&format!("/v1/jobs/{id}/history")).await.json();
    assert_eq!(history["lines"][0]["actor"], format!("user:a submitter (token {})", submitter.id));
    batch(&[document("search", "b"), document("nobody", "b")]).await;
    let viewer = world.token(Role::Viewer, &["ads"]).await.text;
    let refused = world.ask("POST", "/v1/jobs/batch", &viewer, Some(json!({"jobs": []}))).await;
    refused.problem(403, "forbidden");
    let line =
        |target: &str, result: &str| ("job.submit_batch".to_owned(), target.to_owned(), result.to_owned());
    assert_eq!(
        world.audit_lines().await,
        [
            line("/v1/jobs/batch", "forbidden"),
            line("2 submissions: 2 forbidden", "forbidden"),
            line("3 submissions: 2 accepted, 1 forbidden", "ok"),
        ]
    );
}

/// Streams that are open break off when the token that opened them is revoked.
#[tokio::test]
async fn streams_end_with_their_token() {
    let access = AccessConfig { stream_recheck: Duration::from_millis(20), ..AccessConfig::default() };
    let world = World::guarded(AccessConfig { freshness: NONE, ..access }).await;
    let (revoked, kept) =
        (world.token(Role::Viewer, &["ads"]).await, world.token(Role::Viewer, &["ads"]).await);
    let open = async |token: &str| {
        let request = Request::get("/v1/events").header(header::AUTHORIZATION, format!("Bearer {token}"));
        let answer = router(world.state.clone()).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.into_body().into_data_stream()
    };
    let (mut ends, mut goes_on) = (open(&revoked.text).await, open(&kept.text).await);
    world.state.store.revoke_token(&revoked.id).await.unwrap();
    let end = async { while ends.next().await.expect("the end is an error").is_ok() {} };
    tokio::time::timeout(Duration::from_secs(30), end).await.unwrap();
    world.ask("POST", "/v1/jobs", OPERATOR, Some(document("ads", "a"))).await;
    let chunk = tokio::time::timeout(Duration::from_secs(30), goes_on.next()).await.unwrap();
    chunk.unwrap().unwrap();
}

/// The first event of a stream.
async fn first_event(world: &World, path: &str, token: &str) -> Value {
    let request = Request::get(path).header(header::AUTHORIZATION, format!("Bearer {token}"));
    let answer = router(world.state.clone()).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200, "{path}");
    let (mut body, mut text) = (answer.into_body().into_data_stream(), String::new());
    loop {
        if let Some(data) = text.lines().find_map(|line| line.strip_prefix("data: ")) {
            return serde_json::from_str(data).unwrap();
        }
        let chunk = tokio::time::timeout(Duration::from_secs(10), body.next()).await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
    }
}

#[tokio::test]
async fn events_are_those_of_teams_that_one_sees() {
    let world = World::new().await;
    let foreign = world.job("k").await; // of `search`, and before the other
    let own = world.post("/v1/jobs", &document("ads", "k")).await.json()["id"].clone();
    let viewer = world.token(Role::Viewer, &["ads"]).await.text;
    for path in ["/v1/events?after=0", "/v1/events?after=0&team=search,ads"] {
        let first = first_event(&world, path, &viewer).await;
        assert_eq!((&first["job"], &first["team"]), (&own, &json!("ads")), "{path}");
        assert_eq!(first_event(&world, path, OPERATOR).await["job"], foreign.to_string(), "{path}");
    }
    let path = format!("/v1/jobs/{}/events", own.as_str().unwrap());
    assert_eq!(first_event(&world, &path, &viewer).await["event"], "accepted");
}

#[tokio::test]
async fn how_far_the_doors_are_is_told_to_those_who_see_the_team() {
    let world = World::new().await;
    let seen = Arrival {
        key: SubmissionKey { team: "search".to_owned(), key: "a".to_owned() },
        source: "sqs:submissions".to_owned(),
        message_id: "m".to_owned(),
        sent_at: Some(Timestamp::from_micros(5_000_000)),
        by: None,
        body_hash: [0; 32],
        content: Err(Vec::new()),
    };
    world.state.store.accept(&[seen]).await.unwrap();
    let viewer = world.token(Role::Viewer, &["ads"]).await.text;
    let newest = async |path: &str| {
        let problem = world.ask("GET", path, &viewer, None).await.problem(404, "not_found");
        problem.get("newest_arrival").cloned()
    };
    assert!(newest("/v1/receipts/ads/none").await.is_some());
    assert_eq!(newest("/v1/receipts/search/none").await, None);
    assert_eq!(newest("/v1/receipts/search/a").await, None);
}

/// What Ray's client reads: the status and the text.
fn told(answer: &Answer) -> (u16, &str) {
    (answer.status.as_u16(), std::str::from_utf8(&answer.bytes).unwrap())
}

#[tokio::test]
async fn the_ray_api_keeps_to_teams_and_roles() {
    let world = World::new().await;
    let ads = world.token(Role::Submitter, &["ads"]).await.text;
    let viewer = world.token(Role::Viewer, &["ads"]).await.text;
    let search = world.token(Role::TeamAdmin, &["search"]).await.text;
    let job =
        |id: &str, metadata: Value| json!({"entrypoint": "x", "submission_id": id, "metadata": metadata});
    let submit = async |token: &str, body: Value| world.ask("POST", "/api/jobs/", token, Some(body)).await;
    // Who has one team need not name it.
    assert_eq!(submit(&ads, job("mine", json!({}))).await.status, 200);
    assert_eq!(world.get("/v1/jobs").await.json()["jobs"][0]["team"], "ads");
    let foreign = submit(&ads, job("other", json!({"yard.team": "search"}))).await;
    assert_eq!(
        told(&foreign),
        (403, "Not allowed: this takes a submitter of team search; you are a submitter")
    );
    world.get("/v1/receipts/search/other").await.problem(404, "not_found");
    let hidden = (404, "Job mine does not exist");
    for (method, path) in [
        ("GET", "/api/jobs/mine"),
        ("GET", "/api/jobs/mine/logs"),
        ("POST", "/api/jobs/mine/stop"),
        ("DELETE", "/api/jobs/mine"),
    ] {
        assert_eq!(told(&world.ask(method, path, &search, None).await), hidden, "{method} {path}");
        let named = Request::builder().method(method).uri(path).header("x-yard-team", "ads");
        let named = named.header(header::AUTHORIZATION, format!("Bearer {search}"));
        assert_eq!(told(&world.send(named.body(Body::empty()).unwrap()).await), hidden, "{method} {path}");
    }
    let listed = async |token: &str| world.ask("GET", "/api/jobs/", token, None).await.json();
    assert_eq!((listed(&search).await, listed(&viewer).await.as_array().unwrap().len()), (json!([]), 1));
    assert_eq!(world.ask("GET", "/api/jobs/mine", &viewer, None).await.status, 200);
    for (method, path) in [("POST", "/api/jobs/mine/stop"), ("DELETE", "/api/jobs/mine")] {
        world.ask(method, path, &viewer, None).await.problem(403, "forbidden");
    }
    for method in ["GET", "PUT"] {
        let path = "/api/packages/gcs/_ray_pkg_1.zip";
        world.ask(method, path, &viewer, None).await.problem(403, "forbidden");
    }
    // As Ray's client sends it, where a proxy takes the usual header for itself.
    let request = Request::post("/api/jobs/mine/stop").header(header::AUTHORIZATION, "");
    let request = request.header("x-ray-authorization", format!("Bearer {ads}"));
    let stopped = world.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!((stopped.status.as_u16(), stopped.json()), (200, json!({"stopped": true})));
    assert_eq!(world.ask("DELETE", "/api/jobs/mine", &ads, None).await.json(), json!({"deleted": true}));
    let lines = world.audit_lines().await;
    let results: Vec<_> = lines.iter().map(|(action, _, result)| format!("{action} {result}")).collect();
    assert_eq!(results[..2], ["job.hide ok", "job.stop ok"]);
    assert_eq!(results[results.len() - 2..], ["job.submit forbidden", "job.submit ok"]);
    assert!(results.contains(&"job.hide not_found".to_owned()), "{results:?}");
    assert!(lines[1].1.ends_with("of team ads"), "{:?}", lines[1]);
}

#[tokio::test]
async fn a_team_must_be_named_by_those_who_have_several() {
    let world = World::new().await;
    let both = world.token(Role::Submitter, &["ads", "search"]).await.text;
    let body = json!({"entrypoint": "x", "submission_id": "mine"});
    let answer = world.ask("POST", "/api/jobs/", &both, Some(body)).await;
    let (status, text) = told(&answer);
    assert!(status == 400 && text.contains("yard.team"), "{status} {text}");
}
