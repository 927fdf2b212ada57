//! `GET /v1/jobs`: list jobs, newest first.

use std::str::FromStr;

use axum::Json;
use axum::extract::State;
use yard_domain::StateName;
use yard_ports::store::JobFilter;
use yard_wire::views::{JobList, JobSummary, Problem, time_text};

use crate::access::Caller;
use crate::problem::ApiError;
use crate::query::{Moment, Params};
use crate::state::AppState;

/// Jobs on a page unless the request says otherwise.
const PAGE: u32 = 50;

#[utoipa::path(
    get, path = "/v1/jobs", operation_id = "list_jobs", tag = "jobs", summary = "List jobs, newest first",
    params(
        ("team" = Option<String>, Query, description = "Of this team"),
        ("state" = Option<String>, Query, description = "In one of these states: repeat it, or use commas"),
        ("cluster" = Option<String>, Query, description = "With an open attempt on this cluster"),
        ("accepted_after" = Option<String>, Query, description = "Accepted at this time or later (RFC 3339, UTC)"),
        ("accepted_before" = Option<String>, Query, description = "Accepted before this time"),
        ("key_prefix" = Option<String>, Query, description = "Whose key begins like this"),
        ("name" = Option<String>, Query, description = "Of this name"),
        ("metadata" = Option<String>, Query, description = "With this in its metadata: NAME=VALUE; may be repeated, or be written metadata.NAME=VALUE"),
        ("label" = Option<String>, Query, description = "That asks for a cluster with this label: NAME=VALUE; as metadata"),
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
        accepted_from: params.one::<Moment>("accepted_after").map(|at| at.0),
        accepted_before: params.one::<Moment>("accepted_before").map(|at| at.0),
        key_prefix: params.one("key_prefix"),
        name: params.one("name"),
        metadata: params.pairs("metadata"),
        labels: params.pairs("label"),
        before: params.one_as("cursor", "the `next` of the page before"),
        limit,
        scan_max: state.config.list_scan_max,
    };
    params.finish()?;
    filter.states.sort_unstable();
    filter.states.dedup();
    let now = state.store.now().await?;
    let page = state.store.jobs(&filter).await?;
    let jobs = page.jobs.iter().map(JobSummary::from).collect();
    Ok(Json(JobList { now: time_text(now), jobs, next: page.next.map(|id| id.to_string()) }))
}

pub(super) struct KnownState(pub(super) StateName);

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
    use serde_json::{Value, json};

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
    async fn pages_are_stable_while_jobs_come_in_and_searches_are_bounded() {
        let world = World::with(ServerConfig { list_scan_max: 3, ..ServerConfig::default() }).await;
        let mut made = Vec::new();
        for i in 0..8 {
            let document = json!({"v": 1, "team": "search", "key": format!("k{i}"), "entrypoint": "x", "name": format!("n{}", i % 2),
                "metadata": {"dag": if i == 1 { "nightly" } else { "other" }, "run": "7"}});
            let answer = world.post("/v1/jobs", &document).await.json();
            made.push(answer["id"].as_str().map_or_else(|| panic!("{answer}"), str::to_owned));
        }
        let first = world.get("/v1/jobs?limit=2").await.json();
        world.job("late").await;
        let second = world.get(&format!("/v1/jobs?limit=2&cursor={}", first["next"].as_str().unwrap())).await;
        assert_eq!(
            [ids(&first), ids(&second.json())].concat(),
            [&made[7], &made[6], &made[5], &made[4]].map(Clone::clone)
        );
        let all = async |query: &str| {
            let (mut found, mut calls, mut cursor) = (Vec::new(), 0, String::new());
            loop {
                let page = world.get(&format!("/v1/jobs?{query}{cursor}")).await.json();
                (found, calls) = ([found, ids(&page)].concat(), calls + 1);
                let Some(next) = page["next"].as_str() else { return (found, calls) };
                cursor = format!("&cursor={next}");
            }
        };
        assert_eq!(all("metadata.dag=nightly").await, (vec![made[1].clone()], 4), "three jobs a call");
        assert_eq!(all("metadata=dag=nightly&metadata.run=7").await.0, [made[1].clone()]);
        assert!(all("metadata.dag=nightly&metadata.run=8").await.0.is_empty());
        assert_eq!(all("label.zone=a").await.0.len(), 0);
        assert_eq!(all("key_prefix=k3").await.0, [made[3].clone()]);
        assert_eq!(all("name=n1&team=search").await.0.len(), 4);
        assert_eq!(all("accepted_before=2000-01-01T00:00:00Z").await.0.len(), 0);
        let wrong = world
            .get("/v1/jobs?metadata=x&label.a%22b=1&accepted_after=today&metadata.=1")
            .await
            .problem(400, "bad_request");
        let fields: Vec<_> =
            wrong["errors"].as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
        assert_eq!(fields, ["accepted_after", "metadata", "metadata.", "label.a\"b"], "{wrong}");
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
