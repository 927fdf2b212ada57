//! `PUT /v1/catalog`, `GET /v1/catalog` and `GET /v1/catalog/versions`: what operators declare, as one document.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use tracing::info;
use yard_domain::catalog::{CatalogSource, CatalogVersion};
use yard_domain::{AccountOwner, TeamId};
use yard_ports::store::{ApplyAnswer, CatalogDocument};
use yard_wire::CatalogDraft;
use yard_wire::catalog::{OpenJobs, diff};
use yard_wire::views::{CatalogAnswer, CatalogVersionList, CatalogVersionView, Problem, ProblemCode};

use super::submit::body_of_kind;
use crate::access::Caller;
use crate::problem::ApiError;
use crate::query::Params;
use crate::state::AppState;

/// Versions on a page unless the request says otherwise.
const PAGE: u32 = 20;
/// What a TOML document may be declared to be.
const TOML: [&str; 4] = ["application/toml", "text/toml", "text/x-toml", "text/plain"];

#[utoipa::path(
    put, path = "/v1/catalog", operation_id = "apply_catalog", tag = "installation", summary = "Put a catalog in force",
    description = "Teams, cohorts, priority classes, policy and clusters as one TOML document, checked as a whole. Every \
        process takes it over within seconds.",
    params(
        ("dry_run" = Option<bool>, Query, description = "Only say what would change"),
        ("expected" = Option<u64>, Query, description = "The version that must be in force; else 409"),
        ("If-Match" = Option<String>, Header, description = "The same as an ETag: \"7\"; else 412"),
    ),
    request_body(content = String, content_type = "application/toml"),
    responses(
        (status = 200, description = "In force, or what would change", body = CatalogAnswer),
        (status = 409, description = "Another version is in force than expected", body = Problem),
        (status = 412, description = "Another version is in force than If-Match says", body = Problem),
        (status = 415, description = "The body is not declared to be TOML", body = Problem),
        (status = 422, description = "It is wrong: every error, with its line", body = Problem),
    )
)]
pub(crate) async fn put(
    State(state): State<AppState>,
    caller: Caller,
    mut params: Params,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<CatalogAnswer>, ApiError> {
    let dry_run = params.switch("dry_run");
    if dry_run {
        caller.changes_nothing();
    }
    let expected = params.whole("expected", "a version");
    params.finish()?;
    let expected = Expected::new(&headers, expected)?;
    let body = body_of_kind(&headers, body, state.config.body_max_bytes, &TOML)?;
    let text = str::from_utf8(&body)
        .map_err(|e| ApiError::new(ProblemCode::BadRequest, format!("the body is not UTF-8: {e}")))?;
    let draft = read(&state, text)?;
    let current = version(&state, None).await?;
    let number = current.as_ref().map_or(0, |version| version.number);
    if let Some(unmet) = expected.unmet(number) {
        return Err(unmet);
    }
    let changes = diff(&in_force(&state, current.as_ref()).await?, &draft, &open_jobs(&state).await?);
    if dry_run {
        return Ok(Json(CatalogAnswer { answer: "dry_run".to_owned(), version: number, changes }));
    }
    let by = format!("user:{}", caller.actor());
    let document =
        CatalogDocument { text, by: &by, source: CatalogSource::Applied, expected: expected.number() };
    let (answer, version) = match state.store.apply_catalog(&draft.catalog, document).await? {
        ApplyAnswer::Applied(version) => ("applied", version),
        ApplyAnswer::Unchanged(version) => ("unchanged", version),
        ApplyAnswer::Conflict(version) => return Err(expected.conflict(version)),
    };
    caller.about(format!("catalog version {version}"));
    caller.came_to(answer);
    info!(by, version, changes = changes.len(), answer, "a catalog was sent");
    (state.nudge)();
    Ok(Json(CatalogAnswer { answer: answer.to_owned(), version, changes }))
}

#[utoipa::path(
    get, path = "/v1/catalog", operation_id = "get_catalog", tag = "installation", summary = "Show the catalog in force",
    description = "The document as it was written; with Accept: application/json, also which version it is, who put it in force, and when.",
    params(("version" = Option<u64>, Query, description = "An older version")),
    responses(
        (status = 200, description = "The document", content((String = "application/toml"), (CatalogVersionView = "application/json"))),
        (status = 404, description = "There is no such version, or none yet", body = Problem),
    )
)]
pub(crate) async fn get(
    State(state): State<AppState>,
    mut params: Params,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let wanted = params.whole("version", "a version");
    params.finish()?;
    let found = version(&state, wanted).await?.ok_or_else(|| match wanted {
        Some(wanted) => ApiError::not_found(format!(
            "there is no version {wanted} of the catalog; GET /v1/catalog/versions lists them"
        )),
        None => ApiError::not_found("no catalog has been put in force yet"),
    })?;
    let tag = format!("\"{}\"", found.number);
    let as_json = headers.get_all(header::ACCEPT).iter().any(|v| {
        v.to_str().is_ok_and(|kinds| {
            kinds
                .split(',')
                .any(|kind| kind.split(';').next().unwrap_or_default().trim() == "application/json")
        })
    });
    Ok(if as_json {
        ([(header::ETAG, tag)], Json(CatalogVersionView::whole(&found))).into_response()
    } else {
        let kind = "application/toml; charset=utf-8".to_owned();
        ([(header::ETAG, tag), (header::CONTENT_TYPE, kind)], found.text).into_response()
    })
}

