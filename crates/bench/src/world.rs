//! An installation to measure: a fresh database with the product's schema, 15 teams with unequal shares, some
//! clusters with room for everything, and submissions that look like real ones.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use uuid::Uuid;
use yard_domain::{
    Arrival, Capacity, Catalog, Cluster, ClusterHealth, ClusterId, InstanceId, Request, Team, Verdict,
};
use yard_engine::intake::IdSource;
use yard_ports::Store;
use yard_ports::store::{CatalogDocument, StoreLimits};
use yard_store_mysql::MySqlOptions;
use yard_wire::{Admission, Defaults, Intake, Limits, Source};

use crate::Result;
use crate::database::Scratch;

/// Teams of an installation.
pub const TEAMS: usize = 15;

/// Connections of the pool for plain SQL: more than any floor's writers.
const POOL: u32 = 32;

/// See the module.
pub struct World {
    /// The database.
    pub db: Scratch,
    /// The store on it.
    pub store: Arc<dyn Store>,
    /// Its id.
    pub instance: InstanceId,
    /// Its clusters.
    pub clusters: Vec<ClusterId>,
    /// What submissions are checked against.
    pub admission: Arc<Admission>,
}

impl World {
    /// Makes it on the server of `url`: 15 teams without bounds, and this many clusters.
    pub async fn create(url: &str, clusters: usize) -> Result<Self> {
        let (teams, clusters) = catalog(clusters)?;
        Self::with(url, Catalog::of(teams, clusters)).await
    }

    /// Makes it with these teams and clusters.
    pub async fn with(url: &str, catalog: Catalog) -> Result<Self> {
        let db = Scratch::create(url, POOL).await?;
        let options = MySqlOptions::new(limits());
        yard_store_mysql::migrate(&db.url, &options).await?;
        let store = yard_store_mysql::connect(&db.url, &options).await?;
        store.apply_catalog(&catalog, CatalogDocument::configuration("", "bench")).await?;
        let Catalog { teams, clusters, .. } = catalog;
        let instance = store.instance().await?;
        let ids = clusters.iter().map(|c| c.id.clone()).collect();
        let admission = Arc::new(Admission::new(yard_domain::Catalog::of(teams, clusters), BTreeMap::new()));
        Ok(Self { db, store, instance, clusters: ids, admission })
    }

    /// Removes it.
    pub async fn remove(self) -> Result<()> {
        drop(self.store);
        self.db.drop_database().await
    }

