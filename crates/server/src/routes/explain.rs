//! `GET /v1/jobs/{id}/explain`, `GET /v1/teams/{team}/explain`: why jobs wait, and what would change it.

use axum::Json;
use axum::extract::{Path, State};
use yard_domain::TeamId;
use yard_wire::views::{ExplanationView, Problem, ProblemCode, TeamExplanationView};

use super::{JobPath, find_job};
use crate::access::{Caller, redact};
use crate::problem::ApiError;
use crate::query::Params;
use crate::state::AppState;

#[utoipa::path(
    get, path = "/v1/jobs/{id}/explain", operation_id = "explain_job", tag = "jobs", summary = "Why a job waits, and what would change it",
    description = "What would change it was found by planning again on a changed snapshot: each entry of `changes` holds as \
                   of `now`. A job that does not wait is told where it is instead.",
    params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 200, body = ExplanationView),
        (status = 404, description = "There is no such job", body = Problem),
    )
)]
pub(crate) async fn job(
    State(state): State<AppState>,
    caller: Caller,
    JobPath(id): JobPath,
    params: Params,
) -> Result<Json<ExplanationView>, ApiError> {
    params.finish()?;
    let job = find_job(&state, &caller, id).await?;
    let found = state.explainer.job(&job).await?;
    Ok(Json(redact::for_caller(&state, &caller, found).await?))
}

