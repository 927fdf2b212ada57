//! The commands against a real server over the real SQLite store: every exit code.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use yard_cli::{Command, Global, exit};
use yard_domain::lifecycle::AttemptEnd;
use yard_domain::{
    Capacity, Cluster, ClusterHealth, ClusterReport, Failure, FailureClass, JobId, LeaseScope, Request,
    RetryRules, SubmissionKey, Team, Verdict,
};
use yard_ports::Store;
use yard_ports::store::{AttemptRef, ClaimRequest, EndOrder, PlacementOrder, StoreLimits};
use yard_store_sqlite::SqliteOptions;
use yard_wire::views::FieldProblem;
use yard_wire::{Admission, CatalogDraft};

const LONG: Duration = Duration::from_mins(5);
const TOKEN: &str = "an-operator-of-these-tests";

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// A server with the team `ads` and the cluster `east`.
struct World {
    store: Arc<dyn Store>,
    url: String,
    stop: CancellationToken,
    folder: TempDir,
}

/// Reads the documents of these tests: a team's name on each line.
fn read_catalog(text: &str) -> Result<CatalogDraft, Vec<FieldProblem>> {
    let team = |(n, line): (usize, &str)| {
        let wrong = |e: yard_domain::ids::InvalidName| FieldProblem {
            field: "team".to_owned(),
            code: "invalid".to_owned(),
            message: e.to_string(),
            line: Some(n as u64 + 1),
        };
        line.parse().map(Team::new).map_err(wrong)
    };
    let teams: Vec<_> = text.lines().enumerate().map(team).collect();
    let errors: Vec<_> = teams.iter().filter_map(|t| t.as_ref().err().cloned()).collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    let teams: Vec<Team> = teams.into_iter().flatten().collect();
    Ok(CatalogDraft { catalog: yard_domain::Catalog::of(teams, []), ..CatalogDraft::default() })
}

