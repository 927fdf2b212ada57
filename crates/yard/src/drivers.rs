//! From catalog documents to drivers: what this process needs to talk to each cluster that it can talk to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{error, info};
use yard_domain::catalog::CatalogVersion;
use yard_domain::{ClusterId, TeamId};
use yard_driver_kuberay::KubeRayDriver;
use yard_driver_process::{ProcessConfig, ProcessDriver, ShimCommand};
use yard_driver_ray::{RayConfig, RayDriver, Token};
use yard_engine::catalog::{RuntimeBuilder, Runtimes};
use yard_engine::dispatch::ClusterRuntime;
use yard_ports::{Driver, Packages};
use yard_wire::views::FieldProblem;
use yard_wire::{CatalogDraft, CatalogReader};

use crate::config::{ClusterConfig, DriverConfig, Environment, Place, RayCluster, Secret, read_catalog};
use crate::run::chain;

/// What documents of the store are called in messages.
pub(crate) const DOCUMENT: &str = "the catalog";

/// Reads catalog documents for the API. Relative paths in them are below `folder`.
pub fn catalog_reader(folder: PathBuf) -> Arc<CatalogReader> {
    Arc::new(move |text: &str| {
        let problem = |p: crate::config::Problem| FieldProblem {
            field: p.key,
            code: "invalid".to_owned(),
            message: p.message,
            line: match p.place {
                Place::Line(line) => Some(line as u64),
                Place::File | Place::Env(_) => None,
            },
        };
        let declared = read_catalog(DOCUMENT, text, &folder)
            .map_err(|errors| errors.problems.into_iter().map(problem).collect::<Vec<_>>())?;
        let settings = declared.clusters.iter().map(|c| (c.cluster.id.clone(), c.settings())).collect();
        let mut pushes: BTreeMap<TeamId, BTreeMap<String, String>> = BTreeMap::new();
        for push in &declared.pushes {
            let of_team = pushes.entry(push.id.team.clone()).or_default();
            of_team.insert(push.id.name.to_string(), push.summary());
        }
        Ok(CatalogDraft { catalog: declared.catalog, settings, pushes })
    })
}

/// Makes drivers, and keeps those whose settings stay.
pub struct Drivers {
    folder: PathBuf,
    environment: Environment,
    packages: Arc<dyn Packages>,
    made: Mutex<HashMap<ClusterId, Made>>,
    /// Why clusters can't be driven from here, as it has been told: they are tried again and again.
    told: Mutex<HashMap<ClusterId, String>>,
}

/// A driver with all that it was made from.
struct Made {
    config: DriverConfig,
    token: Option<Secret>,
    template: Option<String>,
    driver: Arc<dyn Driver>,
}

impl Drivers {
    /// Relative paths in documents are below `folder`; `environment` has what `token_env` names; `packages` has what
    /// runtime environments name.
    pub fn new(folder: PathBuf, environment: Environment, packages: Arc<dyn Packages>) -> Self {
        Self { folder, environment, packages, made: Mutex::default(), told: Mutex::default() }
    }

    fn runtime(&self, cluster: &ClusterConfig) -> Result<ClusterRuntime, String> {
        Ok(ClusterRuntime {
            driver: self.driver(&cluster.cluster.id, &cluster.driver)?,
            launches: cluster.launch,
            reads_capacity: cluster.cluster.capacity.is_none() || cluster.cluster.elastic.is_some(),
            jobs_max: cluster.jobs_max,
            resync: cluster.resync,
        })
    }

