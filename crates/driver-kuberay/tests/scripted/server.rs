//! An API server that answers as a test says.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A call, as it came.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: String,
    pub path: String,
    pub body: String,
}

/// What becomes of it.
#[derive(Debug, Clone)]
pub enum Answer {
    /// An answer; the connection is closed after it, unless it is to stay open.
    Say { code: u16, headers: String, body: String, stays_open: bool },
    /// The connection is closed without a word.
    Cut,
    /// Nothing, for ever.
    Never,
}

impl Answer {
    pub fn json(code: u16, body: &Value) -> Self {
        Self::text(code, &body.to_string())
    }

    pub fn text(code: u16, body: &str) -> Self {
        let headers = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        Self::Say { code, headers, body: body.to_owned(), stays_open: false }
    }

    /// Events of a watch, which then ends.
    pub fn stream(events: &[Value]) -> Self {
        let lines: Vec<String> = events.iter().map(ToString::to_string).collect();
        let body = lines.join("\n") + "\n";
        Self::Say {
            code: 200,
            headers: "Content-Type: application/json\r\n".to_owned(),
            body,
            stays_open: false,
        }
    }

    /// Events of a watch, which then goes on in silence.
    pub fn stream_on(events: &[Value]) -> Self {
        match Self::stream(events) {
            Self::Say { code, headers, body, .. } => Self::Say { code, headers, body, stays_open: true },
            other => other,
        }
    }

    pub fn with_header(self, line: &str) -> Self {
        match self {
            Self::Say { code, headers, body, stays_open } => {
                Self::Say { code, headers: format!("{headers}{line}\r\n"), body, stays_open }
            }
            other => other,
        }
    }
}

/// What a test says: from a call, and how many came before it, to an answer.
type Script = dyn Fn(&Call, usize) -> Answer + Send + Sync;

pub struct Server {
    port: u16,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Server {
    pub async fn begin(script: impl Fn(&Call, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let calls: Arc<Mutex<Vec<Call>>> = Arc::default();
        let (script, seen): (Arc<Script>, _) = (Arc::new(script), Arc::clone(&calls));
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, Arc::clone(&script), Arc::clone(&seen)));
            }
        });
        Self { port, calls }
    }

    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// How many calls came.
    pub fn calls(&self) -> usize {
        self.calls.lock().unwrap().len()
    }

    /// Whether a call with this method and this in its body came.
    pub fn saw(&self, method: &str, part: &str) -> bool {
        self.calls.lock().unwrap().iter().any(|call| call.method == method && call.body.contains(part))
    }
}

async fn serve(mut connection: TcpStream, script: Arc<Script>, calls: Arc<Mutex<Vec<Call>>>) {
    let Some(call) = read(&mut connection).await else { return };
    let answer = {
        let mut calls = calls.lock().unwrap();
        let answer = script(&call, calls.len());
        calls.push(call);
        answer
    };
    match answer {
        Answer::Cut => {}
        Answer::Never => std::future::pending().await,
        Answer::Say { code, headers, body, stays_open } => {
            let text = format!("HTTP/1.1 {code} X\r\n{headers}Connection: close\r\n\r\n{body}");
            // The other side may have gone.
            _ = connection.write_all(text.as_bytes()).await;
            _ = connection.flush().await;
            if stays_open {
                std::future::pending::<()>().await;
            }
        }
    }
}

async fn read(connection: &mut TcpStream) -> Option<Call> {
    let mut text = Vec::new();
    let head_end = loop {
        if let Some(end) = text.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        if connection.read_buf(&mut text).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&text[..head_end]).into_owned();
    let length = head
        .lines()
        .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.trim().parse().ok());
    while text.len() < head_end + length.unwrap_or(0) {
        connection.read_buf(&mut text).await.ok()?;
    }
    let mut words = head.split(' ');
    Some(Call {
        method: words.next()?.to_owned(),
        path: words.next()?.to_owned(),
        body: String::from_utf8_lossy(&text[head_end..]).into_owned(),
    })
}
