//! What stands around every handler: limits, cross-site requests, panics, metrics. Who may do what is [`crate::access`]'s.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::csrf::{CsrfLayer, ProtectionError};
use tracing::error;
use uuid::Uuid;
use yard_wire::views::ProblemCode;

use crate::config::ServerConfig;
use crate::problem::ApiError;

/// This request's own id: in the answer's `x-request-id`, and in the receipt of a submission.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) String);

/// Puts limits around the API's routes.
pub(crate) fn guard(routes: Router, config: &ServerConfig) -> Router {
    let slots = Arc::new(Semaphore::new(config.concurrency_max.clamp(1, Semaphore::MAX_PERMITS)));
    let timeout = config.request_timeout;
    routes
        .layer(DefaultBodyLimit::max(config.body_max_bytes))
        .layer(middleware::from_fn(move |request: Request, next: Next| async move {
            let late = |_| {
                ApiError::new(ProblemCode::Timeout, "it may still take effect: look before sending it again")
            };
            tokio::time::timeout(timeout, next.run(request)).await.map_err(late)
        }))
        // A page of another site, open in a browser that can reach this server, must not be able to act here.
        .layer(CsrfLayer::new().with_rejection_response(|_: ProtectionError| {
            ApiError::new(ProblemCode::CrossSite, "it comes from a page of another site").into_response()
        }))
        .layer(middleware::from_fn_with_state(slots, limit_concurrency))
}

/// Puts what every route has around all of them: ids, metrics, and an answer even to a panic.
pub(crate) fn surround(routes: Router) -> Router {
    routes.layer(CatchPanicLayer::custom(|panic| answer_panic(&panic))).layer(middleware::from_fn(observe))
}

async fn limit_concurrency(State(slots): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    match slots.try_acquire() {
        Ok(_slot) => next.run(request).await,
        Err(_) => ApiError::new(ProblemCode::Busy, "send it again in a moment").into_response(),
    }
}

fn answer_panic(panic: &Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    error!(panic = text, "a handler panicked");
    ApiError::new(ProblemCode::Internal, "this is a fault of the server; its log says more").into_response()
}

async fn observe(mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = Uuid::new_v4().to_string();
    let method = request.method().as_str().to_owned();
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = next.run(request).await;
    let status = response.status();
    if let Ok(value) = HeaderValue::try_from(&id) {
        response.headers_mut().insert("x-request-id", value);
    }
    metrics::histogram!("yard_http_request_seconds", "route" => route.clone())
        .record(started.elapsed().as_secs_f64());
    metrics::counter!("yard_http_requests_total", "method" => known(&method), "route" => route, "status" => class(status))
        .increment(1);
    response
}

/// Methods are the client's word: only known ones become labels.
fn known(method: &str) -> &'static str {
    ["GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"]
        .into_iter()
        .find(|m| *m == method)
        .unwrap_or("other")
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body;
    use axum::routing::get;
    use tokio::sync::Notify;
    use tower::ServiceExt;

    use super::*;

    async fn ask(app: Router, request: Request) -> (u16, serde_json::Value) {
        let response = app.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    fn to(path: &str) -> Request {
        Request::get(path).body(Body::empty()).unwrap()
    }

    #[tokio::test]
    async fn a_panic_is_an_answer() {
        #[expect(clippy::panic, reason = "what is tested")]
        async fn bad() {
            panic!("secret detail");
        }
        let app = surround(guard(Router::new().route("/", get(bad)), &ServerConfig::default()));
        let (status, problem) = ask(app, to("/")).await;
        assert_eq!((status, problem["code"].as_str()), (500, Some("internal")));
        assert!(!problem.to_string().contains("secret"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_too_long_is_cut_off() {
        let slow = get(async || tokio::time::sleep(Duration::from_mins(10)).await);
        let config = ServerConfig { request_timeout: Duration::from_secs(3), ..ServerConfig::default() };
        let app = surround(guard(Router::new().route("/", slow), &config));
        let started = tokio::time::Instant::now();
        let (status, problem) = ask(app, to("/")).await;
        assert_eq!((status, problem["code"].as_str()), (504, Some("timeout")));
        assert_eq!(started.elapsed().as_secs(), 3);
    }

    #[tokio::test]
    async fn beyond_the_limit_requests_are_told_to_come_back() {
        let (inside, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let handler = {
            let (inside, go) = (inside.clone(), go.clone());
            get(async move || {
                inside.notify_one();
                go.notified().await;
            })
        };
        let config = ServerConfig { concurrency_max: 1, ..ServerConfig::default() };
        let app = surround(guard(Router::new().route("/", handler), &config));
        let first = tokio::spawn(ask(app.clone(), to("/")));
        inside.notified().await;
        let busy = app.clone().oneshot(to("/")).await.unwrap();
        assert_eq!((busy.status().as_u16(), busy.headers()["retry-after"].to_str().unwrap()), (503, "1"));
        go.notify_one();
        assert_eq!(first.await.unwrap().0, 200);
        go.notify_one();
        assert_eq!(ask(app, to("/")).await.0, 200);
    }

    #[tokio::test]
    async fn a_page_of_another_site_can_look_but_not_act() {
        let handler = get(async || "ok").post(async || "ok");
        let app = surround(guard(Router::new().route("/", handler), &ServerConfig::default()));
        let request = |method: &str, name: &str, value: &str| {
            let request = Request::builder().method(method).uri("/").header("host", "127.0.0.1:8920");
            request.header(name, value).body(Body::empty()).unwrap()
        };
        let (status, problem) = ask(app.clone(), request("POST", "sec-fetch-site", "cross-site")).await;
        assert_eq!((status, problem["code"].as_str()), (403, Some("cross_site")));
        assert_eq!(ask(app.clone(), request("POST", "origin", "http://evil.example")).await.0, 403);
        assert_eq!(ask(app.clone(), request("POST", "sec-fetch-site", "same-origin")).await.0, 200);
        assert_eq!(ask(app.clone(), request("POST", "accept", "*/*")).await.0, 200);
        assert_eq!(ask(app, request("GET", "sec-fetch-site", "cross-site")).await.0, 200);
    }
}
