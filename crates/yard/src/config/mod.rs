//! The configuration: one TOML file, with `YARD__SECTION__KEY` in the environment on top.
//!
//! Everything wrong is reported at once, each with its line (or variable) and how to mend it; unknown keys
//! are refused. That is why the file is read from a tree with positions and not by derived deserialisers,
//! which stop at the first mistake (docs/adr/0004-configuration.md). Every key, with its default and unit, is in
//! docs/configuration.md, which a test holds to this code.
//!
//! | file | what it holds |
//! |---|---|
//! | `sources.rs` | the file's text, the environment, secret files; what has been found out |
//! | `value.rs` | a value as it stands |
//! | `reader.rs` | typed values out of a table, environment first |
//! | `problem.rs` | what is wrong, where |
//! | `quantity.rs`, `secret.rs` | `64GiB`; values that are never shown |
//! | `access.rs` | `[access]`, `[[access.issuer]]` |
//! | `service.rs` | `[server]`, `[database]`, `[log]` |
//! | `intake.rs` | `[intake]`, `[[queue]]` |
//! | `storage.rs` | `[storage]` |
//! | `logs.rs` | `[logs]` |
//! | `ray_api.rs` | `[ray_api]` |
//! | `push.rs` | `[push]`, `[[team.push]]` |
//! | `loops.rs` | `[scheduler]`, `[explain]`, `[dispatcher]`, `[retry]`, `[retention]` |
//! | `jobs.rs` | `[defaults]`, `[limits]` |
//! | `catalog.rs` | the sections that make up a catalog, together and as a document of their own |
//! | `teams.rs`, `policy.rs`, `clusters.rs` | `[[team]]` and `[[cohort]]`, `[policy]` and `[[priority_class]]`, `[[cluster]]` |
//! | `document.rs` | the catalog's part of a configuration file |
//! | `summary.rs` | what `yard check-config` shows |

mod access;
mod catalog;
mod clusters;
mod document;
mod intake;
mod jobs;
mod kuberay;
mod logs;
mod loops;
mod parts;
mod policy;
mod problem;
mod push;
mod quantity;
mod ray_api;
mod reader;
mod scenario;
mod secret;
mod service;
mod sources;
mod storage;
mod summary;
mod teams;
#[cfg(test)]
mod tests;
mod value;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeTable;
use yard_domain::Team;
use yard_engine::settings::{DispatcherSettings, ExplainSettings, SchedulerSettings};
use yard_ports::store::StoreLimits;

pub use catalog::{Declared, read_catalog};
pub use clusters::{ClusterConfig, DriverConfig, ProcessCluster, RayCluster};
pub use intake::QueueConfig;
pub use kuberay::{KubeRayCluster, TemplateSource};
pub use logs::LogsConfig;
pub use parts::{CatalogParts, read_catalog_parts};
pub use problem::{ConfigErrors, Place, Problem};
pub use push::{PushConfig, PushLimits, PushTarget};
pub use scenario::read_scenario;
pub use secret::{Secret, SecretSource};
pub use service::{DatabaseConfig, DatabaseUrl, LogConfig, LogFormat, ServerConfig};
pub use sources::{Environment, KnownKey};
pub use summary::Summary;

use reader::Table;
use sources::{Purpose, Sources};

/// A valid configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The HTTP API.
    pub server: ServerConfig,
    /// Who may come in.
    pub access: yard_server::AccessConfig,
    /// The store.
    pub database: DatabaseConfig,
    /// Deadlines that the store puts on what it moves.
    pub store_limits: StoreLimits,
    /// Where packages and archived logs are kept.
    pub storage: yard_storage::Place,
    /// How the logs of jobs are kept and handed out.
    pub logs: LogsConfig,
    /// The Ray Jobs API.
    pub ray_api: yard_server::RayApiConfig,
    /// Uploaded packages.
    pub packages: yard_packages::PackageLimits,
    /// How clusters fetch packages that can't be brought to them.
    pub package_links: Option<yard_packages::Links>,
    /// How pushes go out.
    pub push: PushLimits,
    /// Where submissions come from.
    pub queues: Vec<QueueConfig>,
    /// How often the teams and clusters that submissions are checked against are read again.
    pub catalog_refresh: Duration,
    /// The scheduler's loops, retention included.
    pub scheduler: SchedulerSettings,
    /// Bounds on explanations of why jobs wait.
    pub explain: ExplainSettings,
    /// The dispatchers' loops, retries included.
    pub dispatcher: DispatcherSettings,
    /// What a submission leaves out.
    pub defaults: yard_wire::Defaults,
    /// Bounds on a submission.
    pub limits: yard_wire::Limits,
    /// Teams, clusters and policy as this file declares them; `None` if it leaves that to `yard apply`.
    pub catalog: Option<Declared>,
    /// The log.
    pub log: LogConfig,
    /// Relative paths are below it, also those in catalogs.
    pub folder: PathBuf,
}