    /// Whether it has not been told yet that the cluster can't be driven for this reason; `None`: it can be.
    fn is_news(&self, id: &ClusterId, reason: Option<&str>) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match reason {
            Some(reason) => told.insert(id.clone(), reason.to_owned()),
            None => told.remove(id),
        };
        before.as_deref() != reason
    }

    fn driver(&self, id: &ClusterId, config: &DriverConfig) -> Result<Arc<dyn Driver>, String> {
        let token = match config {
            DriverConfig::Ray(RayCluster { token: Some(source), .. }) => {
                Some(source.read(&self.environment)?)
            }
            _ => None,
        };
        let template = match config {
            DriverConfig::KubeRay(kuberay) => Some(kuberay.template.read()?),
            _ => None,
        };
        let mut all = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |made: &&Made| made.config == *config && made.token == token && made.template == template;
        if let Some(made) = all.get(id).filter(same) {
            return Ok(made.driver.clone());
        }
        let driver: Arc<dyn Driver> = match config {
            DriverConfig::Ray(ray) => {
                let config = RayConfig {
                    token: token.as_ref().map(|t| Token::new(t.expose())),
                    ca_file: ray.ca_file.clone(),
                    poll_interval: ray.poll_interval,
                    call_timeout: ray.call_timeout,
                    reserve_entrypoint: ray.reserve_entrypoint,
                    ..RayConfig::new(ray.address.clone())
                };
                Arc::new(RayDriver::new(config).map_err(|e| chain(&e))?.with_packages(self.packages.clone()))
            }
            DriverConfig::KubeRay(kuberay) => {
                let config = kuberay.driver_config(id, template.as_deref().unwrap_or_default())?;
                Arc::new(KubeRayDriver::new(config).with_packages(self.packages.clone()))
            }
            DriverConfig::Process(process) => {
                let program = std::env::current_exe().map_err(|e| format!("can't find this program: {e}"))?;
                let mut config = ProcessConfig::new(process.dir.clone(), shim_of(program));
                config.poll_interval = process.poll_interval;
                config.stop_grace = process.stop_grace;
                config.capacity.clone_from(&process.present);
                Arc::new(
                    ProcessDriver::new(config).map_err(|e| chain(&e))?.with_packages(self.packages.clone()),
                )
            }
        };
        let made = Made { config: config.clone(), token, template, driver: driver.clone() };
        all.insert(id.clone(), made);
        Ok(driver)
    }
}

impl RuntimeBuilder for Drivers {
    fn build(
        &self,
        document: &CatalogVersion,
        only: Option<&BTreeSet<ClusterId>>,
    ) -> Result<Runtimes, String> {
        let declared = read_catalog(DOCUMENT, &document.text, &self.folder).map_err(|e| e.to_string())?;
        let wanted = |c: &&ClusterConfig| only.is_none_or(|only| only.contains(&c.cluster.id));
        let mut runtimes = Runtimes::new();
        for cluster in declared.clusters.iter().filter(wanted) {
            let id = &cluster.cluster.id;
            match self.runtime(cluster) {
                Ok(runtime) => {
                    if self.is_news(id, None) {
                        info!(cluster = %id, "this process can drive the cluster now");
                    }
                    runtimes.insert(id.clone(), runtime);
                }
                Err(reason) if self.is_news(id, Some(&reason)) => error!(
                    cluster = %id,
                    version = document.number,
                    reason,
                    "this process can't drive the cluster, and leaves it to others"
                ),
                Err(_) => {}
            }
        }
        Ok(runtimes)
    }
}

/// The hidden subcommand that runs one attempt of a process cluster.
pub const SHIM_COMMAND: &str = "process-shim";