#[utoipa::path(
    get, path = "/v1/catalog/versions", operation_id = "list_catalog_versions", tag = "installation", summary = "List the versions of the catalog, newest first",
    params(
        ("before" = Option<u64>, Query, description = "Only versions before this one"),
        ("limit" = Option<u32>, Query, description = "At most this many; by default 20"),
    ),
    responses((status = 200, body = CatalogVersionList))
)]
pub(crate) async fn versions(
    State(state): State<AppState>,
    mut params: Params,
) -> Result<Json<CatalogVersionList>, ApiError> {
    let before = params.whole("before", "a version");
    let limit = params.number("limit", 1, state.config.page_max).unwrap_or(PAGE.min(state.config.page_max));
    params.finish()?;
    let mut versions = state.store.catalog_versions(before, limit.saturating_add(1)).await?;
    let more = versions.len() > limit as usize;
    versions.truncate(limit as usize);
    let next = if more { versions.last().map(|version| version.number) } else { None };
    Ok(Json(CatalogVersionList { versions: versions.iter().map(CatalogVersionView::line).collect(), next }))
}

/// Which version the writer knew to be in force, and by what they said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Expected {
    by_parameter: Option<u64>,
    by_header: Option<u64>,
}

impl Expected {
    fn new(headers: &HeaderMap, by_parameter: Option<u64>) -> Result<Self, ApiError> {
        let Some(header) = headers.get(header::IF_MATCH) else {
            return Ok(Self { by_parameter, by_header: None });
        };
        let wrong = || {
            let detail = "If-Match must be one version in quotes, such as \"7\", as ETag gives it";
            ApiError::new(ProblemCode::BadRequest, detail)
        };
        let number = header.to_str().ok().and_then(|v| v.trim().strip_prefix('"')?.strip_suffix('"'));
        let number = number.and_then(|n| n.parse().ok()).ok_or_else(wrong)?;
        Ok(Self { by_parameter, by_header: Some(number) })
    }

    /// The version that must be in force when the new one is written.
    fn number(self) -> Option<u64> {
        self.by_header.or(self.by_parameter)
    }

    /// Whether what was said does not hold with this version in force. Of two that differ, one does not.
    fn unmet(self, in_force: u64) -> Option<ApiError> {
        let is_other = |known: Option<u64>| known.is_some_and(|known| known != in_force);
        (is_other(self.by_header) || is_other(self.by_parameter)).then(|| self.conflict(in_force))
    }

    fn conflict(self, in_force: u64) -> ApiError {
        let by_header = self.by_header.is_some_and(|known| known != in_force);
        let code = if by_header { ProblemCode::PreconditionFailed } else { ProblemCode::VersionConflict };
        ApiError::new(
            code,
            format!("version {in_force} is in force by now: look at it, then send yours again"),
        )
    }
}

fn read(state: &AppState, text: &str) -> Result<CatalogDraft, ApiError> {
    (state.read_catalog)(text).map_err(|errors| {
        let detail = format!("{} error{}", errors.len(), if errors.len() == 1 { "" } else { "s" });
        ApiError::fields(ProblemCode::InvalidCatalog, detail, errors)
    })
}

/// A version, by default the one in force.
async fn version(state: &AppState, wanted: Option<u64>) -> Result<Option<CatalogVersion>, ApiError> {
    let before = wanted.map(|n| n.saturating_add(1));
    let newest = state.store.catalog_versions(before, 1).await?.into_iter().next();
    Ok(newest.filter(|version| wanted.is_none_or(|n| n == version.number)))
}

/// What is in force, as its document says; if this server can't read that (another version of the program wrote it), as
/// the store knows it.
async fn in_force(state: &AppState, current: Option<&CatalogVersion>) -> Result<CatalogDraft, ApiError> {
    let Some(current) = current else { return Ok(CatalogDraft::default()) };
    Ok(match (state.read_catalog)(&current.text) {
        Ok(draft) => draft,
        Err(_) => CatalogDraft { catalog: state.store.catalog().await?, ..CatalogDraft::default() },
    })
}

