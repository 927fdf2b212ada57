//! What the routes' tests start from: the real SQLite store, a scripted driver, and requests without a socket.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use bytes::Bytes;
use futures::{StreamExt, stream};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use yard_domain::lifecycle::AttemptEnd;
use yard_domain::{
    AttemptNumber, Capacity, Cluster, ClusterHealth, ClusterReport, ClusterSwitch, JobId, Lease, LeaseScope,
    Limits, RemoteName, Request as Amounts, RetryRules, Team,
};
use yard_ports::store::{AttemptRef, ClaimRequest, EndOrder, PlacementOrder, Store, StoreLimits};
use yard_ports::{Driver, DriverError, LaunchOutcome, LaunchRequest, LogStream, ObservationStream, PodLog};
use yard_store_sqlite::SqliteOptions;
use yard_testkit::memory_archive::MemoryArchive;
use yard_wire::views::FieldProblem;
use yard_wire::{Admission, CatalogDraft};

use crate::access::jwt::NoKeys;
use crate::access::token::hash;
use crate::{Access, AccessConfig, AppState, ServerConfig, router};

/// The token of the operator in these tests.
pub(crate) const OPERATOR: &str = "an-operator-of-these-tests";

const LONG: Duration = Duration::from_mins(5);

/// The same request, sent by an operator.
pub(crate) fn as_operator(mut request: Request<Body>) -> Request<Body> {
    let value = HeaderValue::from_str(&format!("Bearer {OPERATOR}")).unwrap();
    request.headers_mut().insert(header::AUTHORIZATION, value);
    request
}

/// What `pod_logs` answers.
type PodLogs = Result<Vec<(PodLog, Bytes)>, DriverError>;

/// A driver whose logs are written by the test. Nothing else of it is used by the server.
#[derive(Default)]
pub(crate) struct LogDriver {
    /// What `logs` answers, by remote name; what is not there is not found.
    pub(crate) logs: Mutex<HashMap<String, Log>>,
    /// What `pod_logs` answers; `None` as a driver without any.
    pub(crate) pods: Mutex<Option<PodLogs>>,
    /// From which bytes on logs were asked for.
    pub(crate) asked: Mutex<Vec<u64>>,
}

#[derive(Clone)]
pub(crate) enum Log {
    /// These bytes from the beginning; a follower gets no end after them.
    Text(&'static str),
    /// These bytes, and an end.
    Whole(&'static str),
    /// Breaks off after these bytes.
    Broken(&'static str),
    /// The call itself fails.
    Fails(DriverError),
}

#[async_trait]
impl Driver for LogDriver {
    fn kind(&self) -> &'static str {
        "scripted"
    }

    async fn launch(&self, _: &LaunchRequest) -> Result<LaunchOutcome, DriverError> {
        Err(DriverError::Refused("not for this test".to_owned()))
    }

    fn observe(&self) -> ObservationStream {
        stream::pending().boxed()
    }

    async fn stop(&self, _: &RemoteName) -> Result<(), DriverError> {
        Err(DriverError::NotFound)
    }

    async fn forget(&self, _: &RemoteName) -> Result<(), DriverError> {
        Err(DriverError::NotFound)
    }

    async fn logs(&self, name: &RemoteName, offset: u64, follow: bool) -> Result<LogStream, DriverError> {
        let log = self.logs.lock().unwrap().get(name.as_str()).cloned().ok_or(DriverError::NotFound)?;
        self.asked.lock().unwrap().push(offset);
        let offset = usize::try_from(offset).unwrap();
        let rest = |text: &'static str| {
            stream::iter([Ok(Bytes::from_static(&text.as_bytes()[offset.min(text.len())..]))])
        };
        match log {
            Log::Text(text) if follow => Ok(rest(text).chain(stream::pending()).boxed()),
            Log::Text(text) | Log::Whole(text) => Ok(rest(text).boxed()),
            Log::Broken(text) => {
                let end = stream::iter([Err(DriverError::Unclear("at 10.0.0.7".to_owned()))]);
                Ok(rest(text).chain(end).boxed())
            }
            Log::Fails(error) => Err(error),
        }
    }

    fn has_pod_logs(&self) -> bool {
        self.pods.lock().unwrap().is_some()
    }

    async fn pod_logs(&self, _: &RemoteName, wanted: &[PodLog]) -> PodLogs {
        let found = self.pods.lock().unwrap().clone().unwrap()?;
        Ok(found.into_iter().filter(|(whose, _)| wanted.contains(whose)).collect())
    }

    async fn capacity(&self) -> Result<Option<Capacity>, DriverError> {
        Ok(None)
    }
}

/// A server over a fresh store with the teams `ads` (4 cpus) and `search` and the clusters `east` (16 cpus, 8 gpus;
/// with [`LogDriver`]) and `west` (2 cpus; without a driver).
pub(crate) struct World {
    pub(crate) state: AppState,
    pub(crate) driver: Arc<LogDriver>,
    pub(crate) archive: MemoryArchive,
    pub(crate) nudges: Arc<AtomicUsize>,
    _folder: TempDir,
}

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|e| panic!("{e}: {:?}", self.bytes))
    }

    /// Checks that it is a problem document of this code; returns it.
    pub(crate) fn problem(&self, status: u16, code: &str) -> Value {
        let problem = self.json();
        assert_eq!((self.status.as_u16(), problem["code"].as_str()), (status, Some(code)), "{problem}");
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("urn:yard:problem:{code}"));
        problem
    }
}

