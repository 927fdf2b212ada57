//! `GET /v1/jobs`: list jobs, newest first.

use std::str::FromStr;

use axum::Json;
use axum::extract::State;
use yard_domain::StateName;
use yard_ports::store::JobFilter;
use yard_wire::views::{JobList, JobSummary, Problem, time_text};

use crate::access::Caller;
use crate::problem::ApiError;
use crate::query::Params;
use crate::state::AppState;

/// Jobs on a page unless the request says otherwise.
const PAGE: u32 = 50;

#[utoipa::path(
    get, path = "/v1/jobs", tag = "jobs", summary = "List jobs, newest first",
    params(
        ("team" = Option<String>, Query, description = "Of this team"),
        ("state" = Option<String>, Query, description = "In one of these states: repeat it, or use commas"),
        ("cluster" = Option<String>, Query, description = "With an open attempt on this cluster"),
        ("limit" = Option<u32>, Query, description = "At most this many; by default 50"),
        ("cursor" = Option<String>, Query, description = "Go on after a page: its `next`"),
    ),
    responses(
        (status = 200, body = JobList),
        (status = 400, description = "Parameters are wrong, with every error", body = Problem),
    )
)]
pub(crate) async fn list(
    State(state): State<AppState>,
    caller: Caller,
    mut params: Params,
) -> Result<Json<JobList>, ApiError> {
    let limit = params.number("limit", 1, state.config.page_max).unwrap_or(PAGE.min(state.config.page_max));
    let mut filter = JobFilter {
        team: params.one("team"),
        among: caller.teams(),
        states: params.list::<KnownState>("state").into_iter().map(|s| s.0).collect(),
        cluster: params.one("cluster"),
        before: params.one_as("cursor", "the `next` of the page before"),
        limit: limit.saturating_add(1),
    };
    params.finish()?;
    filter.states.sort_unstable();
    filter.states.dedup();
    let now = state.store.now().await?;
    let mut rows = state.store.jobs(&filter).await?;
    // One more than asked for was read, to know whether there is another page.
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = if more { rows.last().map(|row| row.lifecycle.id.to_string()) } else { None };
    let jobs = rows.iter().map(JobSummary::from).collect();
    Ok(Json(JobList { now: time_text(now), jobs, next }))
}

struct KnownState(StateName);

impl FromStr for KnownState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        StateName::from_code(text).map(Self).ok_or_else(|| {
            let known: Vec<_> = StateName::ALL.into_iter().map(StateName::code).collect();
            let shown: String = text.chars().take(60).collect();
            format!("there is no state {shown:?}; known are {}", known.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::ServerConfig;
    use crate::testing::World;

    fn ids(list: &Value) -> Vec<String> {
        list["jobs"].as_array().unwrap().iter().map(|j| j["id"].as_str().unwrap().to_owned()).collect()
    }

    #[tokio::test]
    async fn pages_go_from_the_newest_to_the_last() {
        let world = World::new().await;
        let mut made = Vec::new();
        for i in 0..5 {
            made.push(world.job(&format!("k{i}")).await.to_string());
        }
        made.reverse();
        let mut seen = Vec::new();
        let mut path = "/v1/jobs?limit=2".to_owned();
        loop {
            let page = world.get(&path).await.json();
            seen.extend(ids(&page));
            assert!(yard_wire::views::parse_time(page["now"].as_str().unwrap()).is_some());
            let Some(next) = page["next"].as_str() else { break };
            path = format!("/v1/jobs?limit=2&cursor={next}");
        }
        assert_eq!(seen, made);
    }

    #[tokio::test]
    async fn filters_narrow_and_every_wrong_parameter_is_named() {
        let world = World::with(ServerConfig { page_max: 10, ..ServerConfig::default() }).await;
        let (a, b) = (world.job("a").await, world.job("b").await);
        world.run(a, "east").await;
        let found = async |query: &str| ids(&world.get(&format!("/v1/jobs?{query}")).await.json());
        assert_eq!(found("state=running").await, [a.to_string()]);
        assert_eq!(found("state=queued,running").await.len(), 2);
        assert_eq!(found("state=queued&state=failed").await, [b.to_string()]);
        assert_eq!(found("cluster=east&team=search").await, [a.to_string()]);
        assert!(found("team=ads").await.is_empty());
        let wrong = world
            .get("/v1/jobs?state=asleep&limit=11&team=A&cursor=x&page=2")
            .await
            .problem(400, "bad_request");
        let fields: Vec<_> =
            wrong["errors"].as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
        assert_eq!(fields, ["limit", "team", "state", "cursor", "page"]);
    }
}
