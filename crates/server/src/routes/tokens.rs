//! `POST /v1/tokens`, `GET /v1/tokens`, `DELETE /v1/tokens/{id}`: API tokens.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::Value;
use yard_domain::{ApiToken, Grant, Role, TeamId, TeamScope, TokenId};
use yard_ports::access::NewToken;
use yard_wire::views::{
    EVERY_TEAM, FieldProblem, Problem, ProblemCode, TokenList, TokenMade, TokenRequest, TokenView,
};

use super::submit::json_body;
use crate::access::Caller;
use crate::access::token::FreshToken;
use crate::problem::ApiError;
use crate::query::Params;
use crate::state::AppState;

/// Tokens on a page unless the request says otherwise.
const PAGE: u32 = 100;
/// Longest name, in characters.
const NAME_CHARS_MAX: usize = 100;
/// Most teams of one token.
const TEAMS_MAX: usize = 100;
/// Longest life that has an end: a hundred years.
const LIFETIME_S_MAX: u64 = 100 * 366 * 86_400;
const FIELDS: [&str; 4] = ["name", "role", "teams", "expires_in_s"];

#[utoipa::path(
    post, path = "/v1/tokens", operation_id = "create_token", tag = "access", summary = "Make a token",
    description = "A team-admin makes them for teams of its own, with no higher role than its own. The token is in this answer and \
        nowhere else: only a hash of its secret is kept.",
    request_body = TokenRequest,
    responses(
        (status = 201, description = "Made", body = TokenMade),
        (status = 400, description = "The request is wrong: every error", body = Problem),
        (status = 403, description = "It is more than whoever asks may hand out", body = Problem),
    )
)]
pub(crate) async fn create(
    State(state): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<TokenMade>), ApiError> {
    let body = json_body(&headers, body, state.config.body_max_bytes)?;
    let document: Value = serde_json::from_slice(&body)
        .map_err(|e| ApiError::new(ProblemCode::BadRequest, format!("the body is not valid JSON: {e}")))?;
    let wanted = read(&document)?;
    if !caller.grant().covers(&wanted.grant) {
        let detail = "you can hand out tokens only for teams of your own, with no higher role than yours";
        return Err(ApiError::new(ProblemCode::Forbidden, detail));
    }
    let fresh = FreshToken::make().map_err(|e| {
        tracing::error!(error = e, "a token could not be made");
        ApiError::new(ProblemCode::Internal, "this is a fault of the server; its log says more")
    })?;
    caller.about(format!("token {} ({})", fresh.id, wanted.name));
    let new = NewToken {
        id: fresh.id,
        name: wanted.name,
        grant: wanted.grant,
        secret: fresh.secret,
        created_by: caller.actor(),
        lifetime: wanted.lifetime,
    };
    let kept = state.store.create_token(&new).await?;
    Ok((StatusCode::CREATED, Json(TokenMade { token: fresh.text, about: TokenView::from(&kept) })))
}

#[utoipa::path(
    get, path = "/v1/tokens", operation_id = "list_tokens", tag = "access", summary = "List tokens",
    description = "Those that whoever asks could have made: a team-admin sees those of teams of its own. Never a secret.",
    params(
        ("limit" = Option<u32>, Query, description = "At most this many; by default 100"),
        ("cursor" = Option<String>, Query, description = "Go on after a page: its `next`"),
    ),
    responses((status = 200, body = TokenList))
)]
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    mut params: Params,
) -> Result<Json<TokenList>, ApiError> {
    let limit = params.number("limit", 1, state.config.page_max).unwrap_or(PAGE.min(state.config.page_max));
    let mut after = params.one_as::<TokenId>("cursor", "the `next` of the page before");
    params.finish()?;
    let mut found: Vec<ApiToken> = Vec::new();
    let wanted = limit as usize + 1;
    // Others' tokens are passed over until the page is full.
    while found.len() < wanted {
        let read = state.store.tokens(after.as_ref(), state.config.page_max).await?;
        let Some(last) = read.last() else { break };
        after = Some(last.id.clone());
        let all = read.len() < state.config.page_max as usize;
        found.extend(read.into_iter().filter(|token| caller.grant().covers(&token.grant)));
        if all {
            break;
        }
    }
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next = if more { found.last().map(|token| token.id.to_string()) } else { None };
    Ok(Json(TokenList { tokens: found.iter().map(TokenView::from).collect(), next }))
}

#[utoipa::path(
    delete, path = "/v1/tokens/{id}", operation_id = "revoke_token", tag = "access", summary = "Revoke a token",
    description = "It ends at once on the server that answers, on others within `access.token_refresh_s`. Doing it again changes nothing.",
    params(("id" = String, Path, description = "The token's id")),
    responses(
        (status = 200, description = "It is revoked", body = TokenView),
        (status = 404, description = "There is no such token that you could have made", body = Problem),
    )
)]
pub(crate) async fn revoke(
    State(state): State<AppState>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<TokenView>, ApiError> {
    let unknown = || ApiError::not_found("there is no such token; GET /v1/tokens lists them");
    let id: TokenId = path.ok().and_then(|Path(text)| text.parse().ok()).ok_or_else(|| {
        // Not repeated: somebody may have sent the whole token.
        caller.about("a token");
        unknown()
    })?;
    caller.about(format!("token {id}"));
    let found = state.store.token(&id).await?.map(|found| found.token);
    let found = found.filter(|token| caller.grant().covers(&token.grant)).ok_or_else(unknown)?;
    caller.about(format!("token {id} ({})", found.name));
    let revoked = state.store.revoke_token(&id).await?.ok_or_else(unknown)?;
    state.access.forget(&id);
    Ok(Json(TokenView::from(&revoked)))
}

/// A [`TokenRequest`] that is right.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    name: String,
    grant: Grant,
    lifetime: Option<Duration>,
}

