//! The inbox against a real server of SQS's protocol: ministack, or whatever `YARD_TEST_SQS_ENDPOINT` points to.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use yard_inbox_sqs::{QueueAddress, SqsConfig, SqsCredentials, SqsEndpoint, SqsInbox, SqsProducer};
use yard_ports::{Inbox, InboxError, Message, MessageHandle};

const CALL: Duration = Duration::from_secs(10);

/// A fresh queue with its dead-letter queue, and an inbox on it.
struct Fixture {
    producer: SqsProducer,
    inbox: SqsInbox,
    config: SqsConfig,
    url: String,
    dead_url: String,
    endpoint: SqsEndpoint,
}

/// `None`, and a line that says so, if no server is given.
async fn fixture(test: &str) -> Option<Fixture> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let Ok(url) = std::env::var("YARD_TEST_SQS_ENDPOINT") else {
        eprintln!("left out: {test}: YARD_TEST_SQS_ENDPOINT is not set (tests/env/up.py --ministack)");
        return None;
    };
    let endpoint = SqsEndpoint { region: None, url: Some(url), credentials: SqsCredentials::Local };
    let producer = SqsProducer::connect(&endpoint, CALL).await;
    let name = format!("{test}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let url = producer.ensure_queue(&name).await.unwrap();
    assert_eq!(producer.ensure_queue(&name).await.unwrap(), url, "making it again finds it");
    let dead_url = producer.ensure_queue(&format!("{name}-dead")).await.unwrap();
    let mut config = SqsConfig::new("jobs", QueueAddress::Name(name), endpoint.clone());
    config.wait = Duration::from_secs(1);
    config.visibility = Duration::from_secs(2);
    config.dead_letter_url = Some(dead_url.clone());
    let inbox = SqsInbox::connect(config.clone()).await;
    Some(Fixture { producer, inbox, config, url, dead_url, endpoint })
}

fn handles(messages: &[Message]) -> Vec<MessageHandle> {
    messages.iter().map(|m| m.handle.clone()).collect()
}

async fn receive(inbox: &SqsInbox, count: usize) -> Vec<Message> {
    let mut all = Vec::new();
    for _ in 0..20 {
        all.extend(inbox.receive().await.unwrap());
        if all.len() >= count {
            break;
        }
    }
    all
}

#[tokio::test]
async fn messages_come_in_batches_and_are_deleted() {
    let Some(f) = fixture("batches").await else { return };
    let bodies: Vec<String> = (0..25).map(|i| format!("{{\"n\":{i}}}")).collect();
    f.producer.send(&f.url, &bodies).await.unwrap();
    // Long enough for three receives.
    let inbox = SqsInbox::connect(SqsConfig { visibility: Duration::from_secs(6), ..f.config.clone() }).await;
    let messages = receive(&inbox, 25).await;
    let mut got: Vec<_> = messages.iter().map(|m| m.body.clone()).collect();
    let mut want = bodies.clone();
    got.sort();
    want.sort();
    assert_eq!(got, want);
    assert!(messages.iter().all(|m| m.receive_count == 1 && !m.id.is_empty()));
    assert_eq!(inbox.delete(&handles(&messages)).await.unwrap(), vec![]);
    tokio::time::sleep(Duration::from_millis(6_200)).await;
    assert_eq!(f.inbox.receive().await.unwrap().len(), 0, "deleted messages don't come again");
    let depth = f.producer.depth(&f.url).await.unwrap();
    assert_eq!((depth.waiting, depth.hidden), (0, 0));
}

#[tokio::test]
async fn an_empty_queue_waits_and_gives_nothing() {
    let Some(f) = fixture("empty").await else { return };
    let began = Instant::now();
    assert_eq!(f.inbox.receive().await.unwrap().len(), 0);
    assert!(began.elapsed() >= Duration::from_millis(900), "long poll: {:?}", began.elapsed());
}

#[tokio::test]
async fn undeleted_messages_come_again_unless_extended() {
    let Some(f) = fixture("again").await else { return };
    f.producer.send(&f.url, &["a".to_owned()]).await.unwrap();
    let first = receive(&f.inbox, 1).await;
    f.inbox.extend(&handles(&first), Duration::from_secs(10)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2_300)).await;
    assert_eq!(f.inbox.receive().await.unwrap().len(), 0, "still hidden: it was extended");
    let second = receive(&f.inbox, 1).await;
    assert_eq!((second[0].id.as_str(), second[0].receive_count), (first[0].id.as_str(), 2));
}

