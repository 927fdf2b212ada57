//! Who gets in, who sees what, and what is written down about it.

use std::num::NonZeroU32;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, header};
use serde_json::{Value, json};
use yard_domain::{Grant, Right, Role, TeamScope};
use yard_ports::access::NewToken;

use super::rules::{self, Who};
use super::token::FreshToken;
use super::{AccessConfig, Freshness};
use crate::testing::{Answer, OPERATOR, World};

impl World {
    /// A token of this role for these teams.
    pub(crate) async fn token(&self, role: Role, teams: &[&str]) -> FreshToken {
        let teams = TeamScope::Only(teams.iter().map(|team| team.parse().unwrap()).collect());
        self.token_of(Grant::new(role, teams).unwrap(), None).await
    }

    pub(super) async fn token_of(&self, grant: Grant, lifetime: Option<Duration>) -> FreshToken {
        let fresh = FreshToken::make().unwrap();
        let new = NewToken {
            id: fresh.id.clone(),
            name: format!("a {}", grant.role()),
            grant,
            secret: fresh.secret,
            created_by: "ann".to_owned(),
            lifetime,
        };
        self.state.store.create_token(&new).await.unwrap();
        fresh
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, token: &str, body: Option<Value>) -> Answer {
        let authorization = if token.is_empty() { String::new() } else { format!("Bearer {token}") };
        let request =
            Request::builder().method(method).uri(path).header(header::AUTHORIZATION, authorization);
        let request = request.header(header::CONTENT_TYPE, "application/json");
        self.send(request.body(body.map_or_else(Body::empty, |b| Body::from(b.to_string()))).unwrap()).await
    }

    pub(crate) async fn audit_lines(&self) -> Vec<(String, String, String)> {
        let lines = self.state.store.audit_log(None, 100).await.unwrap();
        lines.into_iter().map(|l| (l.entry.action, l.entry.target, l.entry.result)).collect()
    }
}

/// A path on which the handler has something to do, for each rule.
fn real(path: &str) -> String {
    let path = path.replace("{id}", "no-such").replace("{team}", "ads").replace("{*key}", "k");
    let path = path.replace("{protocol}", "gcs").replace("{name}", "x.zip");
    // A stream without an end, unless it is refused.
    if path == "/v1/events" { format!("{path}?after=x") } else { path }
}

#[tokio::test]
async fn every_operation_has_a_rule_and_every_rule_an_operation() {
    let described: Vec<(String, String)> = crate::openapi::operations();
    for (path, method) in &described {
        let path = path.replace("{key}", "{*key}");
        let found = rules::find(&method.parse().unwrap(), &path);
        assert!(found.is_some(), "{method} {path} has no rule in access/rules.rs: nobody may use it");
    }
    for (method, path, rule) in rules::all() {
        let known = described.contains(&(path.replace("{*key}", "{key}"), method.to_owned()));
        let page = ["/", "/docs", "/openapi.json"].contains(&path) || path.starts_with("/ui/");
        // Ray's client is the description of its API.
        let ray = path.starts_with("/api/");
        assert!(known || page || ray, "{method} {path} has a rule, but no description");
        assert_eq!(
            rule.action.is_some(),
            method != "GET",
            "{method} {path}: what changes something is written down"
        );
    }
}

#[tokio::test]
async fn without_a_good_token_nothing_is_answered_but_health() {
    let world = World::new().await;
    let revoked = world.token(Role::Viewer, &["ads"]).await;
    world.state.store.revoke_token(&revoked.id).await.unwrap();
    let expired = world.token_of(Grant::operator(), Some(Duration::ZERO)).await;
    let foreign = FreshToken::make().unwrap();
    let good = world.token(Role::Viewer, &["ads"]).await;
    let (half, other) =
        (&good.text[..good.text.len() - 1], format!("{}0", &good.text[..good.text.len() - 1]));
    let bad =
        ["", "x", half, &revoked.text, &expired.text, &foreign.text, "a.b.c", "eyJhbGciOiJub25lIn0.e30."];
    for (method, path, rule) in rules::all() {
        for token in bad.into_iter().chain((other != good.text).then_some(other.as_str())) {
            let answer = world.ask(method, &real(path), token, None).await;
            match rule.who {
                Who::Anybody => assert_eq!(answer.status, 200, "{method} {path}"),
                Who::Link => assert_eq!(answer.status, 403, "{method} {path}"),
                Who::Has(_) | Who::Metrics(_) => {
                    answer.problem(401, "unauthorized");
                    assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"switchyard\"");
                }
            }
        }
    }
    for value in ["Basic eDp5", "Bearer", "bearer "] {
        let request =
            Request::get("/v1/jobs").header(header::AUTHORIZATION, value).body(Body::empty()).unwrap();
        world.send(request).await.problem(401, "unauthorized");
    }
    assert_eq!(world.ask("GET", "/v1/jobs", &good.text, None).await.status, 200);
    assert!(world.audit_lines().await.is_empty(), "strangers don't fill the log");
}

