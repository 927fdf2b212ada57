//! HTTP, and its errors on one line.

use std::time::Duration;

use reqwest::{Method, Response, StatusCode, Url};
use serde_json::Value;
use yard_wire::views::{Problem, ProblemCode};

use crate::args::Global;
use crate::exit::{self, Failure};
use crate::show::clean;

/// Longest time for an answer that is not a stream.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Longest time until a connection stands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to one server.
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<String>,
}

impl Client {
    /// For the server named on the command line.
    pub fn new(global: &Global) -> Result<Self, Failure> {
        let wrong = |e: String| {
            Failure::new(
                exit::USAGE,
                format!("--server {:?} is not a URL such as http://127.0.0.1:8920: {e}", global.server),
            )
        };
        let mut base = Url::parse(&global.server).map_err(|e| wrong(e.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(wrong("it must begin with http:// or https://".to_owned()));
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        // The provider is process-wide; a second installation is refused, which is fine.
        _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).build();
        let http =
            http.map_err(|e| Failure::new(exit::UNAVAILABLE, format!("can't set up HTTP: {}", chain(&e))))?;
        Ok(Self { http, base, token: token(global)? })
    }

    /// The URL of a path of segments, each percent-encoded as needed.
    fn url(&self, segments: &[&str], query: &[(&str, String)]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// Sends a request and returns the answer, whatever its status. A body comes with its media type.
    pub async fn send(
        &self,
        method: Method,
        segments: &[&str],
        query: &[(&str, String)],
        body: Option<(&'static str, String)>,
        timeout: Option<Duration>,
    ) -> Result<Response, Failure> {
        let mut request = self.http.request(method, self.url(segments, query));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        // JSON unless a route has something else to give: then it is asked for by name.
        request = request.header("accept", "application/json, */*;q=0.5");
        if let Some((kind, body)) = body {
            request = request.header("content-type", kind).body(body);
        }
        if let Some(timeout) = timeout {
            request = request.timeout(timeout);
        }
        request.send().await.map_err(|e| self.unreachable(&e))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let base = self.base.as_str().trim_end_matches('/');
        let message = if error.is_connect() {
            format!(
                "can't reach {base}: start it with `yard serve` or `yard dev`, or set --server ({})",
                chain(error)
            )
        } else {
            format!("no answer from {base}: {}", chain(error))
        };
        Failure::new(exit::UNAVAILABLE, message)
    }

    /// GET, for JSON.
    pub async fn get(&self, segments: &[&str], query: &[(&str, String)]) -> Result<Value, Failure> {
        let response = self.send(Method::GET, segments, query, None, Some(TIMEOUT)).await?;
        self.json(response).await.map(|(_, value)| value)
    }

    /// POST, for JSON.
    pub async fn post(&self, segments: &[&str], body: String) -> Result<(StatusCode, Value), Failure> {
        let body = Some(("application/json", body));
        let response = self.send(Method::POST, segments, &[], body, Some(TIMEOUT)).await?;
        self.json(response).await
    }

    /// POST without a body, for JSON.
    pub async fn post_query(&self, segments: &[&str], query: &[(&str, String)]) -> Result<Value, Failure> {
        let response = self.send(Method::POST, segments, query, None, Some(TIMEOUT)).await?;
        self.json(response).await.map(|(_, value)| value)
    }

    /// DELETE, for JSON.
    pub async fn delete(&self, segments: &[&str]) -> Result<Value, Failure> {
        let response = self.send(Method::DELETE, segments, &[], None, Some(TIMEOUT)).await?;
        self.json(response).await.map(|(_, value)| value)
    }

    /// PUT of a TOML document, for JSON.
    pub async fn put_toml(
        &self,
        segments: &[&str],
        query: &[(&str, String)],
        text: String,
    ) -> Result<Value, Failure> {
        let body = Some(("application/toml", text));
        let response = self.send(Method::PUT, segments, query, body, Some(TIMEOUT)).await?;
        self.json(response).await.map(|(_, value)| value)
    }

    async fn json(&self, response: Response) -> Result<(StatusCode, Value), Failure> {
        let status = response.status();
        if !status.is_success() {
            return Err(problem(response).await);
        }
        let text = response.text().await.map_err(|e| self.unreachable(&e))?;
        let value = serde_json::from_str(&text).map_err(|e| {
            Failure::new(exit::UNAVAILABLE, format!("the answer is not JSON ({e}): is this a yard server?"))
        })?;
        Ok((status, value))
    }
}

/// The token of the command line or the environment, or out of the file that it names.
fn token(global: &Global) -> Result<Option<String>, Failure> {
    let wrong = |problem: String| Failure::new(exit::USAGE, problem);
    let token = match (&global.token, &global.token_file) {
        (Some(token), _) => token.trim().to_owned(),
        (None, Some(path)) => {
            let read = std::fs::read_to_string(path);
            read.map_err(|e| wrong(format!("--token-file {} can't be read: {e}", path.display())))?
                .trim()
                .to_owned()
        }
        (None, None) => return Ok(None),
    };
    // Not shown: it is a secret, even if it is no token.
    if token.is_empty() || token.bytes().any(|b| !b.is_ascii_graphic()) {
        return Err(wrong(
            "the token (YARD_TOKEN, --token or --token-file) is empty or has blanks in it".to_owned(),
        ));
    }
    Ok(Some(token))
}

/// A failure out of a problem document (RFC 9457): title, detail, and every field's error on a line of its own.
pub async fn problem(response: Response) -> Failure {
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    let code = match status {
        StatusCode::NOT_FOUND => exit::NOT_FOUND,
        StatusCode::CONFLICT
        | StatusCode::PRECONDITION_FAILED
        | StatusCode::UNPROCESSABLE_ENTITY
        | StatusCode::PAYLOAD_TOO_LARGE => exit::REJECTED,
        s if s.is_server_error() || s == StatusCode::TOO_MANY_REQUESTS => exit::UNAVAILABLE,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => exit::DENIED,
        _ => exit::USAGE,
    };
    let Ok(problem) = serde_json::from_str::<Problem>(&text) else {
        return Failure::new(code, format!("the server answered {status}: is this a yard server?"));
    };
    let mut message = match (&problem.title, &problem.detail) {
        (title, detail) if detail.is_empty() => title.clone(),
        (title, detail) => format!("{title}: {detail}"),
    };
    if status == StatusCode::UNAUTHORIZED {
        message.push_str(" (set YARD_TOKEN, or use --token-file)");
    }
    for error in &problem.errors {
        let place = if error.field.is_empty() { "the document" } else { &error.field };
        let line = error.line.map_or_else(String::new, |line| format!("line {line}: "));
        message.push_str("\n  ");
        message.push_str(&clean(&format!("{line}{place}: {}", error.message)));
    }
    let known = ProblemCode::from_code(&problem.code);
    Failure { problem: known, document: Some(Box::new(problem)), ..Failure::new(code, message) }
}

/// An error with its sources, once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut next = error.source();
    while let Some(error) = next {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        next = error.source();
    }
    if text.is_empty() { error.to_string() } else { text }
}
