//! `[[cluster]]`: where jobs run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use yard_domain::resources::show_quantity;
use yard_domain::{Capacity, Cluster, ClusterId, Elastic, Request};
use yard_engine::settings::LaunchLimits;

use super::intake::http_url;
use super::kuberay::{self, KubeRayCluster};
use super::quantity::{bytes, micro, milli};
use super::reader::Table;
use super::secret::SecretSource;
use super::service::{millis, secs, to_u32};
use super::teams::{custom, id};

/// One cluster and how it is driven.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterConfig {
    /// As the store is to know it. Its capacity is `None` if it is to be read from the cluster.
    pub cluster: Cluster,
    /// Most jobs on it at once (on Ray: on its head, which keeps about 85 MB for each).
    pub jobs_max: u64,
    /// How fast it may be driven.
    pub launch: LaunchLimits,
    /// Time between full comparisons of what it has with what the store says.
    pub resync: Duration,
    /// The code that talks to it.
    pub driver: DriverConfig,
}

/// What a driver needs to know of its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriverConfig {
    /// A standing Ray cluster.
    Ray(RayCluster),
    /// A Kubernetes cluster with the KubeRay operator.
    KubeRay(KubeRayCluster),
    /// Child processes on this host.
    Process(ProcessCluster),
}

impl DriverConfig {
    /// The key that says where the cluster is, and that place in words: the same words are the same place.
    fn place(&self) -> (&'static str, String) {
        match self {
            Self::Ray(ray) => ("address", ray.address.clone()),
            Self::KubeRay(kuberay) => ("namespace", kuberay.place()),
            Self::Process(process) => ("dir", process.dir.display().to_string()),
        }
    }
}

/// A standing Ray cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RayCluster {
    /// The base URL of its dashboard, without a slash at the end.
    pub address: String,
    /// Where its bearer token is to be had.
    pub token: Option<SecretSource>,
    /// A PEM file with the authorities that its certificate is checked against, beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Pause between lists of its jobs.
    pub poll_interval: Duration,
    /// Longest duration of one call.
    pub call_timeout: Duration,
    /// Whether what a job asks for is also reserved for its entrypoint in Ray.
    pub reserve_entrypoint: bool,
}

/// Child processes on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessCluster {
    /// Where their records and logs are kept.
    pub dir: PathBuf,
    /// Of an elastic one: what is said to be present.
    pub present: Option<Capacity>,
    /// From the gentle signal to the forced end.
    pub stop_grace: Duration,
    /// Pause between looks at the processes.
    pub poll_interval: Duration,
}

impl ClusterConfig {
    /// What is set of how it is driven, in words, as far as it is not the default. Secrets are only named.
    pub fn settings(&self) -> BTreeMap<String, String> {
        let (d, launch) = (LaunchLimits::default(), &self.launch);
        let mut set = BTreeMap::new();
        let mut tell = |key: &str, differs: bool, value: String| {
            if differs {
                set.insert(key.to_owned(), value);
            }
        };
        tell(
            "launch_rate_per_s",
            (launch.rate_per_s - d.rate_per_s).abs() > 0.0,
            launch.rate_per_s.to_string(),
        );
        tell("launch_burst", launch.burst != d.burst, launch.burst.to_string());
        tell("in_flight_max", launch.in_flight_max != d.in_flight_max, launch.in_flight_max.to_string());
        tell("resync_s", self.resync != RESYNC, self.resync.as_secs().to_string());
        match &self.driver {
            DriverConfig::Ray(ray) => {
                tell("jobs_max", self.jobs_max != RAY_JOBS, self.jobs_max.to_string());
                tell("address", true, ray.address.clone());
                let token = ray.token.as_ref().map(|token| match token {
                    SecretSource::File(path) => format!("in {}", path.display()),
                    SecretSource::Variable(name) => format!("in the variable {name}"),
                });
                tell("token", token.is_some(), token.unwrap_or_default());
                let ca_file = ray.ca_file.as_ref().map(|path| path.display().to_string());
                tell("ca_file", ca_file.is_some(), ca_file.unwrap_or_default());
                tell(
                    "poll_interval_ms",
                    ray.poll_interval != RAY_POLL,
                    ray.poll_interval.as_millis().to_string(),
                );
                tell("call_timeout_s", ray.call_timeout != RAY_CALL, ray.call_timeout.as_secs().to_string());
                tell("reserve_entrypoint", !ray.reserve_entrypoint, "false".to_owned());
            }
            DriverConfig::KubeRay(kuberay) => {
                tell("jobs_max", self.jobs_max != kuberay::JOBS, self.jobs_max.to_string());
                kuberay.tell(&mut tell);
            }
            DriverConfig::Process(process) => {
                tell("jobs_max", self.jobs_max != PROCESS_JOBS, self.jobs_max.to_string());
                tell("dir", true, process.dir.display().to_string());
                let present = process.present.iter().flat_map(|capacity| capacity.0.amounts());
                for (name, amount) in present.filter(|(name, amount)| *name != "jobs" && *amount > 0) {
                    tell(&format!("capacity.{name}"), true, show_quantity(name, amount));
                }
                let (grace, poll) = (process.stop_grace, process.poll_interval);
                tell("stop_grace_s", grace != STOP_GRACE, grace.as_secs().to_string());
                tell("poll_interval_ms", poll != PROCESS_POLL, poll.as_millis().to_string());
            }
        }
        set
    }
}