/// What a role may not do at all is a 403 on every route, whatever is asked for.
#[tokio::test]
async fn each_route_takes_the_role_that_its_rule_says() {
    let world = World::new().await;
    for role in [Role::Viewer, Role::Submitter, Role::TeamAdmin] {
        let token = world.token(role, &["ads"]).await;
        let own = Grant::new(role, TeamScope::Only(["ads".parse().unwrap()].into())).unwrap();
        for (method, path, rule) in rules::all() {
            let (Who::Has(right) | Who::Metrics(right)) = rule.who else { continue };
            let answer = world.ask(method, &real(path), &token.text, None).await;
            if own.may_somewhere(right) {
                assert_ne!(answer.status, 403, "{role}: {method} {path}");
            } else {
                answer.problem(403, "forbidden");
            }
        }
    }
    let metrics = Grant::new(Role::Viewer, TeamScope::All).unwrap();
    let metrics = world.token_of(metrics, None).await;
    assert_eq!(world.ask("GET", "/metrics", &metrics.text, None).await.status, 200);
    assert!(Grant::operator().may_somewhere(Right::Operate));
}

#[tokio::test]
async fn what_belongs_to_another_team_is_not_there() {
    let world = World::new().await;
    let job = world.job("k").await; // of `search`
    let own = world.token(Role::TeamAdmin, &["search"]).await.text;
    let other = world.token(Role::TeamAdmin, &["ads"]).await.text;
    let paths = [
        ("GET", format!("/v1/jobs/{job}")),
        ("GET", format!("/v1/jobs/{job}/history")),
        ("GET", format!("/v1/jobs/{job}/explain")),
        ("GET", format!("/v1/jobs/{job}/logs")),
        ("GET", "/v1/receipts/search/k".to_owned()),
        ("GET", "/v1/teams/search/explain".to_owned()),
        ("POST", format!("/v1/jobs/{job}/stop")),
        // It has ended by now: neither of them waits.
        ("GET", format!("/v1/jobs/{job}/events")),
        ("GET", format!("/v1/jobs/{job}?wait=20s")),
    ];
    for (method, path) in &paths {
        let hidden = world.ask(method, path, &other, None).await.problem(404, "not_found");
        let absent = path.replace(&job.to_string(), "019b0000-0000-7000-8000-000000000000");
        let absent = absent.replace("search", "nobody");
        let missing = world.ask(method, &absent, &other, None).await.problem(404, "not_found");
        let detail = |problem: &Value| problem["detail"].as_str().unwrap().replace("nobody", "search");
        let told = detail(&missing).replace("019b0000-0000-7000-8000-000000000000", &job.to_string());
        assert_eq!(detail(&hidden), told, "{path}: the answer tells that it is there");
        let seen = world.ask(method, path, &own, None).await;
        assert!(seen.status == 200 || seen.status == 409, "{path}: {}", seen.status);
    }
    let ids = async |path: &str, token: &str, list: &str| -> Vec<String> {
        let answer = world.ask("GET", path, token, None).await.json();
        answer[list].as_array().unwrap().iter().map(|e| e["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids("/v1/jobs", &own, "jobs").await, [job.to_string()]);
    assert!(ids("/v1/jobs", &other, "jobs").await.is_empty());
    assert!(ids("/v1/jobs?team=search", &other, "jobs").await.is_empty());
    assert_eq!(ids("/v1/teams", &other, "teams").await, ["ads"]);
    assert_eq!(ids("/v1/teams", OPERATOR, "teams").await, ["ads", "search"]);
}

#[tokio::test]
async fn a_submission_for_another_team_leaves_nothing_and_one_s_own_tells_who() {
    let world = World::new().await;
    let submitter = world.token(Role::Submitter, &["ads"]).await;
    let viewer = world.token(Role::Viewer, &["ads"]).await.text;
    let document = |team: &str| Some(json!({"v": 1, "team": team, "key": "k", "entrypoint": "true"}));
    for team in ["search", "nobody"] {
        let answer = world.ask("POST", "/v1/jobs", &submitter.text, document(team)).await;
        let detail = answer.problem(403, "forbidden")["detail"].as_str().unwrap().to_owned();
        assert_eq!(detail, format!("this takes a submitter of team {team}; you are a submitter"));
        world.get(&format!("/v1/receipts/{team}/k")).await.problem(404, "not_found");
    }
    world.ask("POST", "/v1/jobs", &viewer, document("ads")).await.problem(403, "forbidden");
    let made = world.ask("POST", "/v1/jobs", &submitter.text, document("ads")).await;
    assert_eq!(made.status, 201);
    assert_eq!(world.ask("POST", "/v1/jobs", &submitter.text, document("ads")).await.status, 200);
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let history = world.ask("GET", &format!("/v1/jobs/{id}/history"), &viewer, None).await.json();
    let actor = format!("user:a submitter (token {})", submitter.id);
    assert_eq!(history["lines"][0]["actor"], actor);
    world.ask("POST", &format!("/v1/jobs/{id}/stop"), &viewer, None).await.problem(403, "forbidden");
    assert_eq!(world.ask("POST", &format!("/v1/jobs/{id}/stop"), &submitter.text, None).await.status, 200);
    let lines = world.audit_lines().await;
    let told: Vec<(&str, &str)> = lines.iter().map(|(a, _, r)| (a.as_str(), r.as_str())).collect();
    assert_eq!(
        told,
        [
            ("job.stop", "ok"),
            ("job.stop", "forbidden"),
            ("job.submit", "repeated"),
            ("job.submit", "ok"),
            ("job.submit", "forbidden"),
            ("job.submit", "forbidden"),
            ("job.submit", "forbidden"),
        ]
    );
    assert!(lines[3].1.contains(&id) && lines[3].1.contains("ads/k"), "{:?}", lines[3]);
}

#[tokio::test]
async fn tokens_are_made_listed_and_revoked_by_those_who_may() {
    let world = World::new().await;
    let admin = world.token(Role::TeamAdmin, &["ads"]).await;
    let other = world.token(Role::TeamAdmin, &["search"]).await;
    let wanted = |role: &str, teams: &[&str]| Some(json!({"name": "ci", "role": role, "teams": teams}));
    let made = world.ask("POST", "/v1/tokens", &admin.text, wanted("submitter", &["ads"])).await;
    assert_eq!(made.status, 201);
    let made = made.json();
    let (token, id) = (made["token"].as_str().unwrap().to_owned(), made["id"].as_str().unwrap().to_owned());
    assert_eq!(world.ask("GET", "/v1/jobs", &token, None).await.status, 200);
    for (role, teams) in
        [("operator", &[][..]), ("viewer", &["search"]), ("viewer", &["ads", "search"]), ("viewer", &["*"])]
    {
        let answer = world.ask("POST", "/v1/tokens", &admin.text, wanted(role, teams)).await;
        answer.problem(403, "forbidden");
    }
    let wrong = json!({"name": "", "role": "boss", "teams": ["Not a team"], "expires_in_s": 0, "x": 1});
    let problem = world.ask("POST", "/v1/tokens", OPERATOR, Some(wrong)).await.problem(400, "bad_request");
    let fields: Vec<&str> =
        problem["errors"].as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["x", "name", "role", "teams", "expires_in_s"]);
    let problem = world.ask("POST", "/v1/tokens", OPERATOR, wanted("viewer", &[])).await;
    assert_eq!(problem.problem(400, "bad_request")["errors"][0]["field"], "teams");
    let ids = async |token: &str, query: &str| -> Vec<String> {
        let list = world.ask("GET", &format!("/v1/tokens{query}"), token, None).await.json();
        assert!(!list.to_string().contains("secret"), "{list}");
        list["tokens"].as_array().unwrap().iter().map(|t| t["id"].as_str().unwrap().to_owned()).collect()
    };
    let mut all = vec![admin.id.to_string(), other.id.to_string(), id.clone()];
    all.sort();
    assert_eq!(ids(OPERATOR, "").await, all);
    assert_eq!(ids(&other.text, "").await, [other.id.to_string()], "not those of other teams");
    assert_eq!(ids(OPERATOR, "?limit=2").await, all[..2]);
    assert_eq!(ids(OPERATOR, &format!("?limit=2&cursor={}", all[1])).await, all[2..]);
    let path = format!("/v1/tokens/{id}");
    world.ask("DELETE", &path, &other.text, None).await.problem(404, "not_found");
    world.ask("DELETE", &format!("/v1/tokens/{token}"), OPERATOR, None).await.problem(404, "not_found");
    assert_eq!(world.ask("DELETE", &path, &admin.text, None).await.status, 200);
    assert_eq!(world.ask("DELETE", &path, &admin.text, None).await.status, 200, "again changes nothing");
    world.ask("GET", "/v1/jobs", &token, None).await.problem(401, "unauthorized");
    let lines = world.audit_lines().await;
    assert!(!format!("{lines:?}").contains(&token[22..]), "no secret in the log");
    let told: Vec<_> = lines.iter().map(|(a, _, r)| format!("{a} {r}")).collect();
    assert_eq!(
        told[..4],
        ["token.revoke ok", "token.revoke ok", "token.revoke not_found", "token.revoke not_found"]
    );
    assert!(told.ends_with(&["token.create ok".to_owned()]), "{told:?}");
}

#[tokio::test]
async fn callers_that_ask_too_often_are_told_when_to_come_again() {
    let config = AccessConfig {
        requests_per_minute: NonZeroU32::new(1).unwrap(),
        requests_burst: NonZeroU32::new(3).unwrap(),
        ..AccessConfig::default()
    };
    let world = World::guarded(config).await;
    let one = world.token(Role::Viewer, &["ads"]).await.text;
    let two = world.token(Role::Viewer, &["ads"]).await.text;
    for _ in 0..3 {
        assert_eq!(world.ask("GET", "/v1/jobs", &one, None).await.status, 200);
    }
    let answer = world.ask("GET", "/v1/jobs", &one, None).await;
    answer.problem(429, "too_many_requests");
    let wait: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(
        world.ask("GET", "/v1/jobs", &two, None).await.status,
        200,
        "another caller has a rate of its own"
    );
    assert_eq!(world.ask("GET", "/healthz", &one, None).await.status, 200);
}

#[tokio::test]
async fn where_no_token_is_needed_a_wrong_one_is_still_wrong() {
    let world = World::guarded(AccessConfig { required: false, ..AccessConfig::default() }).await;
    assert_eq!(world.ask("GET", "/v1/jobs", "", None).await.status, 200);
    assert_eq!(world.ask("GET", "/metrics", "", None).await.status, 200);
    world.ask("GET", "/v1/jobs", "x", None).await.problem(401, "unauthorized");
    let viewer = world.token(Role::Viewer, &["ads"]).await.text;
    world.ask("POST", "/v1/clusters/east/drain", &viewer, None).await.problem(403, "forbidden");
    let open = World::guarded(AccessConfig { open_metrics: true, ..AccessConfig::default() }).await;
    assert_eq!(open.ask("GET", "/metrics", "", None).await.status, 200);
    open.ask("GET", "/v1/clusters", "", None).await.problem(401, "unauthorized");
}

#[tokio::test]
async fn a_token_ends_elsewhere_when_it_is_looked_up_again_and_its_use_is_noted() {
    let soon = Freshness { refresh: Duration::ZERO, ..Freshness::default() };
    let world = World::guarded(AccessConfig { freshness: soon, ..AccessConfig::default() }).await;
    let token = world.token(Role::Viewer, &["ads"]).await;
    let request = Request::get("/v1/jobs").header("x-ray-authorization", format!("Bearer {}", token.text));
    let request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.text));
    assert_eq!(world.send(request.body(Body::empty()).unwrap()).await.status, 200);
    loop {
        let kept = world.state.store.token(&token.id).await.unwrap().unwrap().token;
        if kept.last_used_at.is_some() {
            break;
        }
        tokio::task::yield_now().await;
    }
    world.state.store.revoke_token(&token.id).await.unwrap(); // as another process would
    world.ask("GET", "/v1/jobs", &token.text, None).await.problem(401, "unauthorized");
}

