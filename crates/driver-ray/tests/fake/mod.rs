//! A server that speaks just enough HTTP to fail as a real Ray head can't be made to.

use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What came in.
#[derive(Debug, Clone)]
pub struct Received {
    /// `POST /api/jobs/`.
    pub line: String,
    /// The `authorization` header.
    pub authorization: Option<String>,
    /// The body, as JSON.
    pub body: serde_json::Value,
}

/// What goes out.
pub enum Reply {
    /// An answer.
    Status(u16, String),
    /// A redirect.
    Redirect(String),
    /// The connection is cut without one.
    Cut,
    /// Nothing, for ever.
    Hang,
}

impl Reply {
    /// 200 with JSON.
    pub fn json(value: &serde_json::Value) -> Self {
        Self::Status(200, value.to_string())
    }
}

type Handler = dyn Fn(Received) -> BoxFuture<'static, Reply> + Send + Sync;

/// A running server; ends with the test's runtime.
pub struct Fake {
    /// Its base address.
    pub address: String,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Fake {
    /// Starts one whose every answer is `handler`'s.
    pub async fn start(
        handler: impl Fn(Received) -> BoxFuture<'static, Reply> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let received = Arc::new(Mutex::new(Vec::new()));
        let (log, handler): (_, Arc<Handler>) = (Arc::clone(&received), Arc::new(handler));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, Arc::clone(&handler), Arc::clone(&log)));
            }
        });
        Self { address, received }
    }

    /// What has come in so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

/// One request per connection.
async fn serve(mut stream: TcpStream, handler: Arc<Handler>, log: Arc<Mutex<Vec<Received>>>) {
    let Some(received) = receive(&mut stream).await else { return };
    log.lock().unwrap().push(received.clone());
    let (status, headers, body) = match handler(received).await {
        Reply::Status(status, body) => (status, String::new(), body),
        Reply::Redirect(to) => (302, format!("location: {to}\r\n"), String::new()),
        Reply::Cut => return,
        Reply::Hang => std::future::pending().await,
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    );
    // The client may have gone away: no matter.
    let _ = stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await;
}

async fn receive(stream: &mut TcpStream) -> Option<Received> {
    let mut bytes = Vec::new();
    loop {
        let head = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = head {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let header = |name: &str| {
                let line =
                    head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")))?;
                Some(line[name.len() + 1..].trim().to_owned())
            };
            let length = header("content-length").map_or(0, |length| length.parse().unwrap());
            if bytes.len() >= end + 4 + length {
                let body = serde_json::from_slice(&bytes[end + 4..]).unwrap_or_default();
                let line = head.lines().next()?.trim_end_matches(" HTTP/1.1").to_owned();
                return Some(Received { line, authorization: header("authorization"), body });
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}
