//! Of teams, clusters, the catalog, tokens and the rest of the installation.

use yard_wire::views::{
    Amounts, AuditLineView, AuditLog, AuditView, CatalogAnswer, CatalogChange, CatalogVersionList,
    CatalogVersionView, ClusterList, ClusterView, GpuBlocksView, Quota, SearchView, SwitchAnswer,
    TeamExplanationView, TeamHoldView, TeamList, TeamView, TokenList, TokenMade, TokenRequest, TokenView,
    WorkloadLine,
};

use super::jobs::{amounts, full, job_ends, older};
use super::{CLUSTER, Example, JOB, LATER, NOW, TEAM, TEXT, TOKEN_ID, json_of, text_of};
use crate::routes::health::{Alive, Ready};

/// A catalog that can be put in force.
pub const CATALOG: &str = r#"[[team]]
id = "ads"
quota = { cpu = 8, gpu = 2 }

[[cluster]]
id = "east"
driver = "ray"
address = "http://ray-east:8265"
token_env = "RAY_EAST_TOKEN"
capacity = { cpu = 16, gpu = 4, memory = "64GiB" }
"#;
const TOML: &str = "application/toml";

/// Of what is sent.
pub(super) fn bodies(operation: &str) -> Vec<Example> {
    match operation {
        "apply_catalog" => vec![text_of(TOML, "A team and a cluster", CATALOG)],
        "create_token" => {
            let request = TokenRequest {
                name: "nightly batch".to_owned(),
                role: "submitter".to_owned(),
                teams: vec![TEAM.to_owned()],
                expires_in_s: Some(90 * 86_400),
            };
            vec![json_of("For a program of a team", &request)]
        }
        _ => Vec::new(),
    }
}

/// Of what is answered.
pub(super) fn answers(operation: &str, status: &str) -> Vec<Example> {
    match (operation, status) {
        ("list_teams", "200") => vec![json_of("One team", &TeamList { teams: vec![team()] })],
        ("explain_team", "200") => vec![json_of("Held by a full cluster", &team_explanation())],
        ("list_clusters", "200") => vec![json_of("One cluster", &ClusterList { clusters: vec![cluster()] })],
        ("drain_cluster", "200") => vec![json_of("Drained", &switched("drained"))],
        ("resume_cluster", "200") => vec![json_of("Open", &switched("open"))],
        ("apply_catalog", "200") => vec![json_of("In force", &applied())],
        ("get_catalog", "200") => {
            vec![text_of(TOML, "As it was written", CATALOG), json_of("Whole", &version(Some(CATALOG)))]
        }
        ("list_catalog_versions", "200") => {
            vec![json_of("One version", &CatalogVersionList { versions: vec![version(None)], next: None })]
        }
        ("audit_accounts", "200") => {
            vec![json_of("As it should be", &AuditView { exact: true, drift: Vec::new() })]
        }
        ("list_audit_log", "200") => vec![json_of("One change", &audit_log())],
        ("create_token", "201") => vec![json_of("Shown this once", &made())],
        ("list_tokens", "200") => {
            vec![json_of("One token", &TokenList { tokens: vec![token(None)], next: None })]
        }
        ("revoke_token", "200") => vec![json_of("Revoked", &token(Some(LATER)))],
        ("list_workload", "200") => {
            let line = serde_json::to_string(&workload()).unwrap_or_default();
            vec![text_of("application/jsonl", "One job", format!("{line}\n"))]
        }
        ("healthz", "200") => vec![json_of("Alive", &Alive { alive: true })],
        ("readyz", "200") => {
            vec![json_of("Ready", &Ready { ready: true, database_time: NOW.to_owned() })]
        }
        ("metrics", "200") => {
            vec![text_of(TEXT, "Some of them", "# TYPE yard_store_up gauge\nyard_store_up 1\n")]
        }
        _ => Vec::new(),
    }
}

fn team() -> TeamView {
    TeamView {
        id: TEAM.to_owned(),
        cohort: None,
        weight: 1,
        quota: Quota { cpu: Some(8.0), gpu: Some(2.0), ..Quota::default() },
        max: Quota::default(),
        used: amounts(),
        borrowed: Amounts::default(),
        lent: Amounts::default(),
        open: [("running".to_owned(), 1), ("queued".to_owned(), 3)].into(),
    }
}

