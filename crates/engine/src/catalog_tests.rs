//! The loop over a real store, with drivers that do nothing.

use std::sync::Mutex;

use tempfile::TempDir;
use yard_domain::{Capacity, ClusterHealth, ClusterReport, LeaseScope, Request, Team};
use yard_ports::store::{CatalogDocument, StoreLimits};
use yard_store_sqlite::SqliteOptions;

use super::*;
use crate::dispatch::absent::AbsentDriver;
use crate::settings::LaunchLimits;

const LONG: Duration = Duration::from_mins(5);

/// Documents are cluster names; drivers are made once each, and not for those in `undrivable`.
#[derive(Default)]
struct Names {
    made: Mutex<Runtimes>,
    undrivable: Mutex<BTreeSet<ClusterId>>,
}

fn runtime() -> ClusterRuntime {
    ClusterRuntime {
        driver: Arc::new(AbsentDriver),
        launches: LaunchLimits::default(),
        reads_capacity: false,
        jobs_max: 1,
        resync: LONG,
    }
}

impl RuntimeBuilder for Names {
    fn build(
        &self,
        document: &CatalogVersion,
        only: Option<&BTreeSet<ClusterId>>,
    ) -> Result<Runtimes, String> {
        if document.text == "nonsense" {
            return Err("no list of names".to_owned());
        }
        let ids = document.text.split_whitespace().map(|id| id.parse::<ClusterId>().unwrap());
        let undrivable = self.undrivable.lock().unwrap();
        let wanted = ids.filter(|id| only.is_none_or(|o| o.contains(id)) && !undrivable.contains(id));
        let mut made = self.made.lock().unwrap();
        Ok(wanted.map(|id| (id.clone(), made.entry(id).or_insert_with(runtime).clone())).collect())
    }
}

struct World {
    store: Arc<dyn Store>,
    names: Arc<Names>,
    _folder: TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions::new(StoreLimits { place_deadline: LONG, launch_deadline: LONG });
        let file = folder.path().join("yard.db");
        yard_store_sqlite::migrate(&file, &options).await.unwrap();
        let store = yard_store_sqlite::connect(&file, &options).await.unwrap();
        Self { store, names: Arc::default(), _folder: folder }
    }

    async fn apply(&self, text: &str) {
        let capacity = Some(Capacity(Request { cpu_milli: 1_000, jobs: 1, ..Request::default() }));
        let names = text
            .split_whitespace()
            .map(|id| Cluster { capacity: capacity.clone(), ..Cluster::new(id.parse().unwrap(), "absent") });
        let clusters: Vec<Cluster> = names.collect();
        let catalog = yard_domain::Catalog::of([Team::new("ads".parse().unwrap())], clusters);
        let source = yard_domain::catalog::CatalogSource::Applied;
        let document = CatalogDocument { text, by: "test", source, expected: None };
        self.store.apply_catalog(&catalog, document).await.unwrap();
    }

    async fn load(&self) -> (Catalog, CatalogLoop) {
        load(self.store.clone(), Doors::new(), LONG, self.names.clone()).await.unwrap()
    }

    /// Keeps the cluster's row from going when it is taken out: a job is placed on it.
    async fn occupy(&self, cluster: &str) {
        use yard_ports::store::{ClaimRequest, PlacementOrder};
        let id: ClusterId = cluster.parse().unwrap();
        let lease = async |scope| self.store.acquire_lease(&scope, "test", LONG).await.unwrap().unwrap();
        let dispatcher = lease(LeaseScope::Dispatch(id.clone())).await;
        let report = ClusterReport {
            ray_profiles: None,
            gpu_blocks: None,
            cluster: id.clone(),
            health: ClusterHealth::Ready,
            capacity: None,
            breaker_open: false,
            recent_failures: 0,
            message: None,
        };
        self.store.report_cluster(&dispatcher, &report).await.unwrap();
        let scheduler = lease(LeaseScope::Scheduler("test".to_owned())).await;
        let catalog = self.store.catalog().await.unwrap();
        let admission = Admission::new(catalog, Doors::new());
        let (limits, defaults) = (yard_wire::Limits::default(), yard_wire::Defaults::default());
        let intake = yard_wire::Intake { admission: &admission, limits: &limits, defaults: &defaults };
        let source = yard_wire::Source {
            door: "http".to_owned(),
            message_id: "m".to_owned(),
            sent_at: None,
            by: None,
            key: None,
        };
        let job = yard_domain::JobId::new(1, [0; 10]);
        let arrival = intake.arrival(br#"{"v":1,"team":"ads","key":"k","entrypoint":"x"}"#, &source, job);
        self.store.accept(&[arrival]).await.unwrap();
        let view = self.store.job(job).await.unwrap().unwrap();
        let team = view.lifecycle.team.clone();
        let claim = ClaimRequest { team: team.clone(), shape: view.shape, max: 1 };
        self.store.claim(&scheduler, &[claim]).await.unwrap();
        let order = PlacementOrder { job, team, cluster: id };
        assert_eq!(self.store.commit_placements(&scheduler, &[order]).await.unwrap().placed.len(), 1);
        self.store.release_lease(&dispatcher).await.unwrap();
    }
}

fn known(catalog: &Catalog) -> Vec<String> {
    let mut ids: Vec<String> = catalog.runtimes().borrow().keys().map(ToString::to_string).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn another_version_is_taken_over_and_what_stays_keeps_its_driver() {
    let world = World::new().await;
    let (catalog, mut looping) = world.load().await;
    assert!(known(&catalog).is_empty(), "nothing is in force yet");
    world.apply("east west").await;
    looping.refresh().await.unwrap();
    assert_eq!(known(&catalog), ["east", "west"]);
    assert_eq!(catalog.admission().clusters.len(), 2);
    let east: ClusterId = "east".parse().unwrap();
    let before = catalog.runtimes().borrow()[&east].driver.clone();
    world.apply("east north").await;
    looping.refresh().await.unwrap();
    assert_eq!(known(&catalog), ["east", "north"]);
    assert!(Arc::ptr_eq(&before, &catalog.runtimes().borrow()[&east].driver));
    let mut news = catalog.runtimes();
    news.mark_unchanged();
    looping.refresh().await.unwrap();
    assert!(!news.has_changed().unwrap(), "nothing is made anew without another version");
}

#[tokio::test]
async fn a_cluster_taken_out_is_driven_on_also_by_a_process_that_starts_later() {
    let world = World::new().await;
    world.apply("east west").await;
    let (catalog, mut looping) = world.load().await;
    world.occupy("west").await;
    world.apply("east").await;
    world.apply("east north").await;
    looping.refresh().await.unwrap();
    assert_eq!(known(&catalog), ["east", "north", "west"]);
    let (later, _) = world.load().await;
    assert_eq!(known(&later), ["east", "north", "west"], "found in an older version");
}

#[tokio::test]
async fn what_can_not_be_driven_or_read_is_left_as_it_is() {
    let world = World::new().await;
    world.names.undrivable.lock().unwrap().insert("west".parse().unwrap());
    world.apply("east west").await;
    let (catalog, mut looping) = world.load().await;
    assert_eq!(known(&catalog), ["east"]);
    // Its secret has come: found when it is tried again.
    world.names.undrivable.lock().unwrap().clear();
    let (version, again) = looping.built.unwrap();
    assert!(again.is_some());
    looping.built = Some((version, Some(Instant::now())));
    looping.refresh().await.unwrap();
    assert_eq!(known(&catalog), ["east", "west"]);
    world.apply("nonsense").await;
    looping.refresh().await.unwrap();
    assert_eq!(known(&catalog), ["east", "west"]);
}