/// Defaults.
const RESYNC: Duration = Duration::from_mins(5);
const RAY_JOBS: u64 = 100;
const RAY_POLL: Duration = Duration::from_secs(1);
const RAY_CALL: Duration = Duration::from_secs(30);
const PROCESS_JOBS: u64 = 1_000;
const PROCESS_POLL: Duration = Duration::from_millis(500);
const STOP_GRACE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy)]
enum Kind {
    Ray,
    KubeRay,
    Process,
}

/// Reads every `[[cluster]]`.
pub(super) fn clusters(root: &mut Table<'_, '_>) -> Vec<ClusterConfig> {
    let mut clusters: Vec<ClusterConfig> = Vec::new();
    for mut t in root.tables("cluster", "id") {
        if let Some(config) = cluster(&mut t) {
            let id = &config.cluster.id;
            if clusters.iter().any(|c| c.cluster.id == *id) {
                t.complain("id", format!("{id} is taken by a cluster before: give each its own"));
            }
            let (key, place) = config.driver.place();
            if let Some(other) = clusters.iter().find(|c| c.driver.place() == (key, place.clone())) {
                let message = format!(
                    "{place} is where {} is: each would end the other's jobs, so give each its own",
                    other.cluster.id
                );
                t.complain(key, message);
            }
            clusters.push(config);
        }
        t.finish();
    }
    if clusters.is_empty() && !root.is_set("cluster") {
        root.missing_table("cluster", "add at least one [[cluster]] with id, driver and address");
    }
    clusters
}

fn cluster(t: &mut Table<'_, '_>) -> Option<ClusterConfig> {
    let id = id::<ClusterId>(t, "east");
    let kind = t.parsed("driver", |text| match text {
        "ray" => Ok(Kind::Ray),
        "kuberay" => Ok(Kind::KubeRay),
        "process" => Ok(Kind::Process),
        _ => Err(format!("{text:?} is not a driver: use \"ray\", \"kuberay\" or \"process\"")),
    });
    if kind.is_none() && !t.is_set("driver") {
        t.missing("driver", "add driver = \"ray\", \"kuberay\" or \"process\"");
    }
    let labels = labels(t);
    let default_jobs = match kind {
        Some(Kind::Process) => PROCESS_JOBS,
        Some(Kind::KubeRay) => kuberay::JOBS,
        Some(Kind::Ray) | None => RAY_JOBS,
    };
    let jobs_max = t.integer_or("jobs_max", default_jobs, 1..=100_000);
    let declared = capacity(&mut t.table("capacity"), jobs_max);
    let (ceiling, elastic) = elastic(t, jobs_max).unzip();
    if declared.is_some() && elastic.is_some() && !matches!(kind, Some(Kind::Process)) {
        t.complain("elastic", "stands beside capacity: keep elastic if an autoscaler changes what there is");
    }
    if let (Some(present), Some(ceiling)) = (&declared, &ceiling)
        && let Err(short) = ceiling.allows(&Request::default(), &present.0)
    {
        t.complain(
            "elastic",
            format!("has a ceiling below capacity ({short}): what is present is part of it"),
        );
    }
    let cost_per_hour_micro = t.quantity("cost_per_hour", micro);
    let launch = launch(t);
    let resync = t.span_or("resync_s", RESYNC, secs(1, 86_400));
    let (name, driver) = match kind {
        Some(Kind::Ray) => ("ray", ray(t).map(DriverConfig::Ray)),
        Some(Kind::KubeRay) => ("kuberay", kuberay::kuberay(t).map(DriverConfig::KubeRay)),
        Some(Kind::Process) => {
            let present = elastic.as_ref().and(declared.clone());
            ("process", process(t, declared.is_some(), present).map(DriverConfig::Process))
        }
        // The keys of no driver or of any: what is wrong with them shows once the driver is known.
        None => return t.forgive(),
    };
    let cluster = Cluster {
        labels,
        capacity: ceiling.or(declared),
        elastic,
        cost_per_hour_micro,
        ..Cluster::new(id?, name)
    };
    Some(ClusterConfig { cluster, jobs_max, launch, resync, driver: driver? })
}

fn labels(t: &mut Table<'_, '_>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (name, (place, value)) in t.free_table("labels") {
        if let Some(text) = value.as_str() {
            labels.insert(name.to_owned(), text.to_owned());
        } else {
            t.sources().problem(place, format!("{}.labels.{name}", t.shown()), "must be a text in quotes");
        }
    }
    labels
}