/// Reads by hand, so that every error is said at once.
fn read(document: &Value) -> Result<Wanted, ApiError> {
    let Value::Object(fields) = document else {
        let detail = "the body must be {\"name\": …, \"role\": …, \"teams\": […], \"expires_in_s\": …}";
        return Err(ApiError::new(ProblemCode::BadRequest, detail));
    };
    let mut errors = Vec::new();
    for name in fields.keys().filter(|name| !FIELDS.contains(&name.as_str())) {
        let shown: String = name.chars().take(NAME_CHARS_MAX).collect();
        errors.push(wrong(
            &shown,
            "unknown_field",
            format!("there is no such field; known are {}", FIELDS.join(", ")),
        ));
    }
    let field = |name: &str| fields.get(name).filter(|value| !value.is_null());
    let name = read_name(field("name")).map_err(|e| errors.push(e)).ok();
    let role = read_role(field("role")).map_err(|e| errors.push(e)).ok();
    let teams = read_teams(field("teams")).map_err(|e| errors.push(e)).ok();
    let lifetime = read_lifetime(field("expires_in_s")).map_err(|e| errors.push(e)).ok();
    let grant = role.zip(teams).and_then(|(role, teams)| {
        Grant::new(role, teams)
            .map_err(|e| errors.push(wrong("teams", "missing", format!("{e}, or \"*\""))))
            .ok()
    });
    match (name, grant, lifetime) {
        (Some(name), Some(grant), Some(lifetime)) if errors.is_empty() => {
            Ok(Wanted { name, grant, lifetime })
        }
        _ => {
            let detail = "the body has wrong fields: see errors";
            Err(ApiError::fields(ProblemCode::BadRequest, detail, errors))
        }
    }
}

fn wrong(field: &str, code: &str, message: impl Into<String>) -> FieldProblem {
    FieldProblem { field: field.to_owned(), code: code.to_owned(), message: message.into(), line: None }
}

fn read_name(value: Option<&Value>) -> Result<String, FieldProblem> {
    let text = value.ok_or_else(|| wrong("name", "missing", "is missing: say what the token is for"))?;
    let name = text.as_str().map(str::trim).filter(|name| !name.is_empty());
    let fits = |name: &&str| name.chars().count() <= NAME_CHARS_MAX && !name.chars().any(char::is_control);
    name.filter(fits).map(str::to_owned).ok_or_else(|| {
        wrong("name", "invalid", format!("must be a text of 1 to {NAME_CHARS_MAX} characters on one line"))
    })
}

fn read_role(value: Option<&Value>) -> Result<Role, FieldProblem> {
    let known = "viewer, submitter, team-admin or operator";
    let value = value.ok_or_else(|| wrong("role", "missing", format!("is missing: use {known}")))?;
    value
        .as_str()
        .and_then(Role::from_code)
        .ok_or_else(|| wrong("role", "invalid", format!("must be {known}")))
}

fn read_teams(value: Option<&Value>) -> Result<TeamScope, FieldProblem> {
    let Some(value) = value else { return Ok(TeamScope::Only(BTreeSet::new())) };
    let texts: Option<Vec<&str>> = value.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
    let texts = texts.filter(|texts| texts.len() <= TEAMS_MAX).ok_or_else(|| {
        wrong("teams", "invalid", format!("must be a list of up to {TEAMS_MAX} teams, or [\"*\"]"))
    })?;
    if texts.contains(&EVERY_TEAM) {
        return Ok(TeamScope::All);
    }
    let teams: Result<BTreeSet<TeamId>, _> = texts.into_iter().map(str::parse).collect();
    teams
        .map(TeamScope::Only)
        .map_err(|e: yard_domain::ids::InvalidName| wrong("teams", "invalid", e.to_string()))
}

fn read_lifetime(value: Option<&Value>) -> Result<Option<Duration>, FieldProblem> {
    let Some(value) = value else { return Ok(None) };
    // 60.0 is 60, as everywhere else.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole, positive and below 2^53"
    )]
    let whole = value.as_f64().filter(|f| f.fract() == 0.0 && (0.0..9e15).contains(f)).map(|f| f as u64);
    let seconds = value.as_u64().or(whole).filter(|s| (1..=LIFETIME_S_MAX).contains(s));
    seconds.map(|s| Some(Duration::from_secs(s))).ok_or_else(|| {
        let message = format!(
            "must be a whole number of seconds, 1 to {LIFETIME_S_MAX}; leave it out for a token without end"
        );
        wrong("expires_in_s", "out_of_range", message)
    })
}
