//! A whole process as `yard serve` runs it, with clusters in memory in place of real ones.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use uuid::Uuid;
use yard::serve::{Installation, Queue, Role, Running};
use yard_domain::catalog::CatalogVersion;
use yard_domain::{ClusterId, Grant};
use yard_engine::Ending;
use yard_engine::catalog::Fixed;
use yard_engine::push::{PushBuilder, Subscription};
use yard_engine::settings::{DispatcherSettings, IntakeSettings, PushSettings, SchedulerSettings};
use yard_inbox_sqs::{QueueAddress, SqsConfig, SqsCredentials, SqsEndpoint, SqsInbox, SqsProducer};
use yard_ports::access::NewToken;
use yard_ports::{Inbox, Store};
use yard_server::access::token::FreshToken;
use yard_testkit::memory_archive::MemoryArchive;
use yard_testkit::null_driver::NullDriver;
use yard_wire::{Defaults, Limits};

use crate::Result;
use crate::loops::{logs, runtime};

/// A running process.
pub struct Whole {
    /// Where its API listens.
    pub api: SocketAddr,
    /// The bearer that every request needs, as in production: one from the store.
    pub token: String,
    running: Running,
}

/// No subscriptions.
struct NoPushes;

#[async_trait::async_trait]
impl PushBuilder for NoPushes {
    async fn build(&self, _: &CatalogVersion) -> std::result::Result<Vec<Subscription>, String> {
        Ok(Vec::new())
    }
}

impl Whole {
    /// Starts every role over `store`. `inbox` is where the intake receives; without one it has nothing to do.
    pub async fn start(
        store: Arc<dyn Store>,
        drivers: &HashMap<ClusterId, NullDriver>,
        inbox: Option<Arc<dyn Inbox>>,
        metrics: PrometheusHandle,
    ) -> Result<Self> {
        Self::of(&Role::all(), store, drivers, inbox, metrics).await
    }

    /// Starts the API alone.
    pub async fn api(store: Arc<dyn Store>) -> Result<Self> {
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        Self::of(&[Role::Api].into(), store, &HashMap::new(), None, metrics).await
    }

    async fn of(
        roles: &std::collections::BTreeSet<Role>,
        store: Arc<dyn Store>,
        drivers: &HashMap<ClusterId, NullDriver>,
        inbox: Option<Arc<dyn Inbox>>,
        metrics: PrometheusHandle,
    ) -> Result<Self> {
        let queue = |inbox| Queue { inbox, settings: IntakeSettings::default() };
        let objects = Arc::new(object_store::memory::InMemory::new());
        let limits = yard_packages::PackageLimits::default();
        let token = token(store.as_ref()).await?;
        let packages = yard_packages::Shelf::new(store.clone(), objects, limits, Duration::from_hours(1));
        let plan = Installation {
            ray: yard_server::RayApi { packages, config: yard_server::RayApiConfig::default() },
            store,
            // Nobody has subscribed to anything: what is measured is that this costs nothing.
            push: yard::serve::Push { builder: Arc::new(NoPushes), settings: PushSettings::default() },
            // The world has put its catalog in force.
            catalog: None,
            builder: Arc::new(Fixed(drivers.iter().map(|(id, d)| (id.clone(), runtime(d))).collect())),
            read_catalog: Arc::new(|_| Ok(yard_wire::CatalogDraft::default())),
            queues: inbox.into_iter().map(queue).collect(),
            spill: None,
            doors: BTreeMap::new(),
            catalog_refresh: Duration::from_secs(2),
            limits: Limits::default(),
            defaults: Defaults::default(),
            scheduler: SchedulerSettings::default(),
            explain: yard_engine::settings::ExplainSettings::default(),
            dispatcher: DispatcherSettings::default(),
            // One caller makes all requests here.
            access: yard_server::AccessConfig {
                requests_per_minute: NonZeroU32::MAX,
                requests_burst: NonZeroU32::MAX,
                ..yard_server::AccessConfig::default()
            },
            server: yard_server::ServerConfig::default(),
            logs: Arc::new(MemoryArchive::default()),
            keeping: Some(logs()),
            drain: Duration::from_secs(10),
            metrics,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let api = listener.local_addr()?;
        let running = yard::serve::start(plan, roles, Some(listener), "bench", 1).await?;
        Ok(Self { api, token, running })
    }

    /// Stops it in order.
    pub async fn stop(self) -> Result<()> {
        self.running.soft().cancel();
        match self.running.wait().await {
            Ending::Drained => Ok(()),
            other => Err(format!("the process did not stop in order: {other:?}").into()),
        }
    }
}

/// A fresh token that may do everything.
async fn token(store: &dyn Store) -> Result<String> {
    let fresh = FreshToken::make()?;
    let new = NewToken {
        id: fresh.id,
        name: "bench".to_owned(),
        grant: Grant::operator(),
        secret: fresh.secret,
        created_by: "bench".to_owned(),
        lifetime: None,
    };
    store.create_token(&new).await?;
    Ok(fresh.text)
}

/// A queue on an SQS-compatible server that takes any credentials.
pub struct TestQueue {
    /// To send to it.
    pub producer: SqsProducer,
    /// Where it is.
    pub url: String,
    /// What the intake receives from, configured as by default.
    pub inbox: SqsInbox,
}

impl TestQueue {
    /// A fresh queue on the server at `server`. It stays there: such a server forgets when it ends.
    pub async fn create(server: &str) -> Result<Self> {
        let credentials = SqsCredentials::Local;
        let endpoint = SqsEndpoint { region: None, url: Some(server.to_owned()), credentials };
        let producer = SqsProducer::connect(&endpoint, Duration::from_secs(10)).await;
        let url = producer.ensure_queue(&format!("bench-{}", Uuid::new_v4().simple())).await?;
        let inbox =
            SqsInbox::connect(SqsConfig::new("bench", QueueAddress::Url(url.clone()), endpoint)).await;
        Ok(Self { producer, url, inbox })
    }
}
