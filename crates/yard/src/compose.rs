//! From a valid configuration to the parts that `serve` starts: the only place that names adapters.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use yard_domain::ClusterId;
use yard_driver_process::{ProcessConfig, ProcessDriver, ShimCommand};
use yard_driver_ray::{RayConfig, RayDriver, Token};
use yard_engine::catalog::Doors;
use yard_engine::dispatch::ClusterRuntime;
use yard_engine::intake::door;
use yard_inbox_sqs::SqsInbox;
use yard_ports::{Driver, Store, StoreError};
use yard_store_mysql::MySqlOptions;
use yard_store_sql::{RetryOptions, StoreOptions};
use yard_store_sqlite::SqliteOptions;

use crate::config::{ClusterConfig, Config, DatabaseUrl, DriverConfig, Environment};
use crate::serve::{Installation, Queue, Role};

/// Why the parts could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// The store.
    #[error("the store can't be opened")]
    Store(#[from] StoreError),
    /// A cluster's driver.
    #[error("cluster {cluster}: {reason}")]
    Driver {
        /// Which one.
        cluster: ClusterId,
        /// What is wrong.
        reason: String,
    },
    /// The path of this very program can't be found out, and process clusters need it.
    #[error("can't find the path of this program, which process clusters start again")]
    Program(#[source] std::io::Error),
}

/// What is done about the schema when a store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schema {
    /// It must be the one this binary was made for.
    Check,
    /// It is brought up to date first.
    Migrate,
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
    let schema =
        if matches!(config.database.url, DatabaseUrl::Sqlite(_)) { Schema::Migrate } else { Schema::Check };
    let store = open_store(config, schema).await?;
    let mut runtimes = HashMap::new();
    for cluster in config.clusters() {
        runtimes.insert(cluster.cluster.id.clone(), runtime(cluster, &Environment::of_process())?);
    }
    let mut queues = Vec::new();
    if roles.contains(&Role::Intake) {
        for queue in &config.queues {
            let inbox = Arc::new(SqsInbox::connect(queue.sqs.clone()).await);
            queues.push(Queue { inbox, settings: queue.settings });
        }
    }
    Ok(Installation {
        store,
        catalog: config.catalog.clone(),
        runtimes,
        queues,
        doors: doors(config),
        catalog_refresh: config.catalog_refresh,
        limits: config.limits.clone(),
        defaults: config.defaults.clone(),
        scheduler: config.scheduler,
        dispatcher: config.dispatcher,
        server: yard_server::ServerConfig {
            body_max_bytes: config.server.body_max_bytes,
            request_timeout: config.server.request_timeout,
            concurrency_max: config.server.concurrency_max,
            ..yard_server::ServerConfig::default()
        },
        drain: config.server.drain_timeout,
        metrics,
    })
}

fn doors(config: &Config) -> Doors {
    let bound = config.queues.iter().filter_map(|q| Some((door(&q.sqs.name), q.teams.clone()?)));
    bound.map(|(door, teams)| (door, teams.into_iter().collect())).collect()
}

fn runtime(cluster: &ClusterConfig, environment: &Environment) -> Result<ClusterRuntime, ComposeError> {
    let refused = |e: &dyn std::error::Error| ComposeError::Driver {
        cluster: cluster.cluster.id.clone(),
        reason: crate::run::chain(e),
    };
    let driver: Arc<dyn Driver> = match &cluster.driver {
        DriverConfig::Ray(ray) => {
            let token = ray.token.as_ref().map(|t| t.read(environment)).transpose();
            let token = token
                .map_err(|reason| ComposeError::Driver { cluster: cluster.cluster.id.clone(), reason })?;
            let config = RayConfig {
                token: token.map(|t| Token::new(t.expose())),
                ca_file: ray.ca_file.clone(),
                poll_interval: ray.poll_interval,
                call_timeout: ray.call_timeout,
                reserve_entrypoint: ray.reserve_entrypoint,
                ..RayConfig::new(ray.address.clone())
            };
            Arc::new(RayDriver::new(config).map_err(|e| refused(&e))?)
        }
        DriverConfig::Process(process) => {
            let program = std::env::current_exe().map_err(ComposeError::Program)?;
            let mut config = ProcessConfig::new(process.dir.clone(), shim_of(program));
            config.poll_interval = process.poll_interval;
            config.stop_grace = process.stop_grace;
            Arc::new(ProcessDriver::new(config).map_err(|e| refused(&e))?)
        }
    };
    Ok(ClusterRuntime {
        driver,
        launches: cluster.launch,
        reads_capacity: cluster.cluster.capacity.is_none(),
        jobs_max: cluster.jobs_max,
        resync: cluster.resync,
    })
}

/// The hidden subcommand that runs one attempt of a process cluster.
pub const SHIM_COMMAND: &str = "process-shim";

fn shim_of(program: PathBuf) -> ShimCommand {
    ShimCommand { program, args: vec![OsString::from(SHIM_COMMAND)] }
}
