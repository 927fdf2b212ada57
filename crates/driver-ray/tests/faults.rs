//! Faults that a real Ray head can't be made to show, on a fake one.

#![expect(clippy::unwrap_used, reason = "test code fails by panicking, in its helpers too")]

mod fake;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fake::{Fake, Received, Reply};
use futures::{FutureExt, StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::timeout;
use yard_domain::{AttemptNumber, InstanceId, JobId, RemoteName, Request};
use yard_driver_ray::{RayConfig, RayDriver, Token};
use yard_ports::{Driver, DriverError, LaunchOutcome, LaunchRequest, Observation, RemoteStatus};

const PATIENCE: Duration = Duration::from_secs(20);

fn config(address: &str) -> RayConfig {
    RayConfig {
        token: Some(Token::new("t0ken")),
        poll_interval: Duration::from_millis(20),
        resync_interval: Duration::from_hours(1),
        log_poll: Duration::from_millis(10),
        log_patience: Duration::from_millis(200),
        answer_bytes_max: 10_000,
        ..RayConfig::new(address)
    }
}

fn driver(fake: &Fake) -> RayDriver {
    RayDriver::new(config(&fake.address)).unwrap()
}

fn request() -> LaunchRequest {
    let job = JobId(uuid::Uuid::new_v4());
    LaunchRequest {
        name: RemoteName::new(job, AttemptNumber(1)),
        instance: InstanceId(uuid::Uuid::new_v4()),
        job,
        attempt: AttemptNumber(1),
        team: "t".parse().unwrap(),
        job_name: "test".to_owned(),
        entrypoint: "exit 0".to_owned(),
        runtime_env: serde_json::Map::new(),
        request: Request::default(),
        ray_cluster: None,
        metadata: BTreeMap::new(),
        run_timeout: Duration::from_hours(1),
    }
}

/// A job as a listing has it.
fn listed(request: &LaunchRequest, status: &str) -> Value {
    json!({"submission_id": request.name.as_str(), "status": status, "message": null, "error_type": null,
        "driver_exit_code": null, "metadata": {"yard.instance": request.instance.to_string()}})
}

fn exists(id: &Value) -> Reply {
    let text = format!(
        "Traceback\nRuntimeError: Request failed with status code 400: ValueError: Job with submission_id {id} already exists."
    );
    Reply::Status(500, text)
}

fn just(
    reply: impl Fn(&Received) -> Reply + Send + Sync + 'static,
) -> impl Fn(Received) -> futures::future::BoxFuture<'static, Reply> + Send + Sync {
    move |received| {
        let reply = reply(&received);
        async move { reply }.boxed()
    }
}

/// A head that keeps what is submitted and then fails to say so, in the given way.
async fn forgetful(fail: impl Fn() -> Reply + Send + Sync + 'static) -> Fake {
    let job = Mutex::new(None::<Value>);
    Fake::start(just(move |received| {
        let mut job = job.lock().unwrap();
        if received.line != "POST /api/jobs/" {
            return job.as_ref().map_or(Reply::Status(404, String::new()), Reply::json);
        }
        if job.is_some() {
            return exists(&received.body["submission_id"]);
        }
        let mut made = received.body.clone();
        made["status"] = json!("RUNNING");
        *job = Some(made);
        fail()
    }))
    .await
}

#[tokio::test]
async fn a_lost_answer_is_unclear_and_the_next_launch_adopts() {
    let failures: [fn() -> Reply; 3] =
        [|| Reply::Cut, || Reply::Hang, || Reply::Status(503, "gateway".to_owned())];
    for fail in failures {
        let fake = forgetful(fail).await;
        let (driver, request) = (driver(&fake), request());
        let impatient = RayConfig { submit_timeout: Duration::from_millis(300), ..config(&fake.address) };
        let first = RayDriver::new(impatient).unwrap().launch(&request).await;
        assert!(matches!(first, Err(DriverError::Unclear(_))), "{first:?}");
        let second = driver.launch(&request).await.unwrap();
        assert_eq!(second, LaunchOutcome::Adopted(RemoteStatus::Running));
        let mut theirs = request.clone();
        theirs.instance = InstanceId(uuid::Uuid::new_v4());
        assert!(matches!(driver.launch(&theirs).await, Err(DriverError::NameTaken(_))));
        let submits = fake.received().iter().filter(|received| received.line.starts_with("POST")).count();
        assert_eq!(submits, 3);
    }
}