fn east() -> Cluster {
    Cluster {
        capacity: Some(Capacity(Request { cpu_milli: 8_000, jobs: 10, ..Request::default() })),
        configured: true,
        ..Cluster::new("east".parse().unwrap(), "process")
    }
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions::new(StoreLimits { place_deadline: LONG, launch_deadline: LONG });
        let file = folder.path().join("yard.db");
        yard_store_sqlite::migrate(&file, &options).await.unwrap();
        let store = yard_store_sqlite::connect(&file, &options).await.unwrap();
        let teams = vec![Team::new("ads".parse().unwrap())];
        let clusters = vec![east()];
        store
            .apply_catalog(
                &yard_domain::Catalog::of(teams.clone(), clusters.clone()),
                yard_ports::store::CatalogDocument::configuration("", "test"),
            )
            .await
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, ids) = (CancellationToken::new(), AtomicU64::new(1));
        let packages = yard_packages::Shelf::new(
            store.clone(),
            Arc::new(object_store::memory::InMemory::new()),
            yard_packages::PackageLimits::default(),
            std::time::Duration::from_hours(1),
        );
        let access = yard_server::AccessConfig {
            bootstrap: Some(yard_server::access::token::hash(TOKEN)),
            ..yard_server::AccessConfig::default()
        };
        let keys = Arc::new(yard_server::access::jwt::NoKeys);
        let state = yard_server::AppState {
            access: Arc::new(yard_server::Access::new(store.clone(), access, keys)),
            ray: Arc::new(yard_server::RayApi { packages, config: yard_server::RayApiConfig::default() }),
            store: store.clone(),
            logs: Arc::new(yard_testkit::memory_archive::MemoryArchive::default()),
            driver: Arc::new(|_| None),
            read_catalog: Arc::new(read_catalog),
            submit_rate: Arc::new(|_| Ok(())),
            spill: None,
            admission: watch::channel(Arc::new(Admission::new(
                yard_domain::Catalog::of(teams, clusters),
                [].into(),
            )))
            .1,
            limits: Arc::default(),
            defaults: Arc::default(),
            explainer: Arc::new(yard_engine::Explainer::new(
                store.clone(),
                yard_engine::settings::SchedulerSettings::default(),
                yard_engine::settings::ExplainSettings::default(),
            )),
            nudge: Arc::new(|| {}),
            new_id: Arc::new(move || JobId::new(ids.fetch_add(1, Ordering::Relaxed), [0; 10])),
            metrics: metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder().handle(),
            config: Arc::default(),
            shutdown: stop.clone(),
        };
        tokio::spawn(yard_server::serve(listener, state, stop.clone()));
        Self { store, url, stop, folder }
    }

    /// Runs a command line; its exit code.
    async fn yard(&self, line: &[&str]) -> i32 {
        let server = if line.contains(&"--server") { vec![] } else { vec!["--server", &self.url] };
        let token = if line.contains(&"--token-file") || line.contains(&"--token") {
            vec![]
        } else {
            vec!["--token", TOKEN]
        };
        let all = ["yard"].into_iter().chain(server).chain(token).chain(line.iter().copied());
        let cli = Cli::try_parse_from(all).unwrap_or_else(|e| panic!("{e}"));
        yard_cli::run(cli.command, &cli.global).await
    }

    /// Submits a job of `ads`; its id.
    async fn job(&self, key: &str) -> JobId {
        assert_eq!(self.yard(&["submit", "--team", "ads", "--key", key, "--", "true"]).await, exit::OK);
        let receipt =
            self.store.receipt(&SubmissionKey { team: "ads".to_owned(), key: key.to_owned() }).await;
        match receipt.unwrap().unwrap().verdict {
            Verdict::Accepted { job, .. } => job,
            other => panic!("{other:?}"),
        }
    }

    /// Places the job, launches it, and records its end.
    async fn run(&self, job: JobId, end: AttemptEnd) {
        let store = &self.store;
        let east: yard_domain::ClusterId = "east".parse().unwrap();
        let lease = async |scope| store.acquire_lease(&scope, "test", LONG).await.unwrap().unwrap();
        let dispatcher = lease(LeaseScope::Dispatch(east.clone())).await;
        let report = ClusterReport {
            ray_profiles: None,
            gpu_blocks: None,
            breaker_open: false,
            recent_failures: 0,
            cluster: east.clone(),
            health: ClusterHealth::Ready,
            capacity: None,
            message: None,
        };
        store.report_cluster(&dispatcher, &report).await.unwrap();
        let scheduler = lease(LeaseScope::Scheduler("test".to_owned())).await;
        let view = store.job(job).await.unwrap().unwrap();
        let team = view.lifecycle.team.clone();
        let claim = ClaimRequest { team: team.clone(), shape: view.shape, max: 1 };
        store.claim(&scheduler, &[claim]).await.unwrap();
        let order = PlacementOrder { job, team, cluster: east };
        assert_eq!(store.commit_placements(&scheduler, &[order]).await.unwrap().placed.len(), 1);
        let attempt = store.begin_launches(&dispatcher, 1).await.unwrap().orders[0].attempt;
        let attempt = AttemptRef { job, attempt };
        store.record_started(&dispatcher, &[attempt]).await.unwrap();
        let end = EndOrder { attempt, end, jitter: 1.0 };
        store.record_ends(&dispatcher, &RetryRules::default(), &[end]).await.unwrap();
    }
}