fn shim_of(program: PathBuf) -> ShimCommand {
    ShimCommand { program, args: vec![OsString::from(SHIM_COMMAND)] }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use yard_domain::Timestamp;
    use yard_domain::catalog::CatalogSource;

    use super::*;

    struct NoPackages;

    #[async_trait::async_trait]
    impl Packages for NoPackages {
        fn makes_links(&self) -> bool {
            false
        }

        async fn link(&self, uri: &str, _: std::time::Duration) -> Result<String, yard_ports::PackageError> {
            Err(yard_ports::PackageError::NoLink { uri: uri.to_owned(), reason: "none here".to_owned() })
        }

        async fn open(&self, uri: &str) -> Result<yard_ports::PackageContent, yard_ports::PackageError> {
            Err(yard_ports::PackageError::Missing(uri.to_owned()))
        }
    }

    fn version(text: &str) -> CatalogVersion {
        let (at, source) = (Timestamp::from_micros(0), CatalogSource::Applied);
        CatalogVersion { number: 1, at, by: "test".to_owned(), source, text: text.to_owned() }
    }

    fn document(address: &str, rate: u32) -> CatalogVersion {
        version(&format!(
            "[[team]]\nid = \"ads\"\n\
             [[cluster]]\nid = \"east\"\ndriver = \"ray\"\naddress = \"{address}\"\nlaunch_rate_per_s = {rate}\n\
             [[cluster]]\nid = \"far\"\ndriver = \"ray\"\naddress = \"http://far\"\ntoken_env = \"FAR_TOKEN\"\n"
        ))
    }

    fn drivers(environment: &[(&str, &str)]) -> Drivers {
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Drivers::new(Path::new("/etc/yard").to_owned(), Environment(environment), Arc::new(NoPackages))
    }

    #[test]
    fn a_driver_stays_while_its_settings_do() {
        let (east, far): (ClusterId, ClusterId) = ("east".parse().unwrap(), "far".parse().unwrap());
        let mut drivers = drivers(&[("FAR_TOKEN", "hunter2")]);
        let build = |document: &CatalogVersion| drivers.build(document, None).unwrap();
        let first = build(&document("http://a", 5));
        let faster = build(&document("http://a", 50));
        assert!(Arc::ptr_eq(&first[&east].driver, &faster[&east].driver));
        assert!((faster[&east].launches.rate_per_s - 50.0).abs() < 0.1);
        let moved = build(&document("http://b", 50));
        assert!(!Arc::ptr_eq(&first[&east].driver, &moved[&east].driver));
        assert!(Arc::ptr_eq(&first[&far].driver, &moved[&far].driver));
        // Another token is another driver.
        drivers.environment.0.insert("FAR_TOKEN".to_owned(), "hunter3".to_owned());
        let renewed = drivers.build(&document("http://b", 50), None).unwrap();
        assert!(!Arc::ptr_eq(&moved[&far].driver, &renewed[&far].driver));
    }

    #[test]
    fn what_an_autoscaler_changes_is_read_and_what_is_declared_is_not() {
        let text = "[[team]]\nid = \"ads\"\n\
             [[cluster]]\nid = \"fixed\"\ndriver = \"ray\"\naddress = \"http://a\"\ncapacity = { cpu = 1 }\n\
             [[cluster]]\nid = \"grows\"\ndriver = \"ray\"\naddress = \"http://b\"\nelastic = { ceiling = { cpu = 9 } }\n\
             [[cluster]]\nid = \"says\"\ndriver = \"ray\"\naddress = \"http://c\"\n";
        let built = drivers(&[]).build(&version(text), None).unwrap();
        let reads = |id: &str| built[&id.parse::<ClusterId>().unwrap()].reads_capacity;
        assert_eq!(["fixed", "grows", "says"].map(reads), [false, true, true]);
    }

    #[test]
    fn a_cluster_whose_secret_is_not_here_is_left_to_others() {
        let drivers = drivers(&[]);
        let built = drivers.build(&document("http://a", 5), None).unwrap();
        assert_eq!(built.keys().map(ClusterId::as_str).collect::<Vec<_>>(), ["east"]);
        let only = ["far".parse().unwrap()].into();
        assert!(drivers.build(&document("http://a", 5), Some(&only)).unwrap().is_empty());
        assert!(drivers.build(&version("nonsense"), None).is_err());
    }

    #[test]
    fn why_a_cluster_is_left_to_others_is_told_once() {
        let drivers = drivers(&[]);
        let far: ClusterId = "far".parse().unwrap();
        assert!(!drivers.is_news(&far, None));
        let told = ["no token", "no token", "no folder"].map(|reason| drivers.is_news(&far, Some(reason)));
        assert_eq!(told, [true, false, true]);
        assert_eq!([drivers.is_news(&far, None), drivers.is_news(&far, None)], [true, false]);
    }

    #[test]
    fn the_api_s_reader_tells_settings_without_secrets_and_every_mistake_with_its_line() {
        let read = catalog_reader("/etc/yard".into());
        let draft = read(&document("http://a", 5).text).unwrap();
        let far = &draft.settings[&"far".parse::<ClusterId>().unwrap()];
        assert_eq!(
            (far["address"].as_str(), far["token"].as_str()),
            ("http://far", "in the variable FAR_TOKEN")
        );
        let errors = read("[[team]]\nid = \"Ads\"\n[[cluster]]\nid = \"east\"\n").unwrap_err();
        let lines: Vec<_> = errors.iter().map(|e| (e.line, e.field.as_str())).collect();
        assert_eq!(lines, [(Some(2), "team Ads.id"), (Some(3), "cluster east.driver")]);
    }
}