#[tokio::test]
async fn a_name_that_cannot_be_read_back_is_unclear() {
    for reply in [|| Reply::Cut, || Reply::Status(404, String::new()), || Reply::Status(401, String::new())] {
        let fake = Fake::start(just(move |received| {
            if received.line.starts_with("POST") { exists(&received.body["submission_id"]) } else { reply() }
        }))
        .await;
        let outcome = driver(&fake).launch(&request()).await;
        assert!(matches!(outcome, Err(DriverError::Unclear(_))), "{outcome:?}");
    }
}

type IsRight = fn(&DriverError) -> bool;

#[tokio::test]
async fn each_answer_to_a_submission_has_its_meaning() {
    let agent = "RuntimeError: Request failed with status code 400: ValueError: bad label.";
    let cases: [(u16, &str, IsRight); 8] = [
        (
            400,
            "TypeError: no entrypoint",
            |e| matches!(e, DriverError::Refused(said) if said.contains("TypeError: no")),
        ),
        (500, agent, |e| matches!(e, DriverError::Refused(_))),
        (500, "No available agent to submit job, please try again later.", |e| {
            matches!(e, DriverError::Unclear(_))
        }),
        (401, "Missing authentication token", |e| matches!(e, DriverError::Unauthorized(_))),
        (403, "Invalid authentication token", |e| matches!(e, DriverError::Unauthorized(_))),
        (404, "404: Not Found", |e| matches!(e, DriverError::Unreachable(_))),
        (413, "too large", |e| matches!(e, DriverError::Refused(_))),
        (429, "slow down", |e| matches!(e, DriverError::Unreachable(_))),
    ];
    for (status, text, is_right) in cases {
        let fake = Fake::start(just(move |_| Reply::Status(status, text.to_owned()))).await;
        let error = driver(&fake).launch(&request()).await.unwrap_err();
        assert!(is_right(&error), "{status} {text}: {error:?}");
    }
}

#[tokio::test]
async fn the_token_goes_to_its_cluster_and_nowhere_else() {
    let elsewhere = Fake::start(just(|_| Reply::Status(200, "{}".to_owned()))).await;
    let to = format!("{}/login", elsewhere.address);
    let fake = Fake::start(just(move |_| Reply::Redirect(to.clone()))).await;
    let error = driver(&fake).launch(&request()).await.unwrap_err();
    assert!(matches!(error, DriverError::Unreachable(_)), "{error:?}");
    assert_eq!(fake.received()[0].authorization.as_deref(), Some("Bearer t0ken"));
    assert!(elsewhere.received().is_empty());
    assert!(!format!("{error:?}{error}").contains("t0ken"));
}

#[tokio::test]
async fn a_restarted_head_shows_its_empty_table_at_once() {
    let request = request();
    let (running, listings) = (listed(&request, "RUNNING"), AtomicUsize::new(0));
    let fake = Fake::start(just(move |_| match listings.fetch_add(1, Ordering::Relaxed) {
        0..3 => Reply::json(&json!([running, {"submission_id": "raysubmit_x", "status": "RUNNING"}])),
        3 => Reply::Cut,
        4 => Reply::Status(200, "<html>starting</html>".to_owned()),
        _ => Reply::json(&json!([])),
    }))
    .await;
    let news = |item: &Result<_, _>| std::future::ready(!matches!(item, Ok(Observation::Alive)));
    let stream = driver(&fake).observe().filter(news);
    let items: Vec<_> = timeout(PATIENCE, stream.take(4).collect()).await.expect("it goes on");
    assert!(matches!(&items[0], Ok(Observation::Full(jobs)) if jobs.len() == 1), "{items:?}");
    assert!(matches!(&items[1], Err(DriverError::Unclear(_))), "{items:?}");
    assert!(matches!(&items[2], Err(DriverError::Unclear(_))), "{items:?}");
    assert_eq!(items[3].as_ref().unwrap(), &Observation::Full(vec![]));
}