async fn open_jobs(state: &AppState) -> Result<OpenJobs, ApiError> {
    let mut open = OpenJobs::default();
    for account in state.store.accounts().await? {
        if let AccountOwner::Cluster(cluster) = account.owner {
            open.clusters.insert(cluster, account.used.jobs);
        }
    }
    let of_teams: BTreeMap<(TeamId, _), u64> = state.store.stats().await?.open;
    for ((team, _), count) in of_teams {
        *open.teams.entry(team).or_default() += count;
    }
    Ok(open)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{Request, header};
    use serde_json::{Value, json};

    use crate::testing::World;

    const TWO: &str = "team ads 4\nteam search 2\ncluster east 16 http://a\n";

    fn sentences(answer: &Value) -> Vec<String> {
        let changes: Vec<yard_wire::views::CatalogChange> =
            serde_json::from_value(answer["changes"].clone()).unwrap();
        changes.iter().map(yard_wire::views::CatalogChange::sentence).collect()
    }

    #[tokio::test]
    async fn a_catalog_is_compared_put_in_force_and_given_back() {
        let world = World::new().await;
        let id = world.job("k").await;
        world.run(id, "east").await;
        let first = world.put_catalog("", None, TWO).await.json();
        assert_eq!(first["answer"], "applied");
        let version = first["version"].as_u64().unwrap();
        let again = world.put_catalog("", None, TWO).await.json();
        assert_eq!(again, json!({"answer": "unchanged", "version": version, "changes": []}));

        let next = "team ads 6\nteam search 2\ncluster north 8 http://b\n";
        let dry = world.put_catalog("?dry_run=true", None, next).await.json();
        assert_eq!((&dry["answer"], &dry["version"]), (&json!("dry_run"), &json!(version)));
        assert_eq!(
            sentences(&dry),
            [
                "team ads: quota.cpu 4 → 6",
                "cluster east: removed (has 1 open job: stays until they end)",
                "cluster north: added (address http://b, capacity.cpu 8, driver scripted)",
            ]
        );
        let text = world.get("/v1/catalog").await;
        assert_eq!(text.bytes, TWO, "a dry run writes nothing");
        assert_eq!(text.headers[header::ETAG], format!("\"{version}\""));
        assert_eq!(text.headers[header::CONTENT_TYPE], "application/toml; charset=utf-8");

        let nudged = world.nudged();
        let applied = world.put_catalog(&format!("?expected={version}"), None, next).await.json();
        assert_eq!((&applied["changes"], &applied["version"]), (&dry["changes"], &json!(version + 1)));
        assert_eq!(world.nudged(), nudged + 1);
        let request = Request::get("/v1/catalog").header(header::ACCEPT, "application/json");
        let whole = world.send(request.body(Body::empty()).unwrap()).await.json();
        assert_eq!(
            (&whole["text"], &whole["by"], &whole["source"]),
            (&json!(next), &json!("user:bootstrap"), &json!("applied"))
        );
        assert_eq!(world.get(&format!("/v1/catalog?version={version}")).await.bytes, TWO);
        world.get("/v1/catalog?version=99").await.problem(404, "not_found");
        let list = world.get("/v1/catalog/versions?limit=1").await.json();
        assert_eq!(list["versions"][0]["version"], version + 1);
        assert_eq!((&list["next"], list["versions"][0].get("text")), (&json!(version + 1), None));
        let rest = world.get(&format!("/v1/catalog/versions?before={}", version + 1)).await.json();
        assert_eq!(rest["versions"][0]["version"], version);
        let teams = world.get("/v1/teams").await.json();
        assert_eq!(teams["teams"][0]["quota"], json!({"cpu": 6.0}));
    }

    #[tokio::test]
    async fn what_is_wrong_is_said_at_once_and_nothing_is_written() {
        let world = World::new().await;
        let before = world.get("/v1/catalog/versions").await.json();
        let problem = world.put_catalog("", None, "team ads\nteam search 2\nnonsense\n").await;
        let problem = problem.problem(422, "invalid_catalog");
        let lines: Vec<_> = problem["errors"].as_array().unwrap().iter().map(|e| e["line"].clone()).collect();
        assert_eq!((lines, &problem["detail"]), (vec![json!(1), json!(3)], &json!("2 errors")));
        let put = |kind: &str, body: Vec<u8>| {
            Request::put("/v1/catalog").header(header::CONTENT_TYPE, kind).body(Body::from(body)).unwrap()
        };
        let json = world.send(put("application/json", b"{}".to_vec())).await;
        json.problem(415, "unsupported_media_type");
        world.send(put("application/toml", vec![0xff])).await.problem(400, "bad_request");
        assert_eq!(world.get("/v1/catalog/versions").await.json(), before);
    }

    #[tokio::test]
    async fn a_writer_that_knew_another_version_is_told() {
        let world = World::new().await;
        let version = world.put_catalog("", None, TWO).await.json()["version"].as_u64().unwrap();
        let next = format!("{TWO}team more 1\n");
        world.put_catalog("?expected=99", None, &next).await.problem(409, "version_conflict");
        world.put_catalog("?dry_run=true&expected=99", None, &next).await.problem(409, "version_conflict");
        world.put_catalog("", Some("\"99\""), &next).await.problem(412, "precondition_failed");
        world.put_catalog("", Some("99"), &next).await.problem(400, "bad_request");
        // Of two that differ, one is not in force.
        world.put_catalog("?expected=1", Some("\"99\""), &next).await.problem(412, "precondition_failed");
        let tag = format!("\"{version}\"");
        world.put_catalog("?expected=99", Some(&tag), &next).await.problem(409, "version_conflict");
        assert_eq!(world.put_catalog("", Some(&tag), &next).await.json()["version"], version + 1);
    }
}