fn cluster(id: &str, cpu: u64, gpu: u64) -> Cluster {
    Cluster {
        elastic: None,
        cost_per_hour_micro: None,
        breaker_open: false,
        recent_failures: 0,
        id: id.parse().unwrap(),
        driver: "scripted".to_owned(),
        labels: [].into(),
        capacity: Some(Capacity(Amounts { cpu_milli: cpu, gpu_milli: gpu, jobs: 100, ..Amounts::default() })),
        switch: ClusterSwitch::Open,
        health: ClusterHealth::Unknown,
        last_seen: None,
        configured: true,
        message: None,
        ray_profiles: None,
        gpu_blocks: Vec::new(),
    }
}

/// Reads the documents of these tests: `team ID CPUS` and `cluster ID CPUS ADDRESS`, a line each.
fn read_catalog(text: &str) -> Result<CatalogDraft, Vec<FieldProblem>> {
    let (mut draft, mut errors) = (CatalogDraft::default(), Vec::new());
    for (line, content) in text.lines().enumerate() {
        let words: Vec<&str> = content.split_whitespace().collect();
        let amount = words.get(2).and_then(|n| n.parse::<u64>().ok()).map(|n| n * 1_000);
        match (words.as_slice(), amount) {
            (["team", id, _], Some(cpu)) => {
                let quota = Limits { cpu_milli: Some(cpu), ..Limits::default() };
                draft.catalog.teams.push(Team { quota, ..Team::new(id.parse().unwrap()) });
            }
            (["cluster", id, _, address], Some(cpu)) => {
                draft.catalog.clusters.push(cluster(id, cpu, 0));
                let settings = [("address".to_owned(), (*address).to_owned())].into();
                draft.settings.insert(id.parse().unwrap(), settings);
            }
            _ => errors.push(FieldProblem {
                field: "line".to_owned(),
                code: "invalid".to_owned(),
                message: "can't be read: mend it".to_owned(),
                line: Some(line as u64 + 1),
            }),
        }
    }
    if errors.is_empty() { Ok(draft) } else { Err(errors) }
}