#[utoipa::path(
    get, path = "/v1/teams/{team}/explain", operation_id = "explain_team", tag = "installation", summary = "Why a team's jobs wait, and what would change most",
    params(("team" = String, Path, description = "The team's id")),
    responses(
        (status = 200, body = TeamExplanationView),
        (status = 404, description = "There is no such team", body = Problem),
    )
)]
pub(crate) async fn team(
    State(state): State<AppState>,
    caller: Caller,
    Path(team): Path<String>,
    params: Params,
) -> Result<Json<TeamExplanationView>, ApiError> {
    params.finish()?;
    let id: TeamId = team.parse().map_err(|e: yard_domain::ids::InvalidName| {
        ApiError::new(ProblemCode::BadRequest, format!("the path does not hold a team's id: {e}"))
    })?;
    let unknown = || ApiError::not_found(format!("there is no team {id}"));
    if !caller.sees(&id) {
        return Err(unknown());
    }
    let found = state.explainer.team(&id).await?.ok_or_else(unknown)?;
    Ok(Json(redact::for_caller(&state, &caller, found).await?))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use yard_domain::JobId;
    use yard_domain::lifecycle::AttemptEnd;

    use crate::testing::World;

    async fn submit(world: &World, team: &str, key: &str, cpu: u32, more: &Value) -> JobId {
        let mut document =
            json!({"v": 1, "team": team, "key": key, "entrypoint": "x", "resources": {"cpu": cpu}});
        for (name, value) in more.as_object().unwrap() {
            document[name] = value.clone();
        }
        let answer = world.post("/v1/jobs", &document).await;
        assert_eq!(answer.status, 201, "{:?}", answer.bytes);
        answer.json()["id"].as_str().unwrap().parse().unwrap()
    }

    async fn explain(world: &World, job: JobId) -> Value {
        world.get(&format!("/v1/jobs/{job}/explain")).await.json()
    }

    fn codes(list: &Value) -> Vec<&str> {
        list.as_array().unwrap().iter().map(|c| c["code"].as_str().unwrap()).collect()
    }

    #[tokio::test]
    async fn a_team_over_quota_is_told_what_is_missing_and_who_has_it() {
        let world = World::new().await;
        let holder = submit(&world, "ads", "a", 3, &json!({})).await;
        let attempt = world.run(holder, "east").await;
        let first = submit(&world, "ads", "b", 2, &json!({})).await;
        let second = submit(&world, "ads", "c", 2, &json!({})).await;
        let got = explain(&world, second).await;
        assert_eq!((&got["state"], &got["code"]), (&json!("queued"), &json!("team_quota")));
        assert_eq!(got["position"], json!({"ahead": 1, "ahead_same_shape": 1}));
        assert_eq!(codes(&got["clusters"]), ["room", "not_seen_yet"], "what they say apart from the quota");
        assert_eq!(codes(&got["ahead"]), ["older"]);
        let changes = &got["changes"];
        assert_eq!(codes(changes), ["job_ends", "more_quota", "smaller_request"]);
        assert_eq!(changes[0]["jobs"][0]["job"], holder.to_string());
        assert_eq!(changes[1]["extra"], json!([{"resource": "cpu", "amount": 3.0}]));
        assert_eq!((&changes[1]["owner_kind"], &changes[1]["owner"]), (&json!("team"), &json!("ads")));
        let message = got["message"].as_str().unwrap();
        assert!(message.contains("team ads, cpu: asks 2, 1 free"), "{message}");
        let summary = got["summary"].as_str().unwrap();
        assert!(
            summary.starts_with(message) && summary.contains("with +3 cpu of quota for team ads"),
            "{summary}"
        );
        assert_eq!(explain(&world, first).await["changes"][1]["extra"][0]["amount"], 1.0);
        let team = world.get("/v1/teams/ads/explain").await.json();
        assert_eq!((&team["queued"], &team["holds"][0]["code"]), (&json!(2), &json!("team_quota")));
        assert_eq!(team["changes"][0]["jobs_more"], 2);
        assert_eq!(team["changes"][0]["extra"], json!([{"resource": "cpu", "amount": 3.0}]));
        // What was told comes true.
        world.end(holder, attempt, "east", AttemptEnd::Succeeded).await;
        for job in [first, second] {
            let got = explain(&world, job).await;
            assert_eq!((&got["code"], &got["cluster"]), (&json!("starts_now"), &json!("east")));
            assert_eq!(got.get("changes"), None);
        }
        let ended = explain(&world, holder).await;
        assert_eq!(ended["code"], "succeeded");
        assert!(ended["message"].as_str().unwrap().starts_with("it succeeded at "), "{ended}");
    }

    #[tokio::test]
    async fn a_drained_cluster_is_told_and_resuming_it_helps() {
        let world = World::new().await;
        let job = submit(&world, "search", "a", 1, &json!({})).await;
        world.run(job, "east").await;
        world.post("/v1/clusters/east/drain", &json!({})).await;
        let waiting = submit(&world, "search", "b", 8, &json!({})).await;
        let got = explain(&world, waiting).await;
        assert_eq!(got["code"], "no_cluster");
        assert_eq!(codes(&got["clusters"]), ["drained", "too_small"]);
        assert_eq!(codes(&got["changes"]), ["cluster_resumed"]);
        assert_eq!(
            (&got["changes"][0]["cluster"], &got["changes"][0]["placed_on"]),
            (&json!("east"), &json!("east"))
        );
        assert_eq!(got["expected_start"]["code"], "never_as_it_is");
        world.post("/v1/clusters/east/resume", &json!({})).await;
        assert_eq!(explain(&world, waiting).await["code"], "starts_now");
        let running = explain(&world, job).await;
        assert_eq!((&running["code"], &running["cluster"]), (&json!("running"), &json!("east")));
        assert!(running["message"].as_str().unwrap().starts_with("it runs on east since "), "{running}");
    }

    #[tokio::test]
    async fn a_full_cluster_with_a_known_end_gives_an_expected_start() {
        let world = World::new().await;
        let timeouts = json!({"timeouts": {"run_s": 600}});
        let holder = submit(&world, "search", "a", 12, &timeouts).await;
        world.run(holder, "east").await;
        let waiting = submit(&world, "search", "b", 8, &timeouts).await;
        let got = explain(&world, waiting).await;
        let ends = world.get(&format!("/v1/jobs/{holder}")).await.json()["clock"]["at"].clone();
        assert_eq!(got["clusters"][0]["code"], "full");
        assert_eq!(codes(&got["changes"]), ["job_ends", "smaller_request"]);
        assert_eq!(got["changes"][0]["expected"], ends, "without history, its run timeout stands in");
        let start = &got["expected_start"];
        assert_eq!((&start["at"], &start["after"], &start["cluster"]), (&ends, &ends, &json!("east")));
        assert_eq!(start.get("past_error"), None, "there are no past starts to compare with");
        assert_eq!(got["changes"][1]["request"], json!({"resource": "cpu", "amount": 4.0}));
    }

    #[tokio::test]
    async fn what_is_not_there_is_not_found() {
        let world = World::new().await;
        world.get("/v1/jobs/00000000-0000-0000-0000-000000000000/explain").await.problem(404, "not_found");
        world.get("/v1/jobs/nightly/explain").await.problem(400, "bad_request");
        world.get("/v1/teams/nobody/explain").await.problem(404, "not_found");
        world.get("/v1/teams/No%20Body/explain").await.problem(400, "bad_request");
        world.get("/v1/teams/ads/explain?x=1").await.problem(400, "bad_request");
        let idle = world.get("/v1/teams/ads/explain").await.json();
        assert_eq!((&idle["queued"], &idle["message"]), (&json!(0), &json!("nothing of it waits")));
    }
}