impl Config {
    /// The teams that this file declares.
    pub fn teams(&self) -> &[Team] {
        self.catalog.as_ref().map_or(&[], |declared| &declared.catalog.teams)
    }

    /// The clusters that this file declares.
    pub fn clusters(&self) -> &[ClusterConfig] {
        self.catalog.as_ref().map_or(&[], |declared| &declared.clusters)
    }

    /// Reads the file at `path` with `environment` on top.
    pub fn load(path: &Path, environment: &Environment) -> Result<Self, ConfigErrors> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| ConfigErrors {
            file: name.clone(),
            problems: vec![Problem {
                place: Place::File,
                key: String::new(),
                message: format!("can't be read: {error}"),
            }],
        })?;
        Self::parse(&name, &text, path.parent().unwrap_or(Path::new("")), environment)
    }

    /// Reads `text`, called `name` in messages. Relative paths in it are below `folder`.
    pub fn parse(
        name: &str,
        text: &str,
        folder: &Path,
        environment: &Environment,
    ) -> Result<Self, ConfigErrors> {
        Self::parse_and_list_keys(name, text, folder, environment).0
    }

    /// As [`Config::parse`]; tells as well every key that the parser asked for.
    pub fn parse_and_list_keys(
        name: &str,
        text: &str,
        folder: &Path,
        environment: &Environment,
    ) -> (Result<Self, ConfigErrors>, BTreeSet<KnownKey>) {
        let sources = Sources::new(text, folder, environment, Purpose::Configuration);
        let config = tree(&sources, text, |entries| {
            let mut config = read(Table::root(&sources, entries))?;
            if let Some(declared) = config.catalog.as_mut().filter(|_| sources.is_sound()) {
                match document::document(text, entries, declared, folder, environment) {
                    Ok(text) => declared.text = text,
                    Err(message) => sources.problem(Place::File, "", message),
                }
            }
            Some(config)
        });
        let (problems, known) = sources.into_findings();
        let errors = ConfigErrors { file: name.to_owned(), problems };
        (config.filter(|_| errors.problems.is_empty()).ok_or(errors), known)
    }
}

/// Reads the tree of `text`. A text that isn't TOML is read no further: half a tree would only give problems that
/// aren't there.
fn tree<T>(
    sources: &Sources<'_>,
    text: &str,
    read: impl for<'t> FnOnce(&'t DeTable<'t>) -> Option<T>,
) -> Option<T> {
    let (tree, mistakes) = DeTable::parse_recoverable(text);
    for mistake in &mistakes {
        let place = mistake.span().map_or(Place::File, |span| sources.line(&span));
        sources.problem(place, "", format!("not TOML: {}", mistake.message()));
    }
    if mistakes.is_empty() { read(tree.get_ref()) } else { None }
}

/// Reads every section; `None` if one of them can't be had, which is then noted as a problem.
fn read(mut root: Table<'_, '_>) -> Option<Config> {
    let server = service::server(&mut root);
    let access = access::access(&mut root, server.map(|server| server.listen));
    let database = service::database(&mut root);
    let log = service::log(&mut root);
    let storage = storage::storage(&mut root);
    let logs = logs::logs(&mut root);
    let (ray_api, packages, package_links) = ray_api::ray_api(&mut root);
    let push = push::push(&mut root);
    let (intake, catalog_refresh) = intake::intake(&mut root);
    let (mut scheduler, store_limits) = loops::scheduler(&mut root);
    loops::retention(&mut root, &mut scheduler);
    let explain = loops::explain(&mut root);
    let dispatcher = loops::dispatcher(&mut root);
    let limits = jobs::limits(&mut root);
    let defaults = jobs::defaults(&mut root, &limits);
    let catalog = catalog::is_declared(&root).then(|| catalog::sections(&mut root));
    let known =
        catalog.as_ref().map(|c| c.catalog.teams.iter().map(|team| team.id.clone()).collect::<Vec<_>>());
    let queues = intake::queues(&mut root, intake, known.as_deref());
    let root_folder = root.sources().path("");
    root.sources().check_unknown_variables();
    root.finish();
    Some(Config {
        storage: storage?,
        logs,
        ray_api,
        packages,
        package_links,
        push,
        server: server?,
        access,
        database: database?,
        store_limits,
        queues,
        catalog_refresh,
        scheduler,
        explain,
        dispatcher,
        defaults,
        limits,
        catalog,
        log: log?,
        folder: root_folder,
    })
}