#[tokio::test]
async fn what_vanishes_without_having_ended_is_shown_at_once_and_changes_one_by_one() {
    let request = request();
    let rows = [listed(&request, "PENDING"), listed(&request, "RUNNING")];
    let listings = AtomicUsize::new(0);
    let fake = Fake::start(just(move |_| match listings.fetch_add(1, Ordering::Relaxed) {
        n @ 0..4 => Reply::json(&json!([rows[n / 2]])),
        _ => Reply::json(&json!([])),
    }))
    .await;
    let stream = driver(&fake).observe();
    let items: Vec<_> = timeout(PATIENCE, stream.take(5).try_collect()).await.expect("it goes on").unwrap();
    let (pending, running) = (RemoteStatus::Pending, RemoteStatus::Running);
    assert!(matches!(&items[0], Observation::Full(jobs) if jobs[0].status == pending), "{items:?}");
    assert!(matches!(&items[2], Observation::Changed(job) if job.status == running), "{items:?}");
    assert_eq!(items[4], Observation::Full(vec![]));
    assert_eq!((&items[1], &items[3]), (&Observation::Alive, &Observation::Alive));
}

#[tokio::test]
async fn a_listing_asked_for_before_a_launch_was_answered_does_not_hide_it() {
    let (asked, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handles = (Arc::clone(&asked), Arc::clone(&answer));
    let fake = Fake::start(move |received| {
        let (asked, answer) = (Arc::clone(&handles.0), Arc::clone(&handles.1));
        async move {
            if received.line.starts_with("GET") {
                asked.notify_one();
                answer.notified().await;
                return Reply::json(&json!([]));
            }
            Reply::json(&json!({}))
        }
        .boxed()
    })
    .await;
    let driver = driver(&fake);
    let mut stream = driver.observe();
    let first = tokio::spawn(async move { stream.next().await });
    asked.notified().await;
    let request = request();
    assert_eq!(driver.launch(&request).await.unwrap(), LaunchOutcome::Launched);
    answer.notify_one();
    let Some(Ok(Observation::Full(jobs))) = first.await.unwrap() else { panic!("a full one") };
    assert_eq!(
        (&jobs[0].name, jobs[0].instance, &jobs[0].status),
        (&request.name, Some(request.instance), &RemoteStatus::Pending)
    );
}

#[tokio::test]
async fn an_answer_without_end_is_refused_not_kept() {
    let fake = Fake::start(just(|_| Reply::Status(200, " ".repeat(20_000)))).await;
    let item = driver(&fake).observe().next().await.unwrap();
    assert!(matches!(&item, Err(DriverError::Refused(said)) if said.contains("10000 bytes")), "{item:?}");
}

/// Ray can't read a log that ends in the middle of a character.
fn undecodable() -> Reply {
    Reply::Status(500, "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xc3".to_owned())
}

#[tokio::test]
async fn a_followed_log_waits_for_half_a_character() {
    let (request, reads) = (request(), AtomicUsize::new(0));
    let job = listed(&request, "RUNNING");
    let ended = listed(&request, "SUCCEEDED");
    let fake = Fake::start(just(move |received| {
        if !received.line.ends_with("/logs") {
            return Reply::json(if reads.load(Ordering::Relaxed) < 4 { &job } else { &ended });
        }
        match reads.fetch_add(1, Ordering::Relaxed) {
            0 | 2 => undecodable(),
            1 => Reply::json(&json!({"logs": "one\n"})),
            3 => Reply::Cut,
            _ => Reply::json(&json!({"logs": "one\ntwö\n"})),
        }
    }))
    .await;
    // It is not a matter of time here.
    let patient = RayConfig { log_patience: PATIENCE, ..config(&fake.address) };
    let log = RayDriver::new(patient).unwrap().logs(&request.name, 1, true).await.unwrap();
    let pieces: Vec<_> = timeout(PATIENCE, log.try_collect()).await.expect("it ends").unwrap();
    assert_eq!(pieces, ["ne\n", "twö\n"]);
}

#[tokio::test]
async fn a_log_that_stays_unreadable_is_an_error() {
    let request = request();
    let job = listed(&request, "RUNNING");
    let fake =
        Fake::start(just(
            move |received| {
                if received.line.ends_with("/logs") { undecodable() } else { Reply::json(&job) }
            },
        ))
        .await;
    let driver = driver(&fake);
    let snapshot = driver.logs(&request.name, 0, false).await.map(|_| "a log");
    assert!(matches!(&snapshot, Err(DriverError::Unclear(said)) if said.contains("UTF-8")), "{snapshot:?}");
    let mut log = driver.logs(&request.name, 0, true).await.unwrap();
    let item = timeout(PATIENCE, log.next()).await.expect("it is told");
    assert!(matches!(item, Some(Err(DriverError::Unclear(_)))), "{item:?}");
    assert!(log.next().await.is_none());
}
