//! Against a receiver that says what it is told to.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use yard_domain::{JobId, SubscriptionId};

use super::*;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

fn message() -> PushMessage {
    PushMessage {
        id: "evt_1".to_owned(),
        subscription: SubscriptionId { team: "ads".parse().unwrap(), name: "hook".parse().unwrap() },
        lane: JobId::new(1, [0; 10]),
        sent_unix_s: 1_614_265_330,
        body: "{\"type\":\"end\"}".to_owned(),
    }
}

fn open() -> AddressPolicy {
    AddressPolicy { allow_private: true, allow_http: true, ..AddressPolicy::default() }
}

fn webhook(url: String, policy: AddressPolicy) -> Webhook {
    let secrets = [SECRET, OTHER].map(|s| Secret::parse(s).unwrap()).to_vec();
    Webhook::new(WebhookConfig { url, secrets, timeout: Duration::from_secs(2), policy }).unwrap()
}

/// A receiver that answers once; what it was sent.
async fn receiver(answer: String) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://localhost:{}/hook?a=b", listener.local_addr().unwrap().port());
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut got = Vec::new();
        let mut buffer = [0; 4_096];
        while !got.ends_with(b"{\"type\":\"end\"}") {
            let n = stream.read(&mut buffer).await.unwrap();
            assert!(n > 0);
            got.extend_from_slice(&buffer[..n]);
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(got).unwrap()
    });
    (url, task)
}

async fn answered(answer: &str) -> Result<(), PushError> {
    let (url, task) = receiver(format!("HTTP/1.1 {answer}")).await;
    let result = webhook(url, open()).send(&message()).await;
    task.await.unwrap();
    result
}

#[tokio::test]
async fn a_message_is_signed_by_each_secret() {
    let (url, task) = receiver("HTTP/1.1 204 No Content\r\n\r\n".to_owned()).await;
    webhook(url, open()).send(&message()).await.unwrap();
    let got = task.await.unwrap();
    assert!(got.starts_with("POST /hook?a=b HTTP/1.1\r\n"), "{got}");
    let header = |name: &str| {
        let line = got.lines().find(|line| line.starts_with(&format!("{name}: "))).unwrap();
        line.split_once(": ").unwrap().1.to_owned()
    };
    assert_eq!((header("webhook-id"), header("webhook-timestamp")), ("evt_1".into(), "1614265330".into()));
    let sign = |secret| Secret::parse(secret).unwrap().sign("evt_1", 1_614_265_330, "{\"type\":\"end\"}");
    assert_eq!(header("webhook-signature"), format!("{} {}", sign(SECRET), sign(OTHER)));
    assert_eq!(header("content-type"), "application/json");
}

#[tokio::test]
async fn answers_say_whether_to_come_again() {
    let failed = |reason: &str, wait: Option<u64>| {
        Err(PushError::Failed { reason: reason.to_owned(), wait: wait.map(Duration::from_secs) })
    };
    let long = "x".repeat(9_000);
    assert_eq!(answered(&format!("200 OK\r\ncontent-length: 9000\r\n\r\n{long}")).await, Ok(()));
    assert_eq!(
        answered("500 Internal Server Error\r\ncontent-length: 9\r\n\r\nbro\x1bken \n").await,
        failed("the receiver answered 500 Internal Server Error: bro ken", None)
    );
    assert_eq!(
        answered("503 Service Unavailable\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n").await,
        failed("the receiver answered 503 Service Unavailable", Some(7))
    );
    let gone = answered("410 Gone\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(gone, Err(PushError::Gone("the receiver answered 410 Gone".to_owned())));
    let moved = answered("302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n").await;
    assert!(
        matches!(&moved, Err(PushError::Failed { reason, .. }) if reason.contains("not followed")),
        "{moved:?}"
    );
    let endless = answered(&format!("400 Bad Request\r\ncontent-length: 999999\r\n\r\n{long}")).await;
    let Err(PushError::Failed { reason, .. }) = endless else { panic!("{endless:?}") };
    assert!(reason.len() < 300, "{reason}");
}

#[tokio::test]
async fn what_is_not_allowed_is_not_called() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let refused =
        async |host: &str, policy: AddressPolicy| match webhook(format!("http://{host}:{port}/"), policy)
            .send(&message())
            .await
        {
            Err(PushError::Failed { reason, .. }) => reason,
            other => panic!("{host}: {other:?}"),
        };
    let strict = AddressPolicy { allow_http: true, ..AddressPolicy::default() };
    for host in ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "2130706433"] {
        let reason = refused(host, strict.clone()).await;
        assert!(reason.contains("private or special address"), "{host}: {reason}");
    }
    let plain = AddressPolicy { allow_private: true, ..AddressPolicy::default() };
    assert!(refused("127.0.0.1", plain).await.contains("push.allow_http"));
    let none_came = tokio::time::timeout(Duration::from_millis(1), listener.accept()).await;
    assert!(none_came.is_err());
}

#[tokio::test]
async fn a_receiver_that_is_not_there_or_says_nothing_may_be_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/secret-path", listener.local_addr().unwrap());
    let mut silent = webhook(url.clone(), open());
    silent.config.timeout = Duration::from_millis(50);
    let silent = Webhook::new(silent.config).unwrap();
    let reason = silent.send(&message()).await.unwrap_err().to_string();
    assert!(reason.contains("timed out") && !reason.contains("secret-path"), "{reason}");
    drop(listener);
    let error = webhook(url, open()).send(&message()).await.unwrap_err();
    assert!(
        matches!(&error, PushError::Failed { reason, wait: None } if !reason.contains("secret-path")),
        "{error}"
    );
}

#[test]
fn only_http_with_a_host_is_a_receiver() {
    for url in ["ftp://a.example/", "https:///", "nonsense"] {
        let config = WebhookConfig {
            url: url.to_owned(),
            secrets: Vec::new(),
            timeout: Duration::from_secs(1),
            policy: AddressPolicy::default(),
        };
        assert!(matches!(Webhook::new(config), Err(WebhookError::Url(_))), "{url}");
    }
}