    /// Takes in submissions, untimed: several batches side by side.
    pub async fn accept(&self, bodies: &[String], batch: usize) -> Result<()> {
        let mut tasks = tokio::task::JoinSet::new();
        for part in bodies.chunks(bodies.len().div_ceil(4).max(1)) {
            let mut reader = Reader::new(self.admission.clone());
            let batches: Vec<Vec<Arrival>> =
                part.chunks(batch).map(|bodies| bodies.iter().map(|b| reader.read(b)).collect()).collect();
            let store = self.store.clone();
            tasks.spawn(async move {
                for arrivals in batches {
                    check_accepted(&store.accept(&arrivals).await?)?;
                }
                Ok::<_, crate::Failure>(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(())
    }
}

/// The teams, and this many clusters.
pub fn catalog(clusters: usize) -> Result<(Vec<Team>, Vec<Cluster>)> {
    let clusters = (0..clusters).map(cluster).collect::<Result<_>>()?;
    Ok(((0..TEAMS).map(team).collect::<Result<_>>()?, clusters))
}

/// Clocks that run out in no benchmark.
pub fn limits() -> StoreLimits {
    StoreLimits { place_deadline: Duration::from_mins(30), launch_deadline: Duration::from_mins(30) }
}

/// Fails unless every verdict made a job.
pub fn check_accepted(verdicts: &[Verdict]) -> Result<()> {
    match verdicts.iter().find(|v| !matches!(v, Verdict::Accepted { first: true, .. })) {
        None => Ok(()),
        Some(other) => Err(format!("a submission was not accepted: {other:?}").into()),
    }
}

fn cluster(i: usize) -> Result<Cluster> {
    let amount = 1_000_000_000_000;
    let all = Request {
        cpu_milli: amount,
        gpu_milli: amount,
        memory_bytes: 1 << 60,
        jobs: 10_000_000,
        custom_milli: BTreeMap::from([("A100".to_owned(), amount)]),
    };
    Ok(Cluster {
        labels: BTreeMap::from([("region".to_owned(), format!("region-{i}"))]),
        capacity: Some(Capacity(all)),
        health: ClusterHealth::Ready,
        ..Cluster::new(format!("cluster-{i}").parse()?, "null")
    })
}

/// The name of a team.
pub fn team_name(i: usize) -> String {
    format!("team-{i:02}")
}

fn team(i: usize) -> Result<Team> {
    Ok(Team { weight: 1 + u32::try_from(i % 4)?, ..Team::new(team_name(i).parse()?) })
}

/// Reads messages as the intake does.
pub struct Reader {
    admission: Arc<Admission>,
    limits: Limits,
    defaults: Defaults,
    ids: IdSource,
}

impl Reader {
    /// A reader; its ids are random.
    pub fn new(admission: Arc<Admission>) -> Self {
        let ids = IdSource::new(unix_ms, Uuid::new_v4().as_u64_pair().0);
        Self { admission, limits: Limits::default(), defaults: Defaults::default(), ids }
    }

    /// What the intake makes of a message.
    pub fn read(&mut self, body: &str) -> Arrival {
        let id = self.ids.next_id();
        let source = Source {
            door: "sqs:bench".to_owned(),
            message_id: id.to_string(),
            sent_at: None,
            by: None,
            key: None,
        };
        let rules = Intake { admission: &self.admission, limits: &self.limits, defaults: &self.defaults };
        rules.arrival(body.as_bytes(), &source, id)
    }
}

/// The wall clock in microseconds, to compare with the database's clock on the same machine.
#[expect(
    clippy::disallowed_methods,
    reason = "only ever compared with the database's clock on the same machine"
)]
pub fn unix_us() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(0))
}

/// The wall clock, for the order of ids.
fn unix_ms() -> u64 {
    unix_us() / 1_000
}

/// Submissions as batch systems send them, each with its own key. Teams have unequal shares: the first has the
/// most, the last a fifteenth of that.
pub fn bodies(n: usize, prefix: &str) -> Vec<String> {
    let mut rng = SmallRng::seed_from_u64(7);
    let total: f64 = (1..=TEAMS).map(|i| 1.0 / i as f64).sum();
    let mut pick = move || {
        let mut rest = rng.random_range(0.0..total);
        (0..TEAMS).find(|i| {
            rest -= 1.0 / (i + 1) as f64;
            rest <= 0.0
        })
    };
    (0..n).map(|i| body(&team_name(pick().unwrap_or(0)), &format!("{prefix}-{i}"), i)).collect()
}

/// One submission; `i` decides which of three shapes it has.
pub fn body(team: &str, key: &str, i: usize) -> String {
    let resources = match i % 3 {
        0 => json!({"cpu": 1}),
        1 => json!({"cpu": 2, "memory": "8GiB"}),
        _ => json!({"cpu": 4, "gpu": 1, "memory": "32GiB", "custom": {"A100": 1}}),
    };
    json!({
        "v": 1, "team": team, "key": key, "name": "train-resnet",
        "entrypoint": format!("python train.py --epochs 3 --shard {i} --out s3://models/{key}"),
        "runtime_env": {"env_vars": {"EPOCHS": "3", "SHARD": i.to_string()}},
        "resources": resources, "priority": 0, "retry": {"max_retries": 2},
        "timeouts": {"queue_s": 86_400, "run_s": 21_600},
        "metadata": {"owner": "nightly", "dag": "train", "run": key},
    })
    .to_string()
}