fn team_explanation() -> TeamExplanationView {
    TeamExplanationView {
        now: NOW.to_owned(),
        team: TEAM.to_owned(),
        queued: 3,
        starting: 0,
        message: "3 wait, 3 of them because no cluster has room now".to_owned(),
        share: 0.25,
        holds: vec![TeamHoldView {
            code: "no_cluster".to_owned(),
            message: "no cluster has room now".to_owned(),
            jobs: 3,
            shapes: 1,
            first: JOB.to_owned(),
            clusters: vec![full()],
        }],
        changes: vec![yard_wire::views::ChangeView { jobs_more: Some(1), ..job_ends() }],
        ahead: vec![older()],
        search: SearchView { plans: 9, cut_short: false },
    }
}

fn cluster() -> ClusterView {
    let capacity = Amounts { cpu: 16.0, gpu: 4.0, memory_bytes: 64 << 30, jobs: 100, ..Amounts::default() };
    ClusterView {
        id: CLUSTER.to_owned(),
        driver: "kuberay".to_owned(),
        labels: [("zone".to_owned(), "a".to_owned())].into(),
        switch: "open".to_owned(),
        health: "ready".to_owned(),
        takes_jobs: true,
        configured: true,
        last_seen: Some(NOW.to_owned()),
        elastic: None,
        cost_per_hour: Some(1.25),
        breaker_open: false,
        recent_failures: 0,
        used: amounts(),
        free: Some(Amounts { cpu: 14.0, gpu: 3.0, memory_bytes: 56 << 30, jobs: 99, ..Amounts::default() }),
        capacity: Some(capacity),
        profiles: vec!["cpu".to_owned(), "gpu".to_owned()],
        gpus: vec![GpuBlocksView {
            kind: "NVIDIA-A10G".to_owned(),
            capacity: 4.0,
            free: 3.0,
            largest_free: 1.0,
            largest: 2.0,
        }],
        message: None,
    }
}

fn switched(switch: &str) -> SwitchAnswer {
    SwitchAnswer { id: CLUSTER.to_owned(), switch: switch.to_owned() }
}

fn applied() -> CatalogAnswer {
    let change = CatalogChange {
        field: Some("quota.gpu".to_owned()),
        from: Some("2".to_owned()),
        to: Some("4".to_owned()),
        ..CatalogChange::new("team", TEAM, "changed")
    };
    CatalogAnswer { answer: "applied".to_owned(), version: 8, changes: vec![change] }
}

fn version(text: Option<&str>) -> CatalogVersionView {
    CatalogVersionView {
        version: 7,
        at: NOW.to_owned(),
        by: "user:ann (token 0f3a9c0d5e6b7182)".to_owned(),
        source: "applied".to_owned(),
        text: text.map(str::to_owned),
    }
}

fn audit_log() -> AuditLog {
    let line = AuditLineView {
        id: 120,
        at: NOW.to_owned(),
        actor: "nightly batch (token 0f3a9c0d5e6b7182)".to_owned(),
        address: "10.0.0.7".to_owned(),
        action: "job.stop".to_owned(),
        target: format!("job {JOB} of team {TEAM}"),
        result: "ok".to_owned(),
        request: "7b0f1d2e-3c4b-4a59-8d6e-9f0a1b2c3d4e".to_owned(),
    };
    AuditLog { lines: vec![line], next: Some(120) }
}

fn token(revoked_at: Option<&str>) -> TokenView {
    TokenView {
        id: TOKEN_ID.to_owned(),
        name: "nightly batch".to_owned(),
        role: "submitter".to_owned(),
        teams: vec![TEAM.to_owned()],
        created_by: "ann (corp)".to_owned(),
        created_at: NOW.to_owned(),
        expires_at: Some(LATER.to_owned()),
        last_used_at: None,
        revoked_at: revoked_at.map(str::to_owned),
    }
}

fn made() -> TokenMade {
    // Not a token of anybody: a secret of zeros is never made.
    TokenMade { token: format!("yard_{TOKEN_ID}_{}", "0".repeat(64)), about: token(None) }
}

fn workload() -> WorkloadLine {
    WorkloadLine {
        at_s: 1_795_386_645.123_456,
        team: TEAM.to_owned(),
        priority: 0,
        resources: amounts(),
        clusters: None,
        run_s: Some(5_400.0),
        run_timeout_s: 21_600.0,
        queue_timeout_s: 86_400.0,
        job: JOB.to_owned(),
        waited_s: Some(12.5),
    }
}
