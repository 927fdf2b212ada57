//! Logs over HTTP: out of the archive, from the cluster, and both as one.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::http::header;
use bytes::Bytes;
use futures::StreamExt;
use serde_json::json;
use tower::ServiceExt;
use yard_domain::{AttemptNumber, JobId, KeptChunk, RemoteName, Seal, Span};
use yard_ports::store::AttemptRef;
use yard_ports::{DriverError, LogArchive, PodLog};

use super::{ByteRange, byte_range};
use crate::testing::{Answer, Log, World, as_operator};
use crate::{LogLimits, ServerConfig, router};

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
    let answer = router(world.state.clone()).oneshot(as_operator(request)).await.unwrap();
    let mut body = answer.into_body().into_data_stream();
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
    let follow =
        || as_operator(Request::get(format!("/v1/jobs/{id}/logs?follow=true")).body(Body::empty()).unwrap());
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

/// Writes chunks of a job's first attempt; the last with the seal.
async fn keep(world: &World, job: JobId, chunks: &[(u64, &'static str)], seal: Option<Seal>) {
    let attempt = AttemptRef { job, attempt: AttemptNumber(1) };
    for (i, (start, text)) in chunks.iter().enumerate() {
        let span = Span { start: *start, end: start + text.len() as u64 };
        let chunk = KeptChunk { span, seal: seal.filter(|_| i + 1 == chunks.len()) };
        world.archive.put(attempt, chunk, Bytes::from_static(text.as_bytes())).await.unwrap();
    }
}

/// A job that runs, on a cluster that can (`east`) or can't (`west`) be asked from here.
async fn running(world: &World, cluster: &str) -> (JobId, String) {
    let id = world.job("k").await;
    world.run(id, cluster).await;
    (id, format!("/v1/jobs/{id}/logs"))
}

fn says(world: &World, id: JobId, log: Log) {
    let name = RemoteName::new(id, AttemptNumber(1)).to_string();
    world.driver.logs.lock().unwrap().insert(name, log);
}

fn log_headers(answer: &Answer) -> [&str; 3] {
    ["x-yard-log-offset", "x-yard-log-source", "x-yard-log-state"]
        .map(|name| answer.headers.get(name).map_or("", |v| v.to_str().unwrap()))
}

fn text(answer: &Answer) -> &str {
    std::str::from_utf8(&answer.bytes).unwrap()
}

#[tokio::test]
async fn what_the_archive_has_is_read_there_and_the_rest_from_the_cluster() {
    let world = World::new().await;
    let (id, path) = running(&world, "east").await;
    keep(&world, id, &[(0, "one\ntw"), (4, "two\nth")], None).await;
    says(&world, id, Log::Whole("one\ntwo\nthree\n"));
    let log = world.get(&path).await;
    assert_eq!(text(&log), "one\ntwo\nthree\n");
    assert_eq!(log_headers(&log), ["0", "cluster", "open"]);
    assert_eq!(text(&world.get(&format!("{path}?offset=5")).await), "wo\nthree\n");
    assert_eq!(text(&world.get(&format!("{path}?offset=12&max_bytes=2")).await), "e\n");
    assert_eq!(text(&world.get(&format!("{path}?offset=99")).await), "");
    let tail = world.get(&format!("{path}?tail_bytes=6")).await;
    assert_eq!((text(&tail), log_headers(&tail)[0]), ("three\n", "8"));
    assert_eq!(*world.driver.asked.lock().unwrap(), [10, 10, 12, 99, 10]);
    keep(&world, id, &[(8, "three\n")], Some(Seal::Complete)).await;
    let log = world.get(&path).await;
    assert_eq!((text(&log), log_headers(&log)), ("one\ntwo\nthree\n", ["0", "archive", "complete"]));
    assert_eq!(world.driver.asked.lock().unwrap().len(), 5, "the cluster need not be asked");
}

#[tokio::test]
async fn without_its_cluster_a_log_is_what_is_kept_and_says_so() {
    let world = World::new().await;
    let (id, path) = running(&world, "west").await;
    keep(&world, id, &[(0, "so far")], None).await;
    let log = world.get(&path).await;
    assert_eq!(text(&log), "so far\n--- west can't be asked for the rest of this log now ---\n");
    assert_eq!(log_headers(&log), ["0", "archive", "open"]);
    assert_eq!(text(&world.get(&format!("{path}?plain=true")).await), "so far");
    keep(&world, id, &[(6, "")], Some(Seal::Lost)).await;
    let log = world.get(&path).await;
    assert!(text(&log).starts_with("so far\n--- the rest of this log is not kept"), "{}", text(&log));
    assert_eq!(log_headers(&log)[2], "lost");
    // A cluster that can be asked and fails is no other case.
    let id = world.job("k2").await;
    world.run(id, "east").await;
    keep(&world, id, &[(0, "x")], None).await;
    says(&world, id, Log::Fails(DriverError::Unreachable("10.0.0.7".to_owned())));
    let log = world.get(&format!("/v1/jobs/{id}/logs?plain=true")).await;
    assert_eq!((text(&log), log_headers(&log)[1]), ("x", "archive"));
    // Nor is an archive that fails, if the cluster can be asked.
    world.archive.fail(true);
    says(&world, id, Log::Whole("xyz"));
    assert_eq!(text(&world.get(&format!("/v1/jobs/{id}/logs")).await), "xyz");
}

#[tokio::test]
async fn what_was_not_kept_is_told_or_left_to_the_reader() {
    let world = World::new().await;
    let (id, path) = running(&world, "west").await;
    keep(&world, id, &[(0, "head\n"), (105, "tail\n")], Some(Seal::Complete)).await;
    let whole = "head\n--- 100 bytes of this log, from byte 5 on, were not kept ---\ntail\n";
    assert_eq!(text(&world.get(&path).await), whole);
    let plain = world.get(&format!("{path}?plain=true")).await;
    assert_eq!((text(&plain), &plain.headers["x-yard-log-more"]), ("head\n", &"true".parse().unwrap()));
    let rest = world.get(&format!("{path}?plain=true&offset=5")).await;
    assert_eq!((text(&rest), log_headers(&rest)[0]), ("tail\n", "105"));
    assert!(!rest.headers.contains_key("x-yard-log-more"));
    let tail = world.get(&format!("{path}?tail_bytes=50")).await;
    assert_eq!((text(&tail), log_headers(&tail)[0]), ("tail\n", "105"));
}

#[tokio::test]
async fn ranges_are_answered_as_http_has_them() {
    let world = World::new().await;
    let (id, path) = running(&world, "east").await;
    let ranged = async |range: &str| {
        let request = Request::get(&path).header(header::RANGE, range).body(Body::empty()).unwrap();
        let answer = world.send(request).await;
        let content_range = answer.headers.get(header::CONTENT_RANGE).map(|v| v.to_str().unwrap().to_owned());
        (answer.status.as_u16(), content_range.unwrap_or_default(), answer.bytes)
    };
    says(&world, id, Log::Whole("0123456789"));
    let part =
        |range: &str, bytes: &'static str| (206, range.to_owned(), Bytes::from_static(bytes.as_bytes()));
    assert_eq!(ranged("bytes=2-4").await, part("bytes 2-4/*", "234"));
    assert_eq!(ranged("bytes=8-").await, part("bytes 8-9/*", "89"));
    assert_eq!(ranged("bytes=-3").await, part("bytes 7-9/*", "789"));
    keep(&world, id, &[(0, "0123456789")], Some(Seal::Complete)).await;
    assert_eq!(ranged("bytes=8-99").await, part("bytes 8-9/10", "89"));
    let (status, range, _) = ranged("bytes=10-").await;
    assert_eq!((status, range.as_str()), (416, "bytes */10"));
    for passed_over in ["bytes=1-2,4-5", "lines=1-2", "bytes=5-2", "bytes=x-"] {
        assert_eq!(ranged(passed_over).await.0, 200, "{passed_over}");
    }
    assert_eq!(byte_range("bytes= 1 - 2"), Some(ByteRange::Between(1, 2)));
}

#[tokio::test]
async fn a_log_is_followed_in_the_archive_if_its_cluster_can_t_be_asked() {
    let limits = LogLimits { look_interval: Duration::from_millis(20), ..LogLimits::default() };
    let world = World::with(ServerConfig { logs: limits, ..ServerConfig::default() }).await;
    let (id, path) = running(&world, "west").await;
    keep(&world, id, &[(0, "a")], None).await;
    let request =
        Request::get(format!("{path}?follow=true&plain=true&attempt=1")).body(Body::empty()).unwrap();
    let answer = router(world.state.clone()).oneshot(as_operator(request)).await.unwrap();
    let mut body = answer.into_body().into_data_stream();
    assert_eq!(&body.next().await.unwrap().unwrap()[..], b"a");
    // Another process writes on, and replaces the last chunk by one that has it all.
    keep(&world, id, &[(0, "abc")], None).await;
    assert_eq!(&body.next().await.unwrap().unwrap()[..], b"bc");
    assert!(tokio::time::timeout(Duration::from_millis(100), body.next()).await.is_err());
    keep(&world, id, &[(3, "d")], Some(Seal::Complete)).await;
    assert_eq!(&body.next().await.unwrap().unwrap()[..], b"d");
    assert!(body.next().await.is_none());
}

#[tokio::test]
async fn an_answer_is_bounded_and_breaks_off_there() {
    let limits = LogLimits { response_bytes_max: 4, ..LogLimits::default() };
    let world = World::with(ServerConfig { logs: limits, ..ServerConfig::default() }).await;
    let (id, path) = running(&world, "west").await;
    keep(&world, id, &[(0, "123456")], Some(Seal::Complete)).await;
    let request = Request::get(&path).body(Body::empty()).unwrap();
    let answer = router(world.state.clone()).oneshot(as_operator(request)).await.unwrap();
    let mut body = answer.into_body().into_data_stream();
    assert_eq!(&body.next().await.unwrap().unwrap()[..], b"1234");
    assert!(body.next().await.unwrap().is_err());
    assert_eq!(text(&world.get(&format!("{path}?offset=4")).await), "56");
}

#[tokio::test]
async fn what_does_not_go_together_is_refused() {
    let world = World::new().await;
    let (_, path) = running(&world, "east").await;
    for query in ["offset=1&tail_bytes=1", "attempt=all&offset=1", "tail_bytes=0", "attempt=first"] {
        world.get(&format!("{path}?{query}")).await.problem(400, "bad_request");
    }
}

fn pods_say(world: &World, head: &'static str) {
    *world.driver.pods.lock().unwrap() = Some(Ok(vec![(PodLog::Head, Bytes::from_static(head.as_bytes()))]));
}

#[tokio::test]
async fn what_pods_print_comes_from_the_cluster_and_then_from_the_archive() {
    let world = World::new().await;
    let (id, path) = running(&world, "east").await;
    let attempt = AttemptRef { job: id, attempt: AttemptNumber(1) };
    let head = format!("{path}?source=head");
    pods_say(&world, "ray is up\n");
    let live = world.get(&head).await;
    assert_eq!(
        (live.status.as_u16(), text(&live), log_headers(&live)),
        (200, "ray is up\n", ["0", "cluster", "open"])
    );
    let end = world.get(&format!("{head}&tail_bytes=3")).await;
    assert_eq!((text(&end), log_headers(&end)[0]), ("up\n", "7"));
    assert_eq!(text(&world.get(&format!("{head}&attempt=1&max_bytes=3")).await), "ray");
    let problem = world.get(&format!("{path}?source=workers")).await.problem(404, "no_log");
    assert!(problem["detail"].as_str().unwrap().contains("no pods of source=workers"), "{problem}");
    // Kept when it was asked to stop: the cluster knows more, for as long as it answers.
    world.archive.put_pods(attempt, PodLog::Head, Bytes::from_static(b"ray was up\n")).await.unwrap();
    assert_eq!(text(&world.get(&head).await), "ray is up\n");
    *world.driver.pods.lock().unwrap() = Some(Err(DriverError::Unreachable("10.0.0.7 refused".to_owned())));
    let kept = world.get(&head).await;
    assert_eq!((text(&kept), log_headers(&kept)), ("ray was up\n", ["0", "archive", "open"]));
    let problem = world.get(&format!("{path}?source=workers")).await.problem(502, "cluster_unreachable");
    assert!(!problem.to_string().contains("10.0.0.7"), "{problem}");
    world.end(id, attempt.attempt, "east", yard_domain::lifecycle::AttemptEnd::Succeeded).await;
    pods_say(&world, "another's\n");
    let kept = world.get(&head).await;
    assert_eq!((text(&kept), log_headers(&kept)), ("ray was up\n", ["0", "archive", "complete"]));
}

#[tokio::test]
async fn a_cluster_that_all_share_says_that_it_has_no_such_source() {
    let world = World::new().await;
    let (id, path) = running(&world, "east").await;
    says(&world, id, Log::Text("mine"));
    assert_eq!(text(&world.get(&format!("{path}?source=job")).await), "mine");
    for source in ["head", "workers", "submitter"] {
        let problem = world.get(&format!("{path}?source={source}")).await.problem(404, "no_log");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("east") && detail.contains(source), "{problem}");
    }
    let (_, elsewhere) = {
        let other = world.job("other").await;
        world.run(other, "west").await;
        (other, format!("/v1/jobs/{other}/logs?source=head"))
    };
    world.get(&elsewhere).await.problem(502, "cluster_unreachable");
}

#[tokio::test]
async fn what_pods_print_has_an_end_only() {
    let world = World::new().await;
    let (_, path) = running(&world, "east").await;
    for (query, field) in [("offset=1", "offset"), ("follow=true", "follow"), ("attempt=all", "attempt")] {
        let problem = world.get(&format!("{path}?source=head&{query}")).await.problem(400, "bad_request");
        assert!(problem.to_string().contains(field), "{problem}");
    }
    let problem = world.get(&format!("{path}?source=raylet")).await.problem(400, "bad_request");
    assert!(problem.to_string().contains("job, head, workers or submitter"), "{problem}");
}
