//! Calls to the API server: who we are to it, timeouts, and what each kind of failure means.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use k8s_openapi::jiff::Timestamp;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};
use yard_ports::DriverError;

use crate::config::{Access, KubeRayConfig};

/// A client whose credentials end is made anew this long before.
const RENEW_BEFORE: i64 = 30;
/// Longest that is waited when the API server says 'later'.
const LATER_MAX: Duration = Duration::from_secs(30);
/// How much of an answer's text is shown, in bytes.
const TEXT_MAX: usize = 600;

/// The API server of one cluster. The client is made at the first call, and again whenever its credentials have ended or
/// are refused: kubeconfigs and exec plugins are asked anew then.
pub(crate) struct Api {
    access: Access,
    connect_timeout: Duration,
    answer_bytes_max: usize,
    client: tokio::sync::Mutex<Option<Client>>,
    not_before: Mutex<Option<Instant>>,
}

/// A call.
pub(crate) struct Call<'a> {
    /// Its name in metrics.
    pub(crate) name: &'static str,
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: &'a str,
    pub(crate) body: Option<Bytes>,
    pub(crate) timeout: Duration,
}

/// An answer that is not a success.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// `AlreadyExists`, `Invalid`, …; empty if it comes from behind a proxy.
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// Why a call brought nothing.
#[derive(Debug)]
pub(crate) enum CallError {
    /// There was an answer, and it says no.
    Refusal(Refusal),
    /// There was none (or none to be understood), which says what about the effect.
    Driver(DriverError),
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
}

impl Api {
    pub(crate) fn new(config: &KubeRayConfig) -> Self {
        Self {
            access: config.access.clone(),
            connect_timeout: config.connect_timeout,
            answer_bytes_max: config.answer_bytes_max,
            client: tokio::sync::Mutex::default(),
            not_before: Mutex::default(),
        }
    }

    /// The client as it is now.
    pub(crate) async fn client(&self) -> Result<Client, DriverError> {
        let mut kept = self.client.lock().await;
        if let Some(client) = kept.as_ref().filter(|client| is_valid(client)) {
            return Ok(client.clone());
        }
        let unusable = |what: &str, error: &dyn std::error::Error| {
            DriverError::Unauthorized(format!("{what}: {}", chain(error)))
        };
        let mut config = match &self.access {
            Access::InCluster => {
                Config::incluster().map_err(|e| unusable("the pod's service account", &e))?
            }
            Access::Kubeconfig { path, context } => {
                let what = format!("kubeconfig {}", path.display());
                let file = Kubeconfig::read_from(path).map_err(|e| unusable(&what, &e))?;
                let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
                Config::from_custom_kubeconfig(file, &options).await.map_err(|e| unusable(&what, &e))?
            }
        };
        config.connect_timeout = Some(self.connect_timeout);
        // Each call has its own; a watch is quiet for as long as nothing happens.
        config.read_timeout = None;
        // Exec plugins are run here, and block.
        let made = tokio::task::spawn_blocking(move || Client::try_from(config)).await;
        let client = made.map_err(|e| unusable("the client", &e))?.map_err(|e| unusable("the client", &e))?;
        *kept = Some(client.clone());
        Ok(client)
    }

    /// Makes the next call ask for credentials anew.
    pub(crate) async fn renew(&self) {
        self.client.lock().await.take();
    }

    /// Makes a call and reads its answer.
    pub(crate) async fn call(&self, call: Call<'_>) -> Result<Bytes, CallError> {
        let (name, started, longest) = (call.name, Instant::now(), call.timeout);
        self.wait_until_wanted(longest).await?;
        let result = match timeout(longest, self.exchange(call)).await {
            Ok(result) => result,
            Err(_) => Err(driver(DriverError::Unclear(format!("no answer within {} s", longest.as_secs())))),
        };
        metrics::histogram!("yard_kube_call_seconds", "call" => name).record(started.elapsed().as_secs_f64());
        if let Err(CallError::Refusal(refusal)) = &result
            && refusal.status == StatusCode::UNAUTHORIZED
        {
            self.renew().await;
        }
        result
    }

    /// Makes a call whose answer is JSON.
    pub(crate) async fn read<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T, CallError> {
        let body = self.call(call).await?;
        serde_json::from_slice(&body)
            .map_err(|error| driver(DriverError::Unclear(format!("its answer can't be read: {error}"))))
    }

    async fn exchange(&self, call: Call<'_>) -> Result<Bytes, CallError> {
        let client = self.client().await.map_err(driver)?;
        let content =
            if call.method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let request = Request::builder()
            .method(call.method)
            .uri(call.path)
            .header(header::CONTENT_TYPE, content)
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("switchyard/", env!("CARGO_PKG_VERSION")))
            .body(Body::from(call.body.unwrap_or_default()))
            .map_err(|error| driver(DriverError::Refused(error.to_string())))?;
        let response = client.send(request).await.map_err(|error| driver(kind_of(&error)))?;
        let (parts, mut stream) = response.into_parts();
        let mut body = BytesMut::new();
        while let Some(frame) = stream.frame().await {
            let frame = frame.map_err(|error| driver(DriverError::Unclear(chain(&error))))?;
            let Ok(data) = frame.into_data() else { continue };
            if body.len() + data.len() > self.answer_bytes_max {
                let limit = self.answer_bytes_max;
                return Err(driver(DriverError::Refused(format!("its answer is longer than {limit} bytes"))));
            }
            body.extend_from_slice(&data);
        }
        if parts.status.is_success() {
            return Ok(body.freeze());
        }
        if parts.status == StatusCode::TOO_MANY_REQUESTS {
            self.come_later(&parts.headers);
        }
        Err(CallError::Refusal(Refusal::new(parts.status, &body)))
    }

    /// Keeps to what the API server said of when it wants to be asked again.
    async fn wait_until_wanted(&self, longest: Duration) -> Result<(), CallError> {
        let until = *self.not_before.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(until) = until.filter(|until| *until > Instant::now()) else { return Ok(()) };
        if until > Instant::now() + longest {
            return Err(driver(DriverError::Unreachable(
                "the API server wants to be asked later".to_owned(),
            )));
        }
        tokio::time::sleep_until(until).await;
        Ok(())
    }

    fn come_later(&self, headers: &HeaderMap) {
        let said = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let pause = Duration::from_secs(said.unwrap_or(1)).min(LATER_MAX);
        metrics::counter!("yard_kube_throttled_total").increment(1);
        *self.not_before.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + pause);
    }
}