#[tokio::test]
async fn what_cannot_be_deleted_is_given_back() {
    let Some(f) = fixture("partial").await else { return };
    f.producer.send(&f.url, &["a".to_owned()]).await.unwrap();
    let mut all = handles(&receive(&f.inbox, 1).await);
    all.push(MessageHandle("no such handle".to_owned()));
    let left = f.inbox.delete(&all).await.unwrap();
    // Servers differ on whether an unknown handle is an error; the real one must be gone in any case.
    assert!(left.iter().all(|h| h == &all[1]), "{left:?}");
    assert_eq!(f.producer.depth(&f.url).await.unwrap().hidden, 0);
}

/// A client of the test's own, for what the inbox does not show.
fn raw_client(endpoint: &SqsEndpoint) -> aws_sdk_sqs::Client {
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(aws_sdk_sqs::config::BehaviorVersion::latest())
        .region(aws_sdk_sqs::config::Region::new("us-east-1"))
        .credentials_provider(aws_sdk_sqs::config::Credentials::new("test", "test", None, None, "test"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(endpoint.url.clone().unwrap());
    aws_sdk_sqs::Client::from_conf(config.build())
}

/// The next message of the queue at `url` as body and attribute values (`yard.reason`, `yard.body_bytes`).
async fn take(client: &aws_sdk_sqs::Client, url: &str) -> (String, Option<String>, Option<String>) {
    let answer = client.receive_message().queue_url(url).message_attribute_names("All").send().await.unwrap();
    let message = answer.messages.unwrap().remove(0);
    client
        .delete_message()
        .queue_url(url)
        .receipt_handle(message.receipt_handle.unwrap())
        .send()
        .await
        .unwrap();
    let attributes = message.message_attributes.unwrap_or_default();
    let value = |name| attributes.get(name).and_then(|a| a.string_value.clone());
    (message.body.unwrap(), value("yard.reason"), value("yard.body_bytes"))
}

#[tokio::test]
async fn a_rejected_message_goes_to_the_dead_letter_queue_as_it_came() {
    let Some(f) = fixture("dead").await else { return };
    let client = raw_client(&f.endpoint);
    let big = "x".repeat(1 << 20);
    for (body, reason) in [("not json\nat all", Some("team: unknown team".to_owned())), (&big, None)] {
        f.inbox.dead_letter(body, "team: unknown\u{0} team").await.unwrap();
        assert!(take(&client, &f.dead_url).await == (body.to_owned(), reason, None), "{} bytes", body.len());
    }
}

#[tokio::test]
async fn a_body_that_the_dead_letter_queue_finds_too_long_is_cut() {
    let Some(mut f) = fixture("cut").await else { return };
    let client = raw_client(&f.endpoint);
    let size = aws_sdk_sqs::types::QueueAttributeName::MaximumMessageSize;
    client.set_queue_attributes().queue_url(&f.dead_url).attributes(size, "262144").send().await.unwrap();
    let big = "x".repeat(1_000_000);
    f.inbox.dead_letter(&big, "why").await.unwrap();
    let (body, reason, bytes) = take(&client, &f.dead_url).await;
    assert!(big.starts_with(&body) && body.len() > 200_000, "{}", body.len());
    assert_eq!((reason.as_deref(), bytes.as_deref()), (Some("why"), Some("1000000")));
    f.config.dead_letter_url = None;
    f.inbox = SqsInbox::connect(f.config).await;
    f.inbox.dead_letter(&big, "why").await.unwrap();
    assert_eq!(f.producer.depth(&f.dead_url).await.unwrap().waiting, 0, "none configured: nothing is sent");
}

#[tokio::test]
async fn errors_say_whether_waiting_helps() {
    let Some(f) = fixture("errors").await else { return };
    let missing = SqsConfig::new("jobs", QueueAddress::Name("no-such-queue".to_owned()), f.endpoint.clone());
    let error = SqsInbox::connect(missing).await.receive().await.unwrap_err();
    assert!(matches!(&error, InboxError::Refused { .. }), "{error}");
    assert!(
        error.to_string().contains("QueueDoesNotExist") || error.to_string().contains("NonExistentQueue"),
        "{error}"
    );
    let mut nowhere = SqsConfig::new("jobs", QueueAddress::Name("q".to_owned()), f.endpoint.clone());
    nowhere.endpoint.url = Some("http://127.0.0.1:1".to_owned());
    nowhere.wait = Duration::ZERO;
    let error = SqsInbox::connect(nowhere).await.receive().await.unwrap_err();
    assert!(matches!(&error, InboxError::Unavailable { .. }), "{error}");
}