/// Reads a table of what a cluster has; `None` if it is not there.
fn capacity(c: &mut Table<'_, '_>, jobs_max: u64) -> Option<Capacity> {
    let request = Request {
        cpu_milli: c.quantity("cpu", milli).unwrap_or(0),
        gpu_milli: c.quantity("gpu", milli).unwrap_or(0),
        memory_bytes: c.quantity("memory", bytes).unwrap_or(0),
        jobs: jobs_max,
        custom_milli: custom(c).into_iter().filter(|(_, amount)| *amount > 0).collect(),
    };
    let declared = c.is_present() || !Request { jobs: 0, ..request.clone() }.is_zero();
    if declared && request.cpu_milli == 0 {
        c.missing(
            "cpu",
            "state every resource that the cluster has, cpu at least; what is not stated is zero",
        );
    }
    c.close();
    declared.then_some(Capacity(request))
}

/// Reads `elastic`: up to what an autoscaler grows the cluster, and what it makes of it.
fn elastic(t: &mut Table<'_, '_>, jobs_max: u64) -> Option<(Capacity, Elastic)> {
    let mut e = t.table("elastic");
    let ceiling = capacity(&mut e.table("ceiling"), jobs_max);
    let delay = e.span_or("delay_s", Duration::from_mins(3), secs(0, 86_400));
    if e.is_present() && ceiling.is_none() {
        e.missing_table(
            "ceiling",
            "add what the autoscaler may reach, such as ceiling = { cpu = 512, memory = \"2TiB\" }",
        );
    }
    e.finish();
    ceiling.map(|ceiling| (ceiling, Elastic { present: None, delay }))
}

fn launch(t: &mut Table<'_, '_>) -> LaunchLimits {
    let default = LaunchLimits::default();
    LaunchLimits {
        rate_per_s: t.number_or("launch_rate_per_s", default.rate_per_s, 0.001..=10_000.0),
        burst: to_u32(t.integer_or("launch_burst", u64::from(default.burst), 1..=10_000)),
        in_flight_max: to_u32(t.integer_or("in_flight_max", u64::from(default.in_flight_max), 1..=10_000)),
    }
}

fn ray(t: &mut Table<'_, '_>) -> Option<RayCluster> {
    let address = t.parsed("address", http_url);
    if address.is_none() && !t.is_set("address") {
        t.missing("address", "add the URL of its dashboard, such as address = \"http://10.0.0.5:8265\"");
    }
    let token = token(t);
    let ca_file = t.text("ca_file").map(|path| t.sources().path(path));
    if let Some(path) = ca_file.as_ref().filter(|path| t.sources().must_be_there() && !path.is_file()) {
        t.complain("ca_file", format!("{} is not there", path.display()));
    }
    let config = RayCluster {
        address: address.clone().unwrap_or_default(),
        token,
        ca_file,
        poll_interval: t.span_or("poll_interval_ms", RAY_POLL, millis(100, 300_000)),
        call_timeout: t.span_or("call_timeout_s", RAY_CALL, secs(1, 600)),
        reserve_entrypoint: t.switch_or("reserve_entrypoint", true),
    };
    address.map(|_| config)
}

/// Where the token is: in a file or in the variable that `token_env` names, never in the configuration itself.
fn token(t: &mut Table<'_, '_>) -> Option<SecretSource> {
    if t.is_set("token") {
        t.know_only("token");
        t.complain("token", "must not stand here: put it into a file and name that with token_file, or a variable with token_env");
    }
    let (file, variable) = (t.text("token_file"), t.text("token_env"));
    if file.is_some() && variable.is_some() {
        t.complain("token_env", "stands beside token_file: keep one of the two");
    }
    let (key, source) = match (file, variable) {
        (Some(path), _) => ("token_file", SecretSource::File(t.sources().path(path))),
        (None, Some(name)) => ("token_env", SecretSource::Variable(name.to_owned())),
        (None, None) => return None,
    };
    if t.sources().must_be_there()
        && let Err(message) = source.read(t.sources().environment())
    {
        t.complain(key, message);
    }
    Some(source)
}

fn process(t: &mut Table<'_, '_>, has_capacity: bool, present: Option<Capacity>) -> Option<ProcessCluster> {
    let dir = t.text("dir").map(|path| t.sources().path(path));
    if dir.is_none() && !t.is_set("dir") {
        t.missing("dir", "add the folder for its processes' records and logs, such as dir = \"processes\"");
    }
    if !has_capacity {
        t.missing_table(
            "capacity",
            "a process cluster must declare what it has, such as capacity = { cpu = 4, memory = \"8GiB\" }",
        );
    }
    let stop_grace = t.span_or("stop_grace_s", STOP_GRACE, secs(0, 3_600));
    let poll_interval = t.span_or("poll_interval_ms", PROCESS_POLL, millis(10, 60_000));
    Some(ProcessCluster { dir: dir?, present, stop_grace, poll_interval })
}