impl<'a> Call<'a> {
    pub(crate) fn get(name: &'static str, path: &'a str, timeout: Duration) -> Self {
        Self { name, method: Method::GET, path, body: None, timeout }
    }
}

fn is_valid(client: &Client) -> bool {
    let limit = Timestamp::now().as_second() + RENEW_BEFORE;
    client.valid_until().as_ref().is_none_or(|until| until.as_second() > limit)
}

impl Refusal {
    fn new(status: StatusCode, body: &[u8]) -> Self {
        match serde_json::from_slice::<Status>(body) {
            Ok(Status { reason, message }) if !message.is_empty() => {
                Self { status, reason, message: short(&message) }
            }
            _ => Self { status, reason: String::new(), message: short(&String::from_utf8_lossy(body)) },
        }
    }

    /// What it means if the call has nothing more to say about it.
    pub(crate) fn error(&self) -> DriverError {
        let said = if self.message.is_empty() { self.status.to_string() } else { self.message.clone() };
        match self.status.as_u16() {
            401 => DriverError::Unauthorized(format!("401: {said}")),
            // A webhook or policy that says no to this very object.
            403 if said.contains("denied the request") => DriverError::Refused(said),
            // There is no room under a ResourceQuota now.
            403 if said.contains("exceeded quota") => DriverError::Unreachable(said),
            // It names the verb and the resource.
            403 => DriverError::Unauthorized(said),
            404 => DriverError::NotFound,
            400 | 405 | 406 | 413 | 415 | 422 => DriverError::Refused(said),
            408 | 500.. => DriverError::Unclear(format!("{}: {said}", self.status.as_u16())),
            _ => DriverError::Unreachable(format!("{}: {said}", self.status.as_u16())),
        }
    }
}

impl From<CallError> for DriverError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refusal(refusal) => refusal.error(),
            CallError::Driver(error) => error,
        }
    }
}

fn driver(error: DriverError) -> CallError {
    CallError::Driver(error)
}

/// What a failure of the client says about the effect.
pub(crate) fn kind_of(error: &kube::Error) -> DriverError {
    if let kube::Error::Api(status) = error {
        let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        return Refusal { status: code, reason: status.reason.clone(), message: short(&status.message) }
            .error();
    }
    let said = chain(error);
    if matches!(error, kube::Error::Auth(_) | kube::Error::InferConfig(_) | kube::Error::InferKubeconfig(_)) {
        return DriverError::Unauthorized(said);
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        let legacy = inner.downcast_ref::<hyper_util::client::legacy::Error>();
        if legacy.is_some_and(hyper_util::client::legacy::Error::is_connect) {
            return DriverError::Unreachable(said);
        }
        cause = inner.source();
    }
    DriverError::Unclear(said)
}

/// The whole chain of causes: it ends here, in a text.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        cause = inner.source();
    }
    short(&said)
}

fn short(text: &str) -> String {
    let text = text.trim();
    let edge = (0..=TEXT_MAX.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    text[..edge].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, body: &str) -> DriverError {
        Refusal::new(StatusCode::from_u16(status).unwrap(), body.as_bytes()).error()
    }

    #[test]
    fn each_answer_says_what_may_be_done_about_it() {
        let said = |message: &str| {
            serde_json::json!({"kind": "Status", "message": message, "reason": "x"}).to_string()
        };
        let verb = "rayjobs.ray.io is forbidden: User \"u\" cannot create resource \"rayjobs\"";
        assert!(matches!(error(403, &said(verb)), DriverError::Unauthorized(text) if text == verb));
        let hook = "admission webhook \"v\" denied the request: no";
        assert!(matches!(error(403, &said(hook)), DriverError::Refused(_)));
        assert!(matches!(error(403, &said("exceeded quota: q")), DriverError::Unreachable(_)));
        assert!(matches!(error(401, ""), DriverError::Unauthorized(_)));
        assert!(matches!(error(404, &said("not found")), DriverError::NotFound));
        assert!(matches!(error(422, &said("spec.x")), DriverError::Refused(_)));
        assert!(matches!(error(429, "slow down"), DriverError::Unreachable(_)));
        assert!(matches!(error(409, &said("exists")), DriverError::Unreachable(_)));
        assert!(matches!(error(503, "no endpoints"), DriverError::Unclear(_)));
        assert!(matches!(error(500, ""), DriverError::Unclear(_)));
    }
}
