//! The one place where a request is let in or not: who is asking, may they do this at all, do they ask too often; and the
//! line in the audit log, if it changes something.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::error;
use yard_domain::{AuditEntry, Right};
use yard_wire::views::ProblemCode;

use super::caller::{Asked, Caller};
use super::lapse::Lapse;
use super::rules::{self, Who};
use crate::layers::RequestId;
use crate::problem::ApiError;
use crate::state::AppState;

/// Ray's own clients send the token here, too, for proxies that take the usual header for themselves.
const RAY_HEADER: &str = "x-ray-authorization";
/// Longest wait for the audit log: an answer is not held up for longer.
const AUDIT_TIMEOUT: Duration = Duration::from_secs(2);

/// See the module.
pub(crate) async fn gate(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let Some(rule) = rules::find(request.method(), path) else {
        let detail = "nobody may do this: there is no rule for it";
        return ApiError::new(ProblemCode::Forbidden, detail).into_response();
    };
    let right = match rule.who {
        Who::Anybody | Who::Link => return next.run(request).await,
        Who::Metrics(_) if state.access.open_metrics() => return next.run(request).await,
        Who::Has(right) | Who::Metrics(right) => right,
    };
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let caller = match enter(&state, request.headers(), address).await {
        Ok(caller) => caller,
        Err(error) => return error.into_response(),
    };
    let Some(action) = rule.action else {
        return match permit(&caller, right) {
            Ok(()) => {
                let lapse = Lapse::new(&state.access, bearer(request.headers()).ok().flatten());
                request.extensions_mut().insert(caller);
                request.extensions_mut().insert(lapse.clone());
                lapse.bound(next.run(request).await)
            }
            Err(error) => error.into_response(),
        };
    };
    let id = request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
    let asked = Asked { action, path: request.uri().path().to_owned(), request: id };
    let response = match permit(&caller, right) {
        Ok(()) => {
            request.extensions_mut().insert(caller.clone());
            next.run(request).await
        }
        Err(error) => error.into_response(),
    };
    if let Some(entry) = caller.audit(asked, failure(&response)) {
        write(&state, &entry).await;
    }
    response
}

async fn enter(state: &AppState, headers: &HeaderMap, address: Option<IpAddr>) -> Result<Caller, ApiError> {
    let asked = state.access.authenticate(bearer(headers)?, address);
    let late = |_| ApiError::new(ProblemCode::Timeout, "who is asking could not be found out in time");
    let caller = tokio::time::timeout(state.config.request_timeout, asked).await.map_err(late)??;
    state.access.count(&caller)?;
    Ok(caller)
}

fn permit(caller: &Caller, right: Right) -> Result<(), ApiError> {
    if caller.grant().may_somewhere(right) {
        return Ok(());
    }
    let (least, reach) = right.needs();
    let whole = if reach == yard_domain::access::Reach::Whole { " of every team" } else { "" };
    let detail = format!("this takes a {least}{whole}; you are a {}", caller.grant().role());
    Err(ApiError::new(ProblemCode::Forbidden, detail))
}

/// The token that was sent, if one was.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let Some(value) = headers.get(header::AUTHORIZATION).or_else(|| headers.get(RAY_HEADER)) else {
        return Ok(None);
    };
    let token = value.to_str().ok().and_then(|text| text.split_once(' '));
    let token =
        token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    let wrong = || super::refused("the Authorization header is not of the form: Bearer TOKEN");
    token.filter(|token| !token.is_empty()).map(Some).ok_or_else(wrong)
}

/// The code of the problem that was answered, if it was one.
fn failure(response: &Response) -> Option<String> {
    let status = response.status();
    if status.is_success() {
        return None;
    }
    let code = response.extensions().get::<ProblemCode>().map(|code| code.parts().0.to_owned());
    Some(code.unwrap_or_else(|| format!("http_{}", status.as_u16())))
}

/// The change has been made: if its line can't be written now, it is kept in the process's log.
async fn write(state: &AppState, entry: &AuditEntry) {
    let written = tokio::time::timeout(AUDIT_TIMEOUT, state.store.write_audit(entry)).await;
    let problem = match written {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the database does not answer in time".to_owned(),
    };
    metrics::counter!("yard_audit_failures_total").increment(1);
    let AuditEntry { actor, address, action, target, result, request } = entry;
    error!(
        problem,
        actor, address, action, target, result, request, "a line of the audit log could not be written"
    );
}