/// How the world's packages are fetched by clusters.
pub(crate) fn package_links() -> yard_packages::Links {
    yard_packages::Links::new("", yard_packages::LinkKey::parse(&"k".repeat(24)).unwrap(), None)
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(ServerConfig::default()).await
    }

    pub(crate) async fn with(config: ServerConfig) -> Self {
        Self::build(config, AccessConfig::default()).await
    }

    /// With another configuration of access; requests without a token of their own are an operator's in any case.
    pub(crate) async fn guarded(access: AccessConfig) -> Self {
        Self::build(ServerConfig::default(), access).await
    }

    async fn build(config: ServerConfig, access: AccessConfig) -> Self {
        let access = AccessConfig { bootstrap: Some(hash(OPERATOR)), ..access };
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions::new(StoreLimits { place_deadline: LONG, launch_deadline: LONG });
        let file = folder.path().join("yard.db");
        yard_store_sqlite::migrate(&file, &options).await.unwrap();
        let store = yard_store_sqlite::connect(&file, &options).await.unwrap();
        let quota = Limits { cpu_milli: Some(4_000), ..Limits::default() };
        let teams = vec![
            Team { quota, ..Team::new("ads".parse().unwrap()) },
            Team { weight: 2, ..Team::new("search".parse().unwrap()) },
        ];
        let clusters = vec![cluster("east", 16_000, 8_000), cluster("west", 2_000, 0)];
        store
            .apply_catalog(
                &yard_domain::Catalog::of(teams.clone(), clusters.clone()),
                yard_ports::store::CatalogDocument::configuration("", "test"),
            )
            .await
            .unwrap();
        let objects = Arc::new(object_store::memory::InMemory::new());
        let limits = yard_packages::PackageLimits { bytes_max: 8, ..Default::default() };
        let packages =
            yard_packages::Shelf::new(store.clone(), objects, limits, LONG).with_links(Some(package_links()));
        let (driver, nudges) = (Arc::new(LogDriver::default()), Arc::new(AtomicUsize::new(0)));
        let (counted, ids) = (nudges.clone(), AtomicU64::new(1));
        let drivers: HashMap<yard_domain::ClusterId, _> =
            HashMap::from([("east".parse().unwrap(), driver.clone() as Arc<dyn Driver>)]);
        let explainer = yard_engine::Explainer::new(
            store.clone(),
            yard_engine::settings::SchedulerSettings::default(),
            yard_engine::settings::ExplainSettings::default(),
        );
        let archive = MemoryArchive::default();
        let state = AppState {
            access: Arc::new(Access::new(store.clone(), access, Arc::new(NoKeys))),
            logs: Arc::new(archive.clone()),
            store,
            explainer: Arc::new(explainer),
            driver: Arc::new(move |id| drivers.get(id).cloned()),
            read_catalog: Arc::new(crate::testing::read_catalog),
            submit_rate: Arc::new(|_| Ok(())),
            spill: None,
            admission: watch::channel(Arc::new(Admission::new(
                yard_domain::Catalog::of(teams, clusters),
                [].into(),
            )))
            .1,
            limits: Arc::default(),
            defaults: Arc::default(),
            nudge: Arc::new(move || _ = counted.fetch_add(1, Ordering::Relaxed)),
            new_id: Arc::new(move || JobId::new(ids.fetch_add(1, Ordering::Relaxed), [0; 10])),
            metrics: PrometheusBuilder::new().build_recorder().handle(),
            ray: Arc::new(crate::RayApi { packages, config: crate::RayApiConfig::default() }),
            config: Arc::new(config),
            shutdown: CancellationToken::new(),
        };
        Self { state, driver, archive, nudges, _folder: folder }
    }

    /// Sends a request as an operator, unless it says otherwise (an empty token: none).
    pub(crate) async fn send(&self, mut request: Request<Body>) -> Answer {
        match request.headers().get(header::AUTHORIZATION) {
            None => request = as_operator(request),
            Some(value) if value.is_empty() => _ = request.headers_mut().remove(header::AUTHORIZATION),
            Some(_) => {}
        }
        let response = router(self.state.clone()).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 10 << 20).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, bytes }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    /// Sends a catalog document.
    pub(crate) async fn put_catalog(&self, query: &str, if_match: Option<&str>, text: &str) -> Answer {
        let request = Request::put(format!("/v1/catalog{query}"))
            .header(header::CONTENT_TYPE, "application/toml; charset=utf-8");
        let request = if_match.into_iter().fold(request, |r, tag| r.header(header::IF_MATCH, tag));
        self.send(request.body(Body::from(text.to_owned())).unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json");
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// Submits a job of the team `search`; returns its id.
    pub(crate) async fn job(&self, key: &str) -> JobId {
        let document = json!({"v": 1, "team": "search", "key": key, "entrypoint": "python x.py"});
        let answer = self.post("/v1/jobs", &document).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{:?}", answer.bytes);
        answer.json()["id"].as_str().unwrap().parse().unwrap()
    }

    pub(crate) fn nudged(&self) -> usize {
        self.nudges.load(Ordering::Relaxed)
    }

    async fn lease(&self, scope: LeaseScope) -> Lease {
        self.state.store.acquire_lease(&scope, "test", LONG).await.unwrap().unwrap()
    }

    /// Places a queued job on a cluster, launches it and shows it running.
    pub(crate) async fn run(&self, job: JobId, cluster: &str) -> AttemptNumber {
        let store: &dyn Store = &*self.state.store;
        let id: yard_domain::ClusterId = cluster.parse().unwrap();
        let dispatcher = self.lease(LeaseScope::Dispatch(id.clone())).await;
        let report = ClusterReport {
            ray_profiles: None,
            gpu_blocks: None,
            breaker_open: false,
            recent_failures: 0,
            cluster: id.clone(),
            health: ClusterHealth::Ready,
            capacity: None,
            message: None,
        };
        store.report_cluster(&dispatcher, &report).await.unwrap();
        let scheduler = self.lease(LeaseScope::Scheduler("test".to_owned())).await;
        let view = store.job(job).await.unwrap().unwrap();
        let team = view.lifecycle.team.clone();
        let claim = ClaimRequest { team: team.clone(), shape: view.shape, max: 1 };
        assert_eq!(store.claim(&scheduler, &[claim]).await.unwrap()[0].id, job);
        let order = PlacementOrder { job, team, cluster: id };
        let report = store.commit_placements(&scheduler, &[order]).await.unwrap();
        assert_eq!(report.placed.len(), 1, "{report:?}");
        let batch = store.begin_launches(&dispatcher, 1).await.unwrap();
        let attempt = batch.orders[0].attempt;
        store.record_started(&dispatcher, &[AttemptRef { job, attempt }]).await.unwrap();
        attempt
    }

    /// Records the end of a running attempt.
    pub(crate) async fn end(&self, job: JobId, attempt: AttemptNumber, cluster: &str, end: AttemptEnd) {
        let dispatcher = self.lease(LeaseScope::Dispatch(cluster.parse().unwrap())).await;
        let order = EndOrder { attempt: AttemptRef { job, attempt }, end, jitter: 1.0 };
        self.state.store.record_ends(&dispatcher, &RetryRules::default(), &[order]).await.unwrap();
    }
}