#[tokio::test]
async fn submissions_are_made_once_and_rejections_have_their_own_code() {
    let world = World::new().await;
    let job = world.job("k").await.to_string();
    assert_eq!(world.yard(&["submit", "--team", "ads", "--key", "k", "--", "true"]).await, exit::OK);
    assert_eq!(world.yard(&["submit", "--team", "ads", "--key", "k", "--", "false"]).await, exit::REJECTED);
    assert_eq!(world.yard(&["submit", "--team", "nobody", "--key", "r", "--", "x"]).await, exit::REJECTED);
    assert_eq!(world.yard(&["receipt", "ads", "k"]).await, exit::OK);
    assert_eq!(world.yard(&["receipt", "nobody", "r"]).await, exit::REJECTED);
    assert_eq!(world.yard(&["receipt", "ads", "other"]).await, exit::NOT_FOUND);
    for named in [job.as_str(), "ads/k"] {
        assert_eq!(world.yard(&["get", named]).await, exit::OK);
        assert_eq!(world.yard(&["--json", "history", named]).await, exit::OK);
        assert_eq!(world.yard(&["explain", named]).await, exit::OK);
        assert_eq!(world.yard(&["--json", "explain", named]).await, exit::OK);
    }
    assert_eq!(world.yard(&["explain", "--team", "ads"]).await, exit::OK);
    assert_eq!(world.yard(&["explain", "--team", "nobody"]).await, exit::NOT_FOUND);
    assert_eq!(world.yard(&["explain", "ads/other"]).await, exit::NOT_FOUND);
    assert_eq!(world.yard(&["get", "nobody/r"]).await, exit::NOT_FOUND);
    assert_eq!(world.yard(&["get", "01900000-0000-7000-8000-00000000ffff"]).await, exit::NOT_FOUND);
    assert_eq!(world.yard(&["get", "train"]).await, exit::USAGE);
    let file = world.folder.path().join("job.json");
    std::fs::write(&file, r#"{"v":1,"team":"ads","key":"f","entrypoint":"x"}"#).unwrap();
    assert_eq!(world.yard(&["submit", file.to_str().unwrap()]).await, exit::OK);
    std::fs::write(&file, "{").unwrap();
    assert_eq!(world.yard(&["submit", file.to_str().unwrap()]).await, exit::USAGE);
    assert_eq!(world.yard(&["submit", "/no/such/file"]).await, exit::USAGE);
    assert_eq!(world.yard(&["list", "--team", "ads", "--state", "queued"]).await, exit::OK);
    assert_eq!(world.yard(&["list", "--state", "asleep"]).await, exit::USAGE);
}

#[tokio::test]
async fn many_documents_are_handed_over_a_line_each() {
    let world = World::new().await;
    let line = |key: &str, cpu: u32| {
        format!(r#"{{"v":1,"team":"ads","key":"{key}","entrypoint":"x","resources":{{"cpu":{cpu}}}}}"#)
    };
    let (good, mixed) = (world.folder.path().join("good.jsonl"), world.folder.path().join("mixed.jsonl"));
    std::fs::write(&good, [line("a", 1), String::new(), line("b", 1)].join("\n")).unwrap();
    std::fs::write(&mixed, [line("a", 1), line("b", 2), line("c", 1)].join("\n")).unwrap();
    let (good, mixed) = (good.to_str().unwrap(), mixed.to_str().unwrap());
    assert_eq!(world.yard(&["submit", "--bulk", good]).await, exit::OK);
    assert_eq!(world.yard(&["submit", "--bulk", good, mixed]).await, exit::REJECTED, "b has another body");
    assert_eq!(world.yard(&["--json", "submit", "--bulk", good]).await, exit::OK, "all are duplicates");
    for key in ["a", "b", "c"] {
        assert_eq!(world.yard(&["receipt", "ads", key]).await, exit::OK, "{key}");
    }
    assert_eq!(world.yard(&["submit", "--bulk", "/no/such/file"]).await, exit::USAGE);
}

#[tokio::test]
async fn waiting_tells_how_jobs_ended() {
    let world = World::new().await;
    let (good, bad, stopped) = (world.job("good").await, world.job("bad").await, world.job("stopped").await);
    assert_eq!(world.yard(&["wait", "ads/good", "--timeout", "0.05"]).await, exit::TIMED_OUT);
    assert_eq!(world.yard(&["stop", "ads/stopped", "--reason", "enough"]).await, exit::OK);
    assert_eq!(world.yard(&["stop", "ads/stopped", "ads/never"]).await, exit::NOT_FOUND);
    world.run(good, AttemptEnd::Succeeded).await;
    world.run(bad, AttemptEnd::Failed(Failure::new(FailureClass::User, Some(3), "boom"))).await;
    let [good, bad, stopped] = [good, bad, stopped].map(|id| id.to_string());
    assert_eq!(world.yard(&["wait", &good]).await, exit::OK);
    assert_eq!(world.yard(&["wait", &good, &stopped]).await, exit::NOT_RUN);
    assert_eq!(world.yard(&["wait", &good, &stopped, &bad]).await, exit::JOB_FAILED);
    assert_eq!(world.yard(&["logs", &stopped]).await, exit::NOT_FOUND);
    assert_eq!(world.yard(&["logs", "-f", &stopped]).await, exit::NOT_FOUND);
    assert_eq!(world.yard(&["logs", &good]).await, exit::UNAVAILABLE, "no driver for its cluster here");
}

#[tokio::test]
async fn waiting_outlasts_a_server_that_was_there_before() {
    let world = World::new().await;
    world.job("k").await;
    let url = world.url.clone();
    let waiting = async {
        let cli = Cli::try_parse_from(["yard", "--server", &url, "--token", TOKEN, "wait", "ads/k"]).unwrap();
        yard_cli::run(cli.command, &cli.global).await
    };
    let restart = async {
        // It has seen the job by then.
        tokio::time::sleep(Duration::from_secs(3)).await;
        world.stop.cancel();
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    tokio::select! {
        code = waiting => panic!("gave up with {code}"),
        () = restart => {}
    }
    assert_eq!(world.yard(&["wait", "ads/k"]).await, exit::UNAVAILABLE, "nobody was there from the start");
    assert_eq!(world.yard(&["list"]).await, exit::UNAVAILABLE);
}

#[tokio::test]
async fn the_installation_is_shown_and_switched() {
    let world = World::new().await;
    for line in [&["teams"][..], &["clusters"], &["audit"], &["drain", "east"], &["--json", "resume", "east"]]
    {
        assert_eq!(world.yard(line).await, exit::OK, "{line:?}");
    }
    assert_eq!(world.yard(&["drain", "atlantis"]).await, exit::NOT_FOUND);
    assert_eq!(world.yard(&["--server", "not a url", "teams"]).await, exit::USAGE);
}

#[tokio::test]
async fn a_catalog_is_applied_exported_and_listed() {
    let world = World::new().await;
    let file = world.folder.path().join("catalog.toml");
    let file = file.to_str().unwrap();
    std::fs::write(file, "ads\nsearch\n").unwrap();
    let before = world.store.catalog_version().await.unwrap();
    assert_eq!(world.yard(&["apply", file, "--dry-run"]).await, exit::OK);
    assert_eq!(world.yard(&["apply", file]).await, exit::USAGE, "there is nobody to ask");
    assert_eq!(world.store.catalog_version().await.unwrap(), before);
    assert_eq!(world.yard(&["apply", file, "--yes", "--expected", "99"]).await, exit::REJECTED);
    assert_eq!(world.yard(&["apply", file, "--yes"]).await, exit::OK);
    assert_eq!(world.store.catalog_version().await.unwrap(), before + 1);
    assert_eq!(world.yard(&["--json", "apply", file]).await, exit::OK, "nothing changes: nothing to ask");
    std::fs::write(file, "Ads\nsearch\nS S\n").unwrap();
    assert_eq!(world.yard(&["apply", file, "--yes"]).await, exit::REJECTED);
    assert_eq!(world.store.catalog_version().await.unwrap(), before + 1);
    let kept = world.store.catalog_versions(None, 1).await.unwrap();
    assert_eq!(kept[0].text, "ads\nsearch\n");
    for line in [&["export"][..], &["--json", "export"], &["catalog"], &["catalog", "--limit", "1"]] {
        assert_eq!(world.yard(line).await, exit::OK, "{line:?}");
    }
    assert_eq!(world.yard(&["export", "--version", "99"]).await, exit::NOT_FOUND);
    assert_eq!(world.yard(&["apply", "/no/such/file"]).await, exit::USAGE);
}
