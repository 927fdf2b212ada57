//! From a valid configuration to the parts that `serve` starts: the only place that names adapters.

use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use yard_engine::archive::LogKeeping;
use yard_engine::catalog::Doors;
use yard_engine::intake::door;
use yard_inbox_sqs::SqsInbox;
use yard_packages::Shelf;
use yard_ports::{LogArchive, Spill, Store, StoreError};
use yard_storage::LogObjects;
use yard_store_mysql::MySqlOptions;
use yard_store_sql::{RetryOptions, StoreOptions};
use yard_store_sqlite::SqliteOptions;

use crate::config::{Config, DatabaseUrl, Environment};
use crate::drivers::{Drivers, catalog_reader};
use crate::pushes::Pushes;
use crate::serve::{Installation, Queue, Role};

/// Why the parts could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// The store.
    #[error("the store can't be opened")]
    Store(#[from] StoreError),
    /// Where packages and archived logs are kept.
    #[error("the object storage can't be opened")]
    Storage(#[from] yard_storage::StorageError),
}

/// What is done about the schema when a store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// It must be the one this binary was made for.
    Check,
    /// It is brought up to date first.
    Migrate,
}

impl Schema {
    /// SQLite is one process's own and brought up to date without asking; a shared database by `yard migrate` only.
    pub fn of(config: &Config) -> Self {
        if matches!(config.database.url, DatabaseUrl::Sqlite(_)) { Self::Migrate } else { Self::Check }
    }
}

/// Opens the configured store.
pub async fn open_store(config: &Config, schema: Schema) -> Result<Arc<dyn Store>, StoreError> {
    let database = &config.database;
    let retry = RetryOptions { retries_max: database.tx_retries_max, ..RetryOptions::default() };
    let store = StoreOptions { limits: config.store_limits, retry };
    match &database.url {
        DatabaseUrl::Sqlite(path) => {
            let options = SqliteOptions {
                store,
                acquire_timeout: database.acquire_timeout,
                ..SqliteOptions::new(config.store_limits)
            };
            if schema == Schema::Migrate {
                yard_store_sqlite::migrate(path, &options).await?;
            }
            yard_store_sqlite::connect(path, &options).await
        }
        DatabaseUrl::MySql(url) => {
            let options = MySqlOptions {
                store,
                connections_max: database.pool_max,
                acquire_timeout: database.acquire_timeout,
                ..MySqlOptions::new(config.store_limits)
            };
            if schema == Schema::Migrate {
                yard_store_mysql::migrate(url.expose(), &options).await?;
            }
            yard_store_mysql::connect(url.expose(), &options).await
        }
    }
}

/// Puts everything together for these roles. SQLite is this process's own, so its schema is brought up to
/// date without asking; a shared database is migrated by `yard migrate` only.
pub async fn installation(
    config: &Config,
    roles: &std::collections::BTreeSet<Role>,
    metrics: PrometheusHandle,
) -> Result<Installation, ComposeError> {
    let store = open_store(config, Schema::of(config)).await?;
    let objects = yard_storage::open(&config.storage).await?;
    let logs: Arc<dyn LogArchive> = Arc::new(LogObjects::new(objects.clone(), &config.storage));
    let packages = Shelf::new(store.clone(), objects, config.packages, package_life(&config.limits))
        .with_links(config.package_links.clone());
    let mut queues = Vec::new();
    if roles.contains(&Role::Intake) {
        for queue in &config.queues {
            let inbox = Arc::new(SqsInbox::connect(queue.sqs.clone()).await);
            queues.push(Queue { inbox, settings: queue.settings });
        }
    }
    let spill: Option<Arc<dyn Spill>> = match config.queues.iter().find(|queue| queue.sqs.spill) {
        Some(queue) => Some(Arc::new(SqsInbox::connect(queue.sqs.clone()).await)),
        None => None,
    };
    Ok(Installation {
        store,
        spill,
        catalog: config.catalog.clone(),
        keeping: config.logs.keeping.clone().map(|settings| LogKeeping { archive: logs.clone(), settings }),
        logs,
        builder: Arc::new(Drivers::new(
            config.folder.clone(),
            Environment::of_process(),
            Arc::new(packages.clone()),
        )),
        push: crate::serve::Push {
            builder: Arc::new(Pushes::new(
                config.folder.clone(),
                Environment::of_process(),
                config.push.policy.clone(),
            )),
            settings: config.push.settings,
        },
        ray: yard_server::RayApi { packages, config: config.ray_api.clone() },
        read_catalog: catalog_reader(config.folder.clone()),
        queues,
        doors: doors(config),
        catalog_refresh: config.catalog_refresh,
        limits: config.limits.clone(),
        defaults: config.defaults.clone(),
        scheduler: config.scheduler,
        explain: config.explain,
        dispatcher: config.dispatcher,
        access: config.access.clone(),
        server: yard_server::ServerConfig {
            body_max_bytes: config.server.body_max_bytes,
            request_timeout: config.server.request_timeout,
            concurrency_max: config.server.concurrency_max,
            logs: config.logs.limits,
            event_streams_max: config.server.event_streams_max,
            events_poll: config.server.events_poll,
            waits_max: config.server.waits_max,
            list_scan_max: config.server.list_scan_max,
            ..yard_server::ServerConfig::default()
        },
        drain: config.server.drain_timeout,
        metrics,
    })
}

/// How long a job may want its packages after it was submitted or launched: it waits and runs, and what is launched
/// anew counts anew.
fn package_life(limits: &yard_wire::Limits) -> std::time::Duration {
    limits.queue_timeout_max.saturating_add(limits.run_timeout_max)
}

pub(crate) fn doors(config: &Config) -> Doors {
    let bound = config.queues.iter().filter_map(|q| Some((door(&q.sqs.name), q.teams.clone()?)));
    bound.map(|(door, teams)| (door, teams.into_iter().collect())).collect()
}