#[tokio::test]
async fn what_operators_do_is_written_down_and_read_by_pages() {
    let world = World::new().await;
    for path in ["/v1/clusters/east/drain", "/v1/clusters/east/resume", "/v1/clusters/none/drain"] {
        world.ask("POST", path, OPERATOR, None).await;
    }
    world.put_catalog("?dry_run=true", None, "team ads 1").await;
    world.put_catalog("", None, "team ads 1").await;
    let page = world.get("/v1/audit/log?limit=3").await.json();
    let rest = world.get(&format!("/v1/audit/log?limit=3&before={}", page["next"])).await.json();
    let lines = page["lines"].as_array().unwrap().iter().chain(rest["lines"].as_array().unwrap());
    let told: Vec<_> =
        lines.map(|l| format!("{} {} {}", l["action"], l["target"], l["result"]).replace('"', "")).collect();
    assert_eq!(
        told,
        [
            "catalog.apply catalog version 2 applied",
            "cluster.drain cluster none not_found",
            "cluster.resume cluster east ok",
            "cluster.drain cluster east ok",
        ]
    );
    assert_eq!(rest["next"], Value::Null);
    let line = &page["lines"][0];
    assert_eq!((line["actor"].as_str(), line["address"].as_str()), (Some("bootstrap"), Some("-")));
    assert_eq!(line["request"].as_str().map(str::len), Some(36));
}
