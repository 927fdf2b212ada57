//! Kubernetes: launches through a dispatcher on a real API server, how soon a change of status is committed, and what
//! watching many RayJobs takes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
    PostParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt};
use serde_json::json;
use uuid::Uuid;
use yard_domain::{AttemptNumber, InstanceId, JobId, RemoteName, Request};
use yard_driver_kuberay::{Access, KubeRayConfig, KubeRayDriver, Template};
use yard_engine::dispatch::ClusterRuntime;
use yard_engine::settings::{DispatcherSettings, LaunchLimits, SchedulerSettings};
use yard_ports::{Driver, LaunchRequest, Observation};

use crate::loops::Loops;
use crate::report::{Detail, Finding, Target};
use crate::running::only;
use crate::stats::{millis, quantile, rate};
use crate::world::{World, bodies};
use crate::{Plan, Result};

/// Longest wait for anything.
const LONGEST: Duration = Duration::from_mins(10);
/// Launch calls at once.
const IN_FLIGHT: usize = 32;
const TEMPLATE: &str = "profiles: {plain: {image: 'rayproject/ray:2.60.0'}}";

/// Runs the benchmark. Without a kubeconfig there is nothing to be measured.
pub async fn run(plan: &Plan) -> Result<Vec<Finding>> {
    let Some(path) = std::env::var_os("YARD_TEST_KUBECONFIG").map(PathBuf::from) else {
        eprintln!("kubernetes: left out, YARD_TEST_KUBECONFIG is not set (tests/env/up.py --kube sets it)");
        return Ok(Vec::new());
    };
    let mut findings = Vec::new();
    let place = Place::create(&path).await?;
    let world = World::create(&plan.url, 1).await?;
    let measured = launches(plan, &world, &place).await;
    world.remove().await?;
    findings.extend(measured?);
    place.remove().await?;
    let place = Place::create(&path).await?;
    findings.extend(watching(plan, &place).await?);
    place.remove().await?;
    Ok(findings)
}

/// A namespace of its own.
struct Place {
    client: Client,
    kubeconfig: PathBuf,
    namespace: String,
}

impl Place {
    async fn create(kubeconfig: &Path) -> Result<Self> {
        let file = Kubeconfig::read_from(kubeconfig)?;
        let client =
            Client::try_from(Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?)?;
        let namespace = format!("bench-{}", Uuid::new_v4().simple());
        let place = Self { client, kubeconfig: kubeconfig.to_owned(), namespace: namespace.clone() };
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        place
            .api("v1", "Namespace", false)
            .create(&PostParams::default(), &serde_json::from_value(object)?)
            .await?;
        Ok(place)
    }

    async fn remove(self) -> Result<()> {
        self.jobs().delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
        self.api("v1", "Namespace", false).delete(&self.namespace, &DeleteParams::default()).await?;
        Ok(())
    }

    fn api(&self, version: &str, kind: &str, namespaced: bool) -> Api<DynamicObject> {
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        if namespaced {
            Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
        } else {
            Api::all_with(self.client.clone(), &resource)
        }
    }

    fn jobs(&self) -> Api<DynamicObject> {
        self.api("ray.io/v1", "RayJob", true)
    }

    fn driver(&self) -> Result<Arc<KubeRayDriver>> {
        let access = Access::Kubeconfig { path: self.kubeconfig.clone(), context: None };
        let mut config = KubeRayConfig::new(access, self.namespace.clone(), Template::parse(TEMPLATE)?);
        // No operator is there: the benchmark writes what it would.
        config.operator_patience = LONGEST;
        config.liveness_grace = LONGEST;
        Ok(Arc::new(KubeRayDriver::new(config)))
    }

    /// How many RayJobs there are.
    async fn count(&self) -> Result<usize> {
        let page = self.jobs().list_metadata(&ListParams::default().limit(1)).await?;
        let more = page.metadata.remaining_item_count.unwrap_or(0);
        Ok(page.items.len() + usize::try_from(more)?)
    }

    async fn set_running(&self, name: &str) -> Result<()> {
        let status = json!({"status": {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}});
        self.jobs().patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await?;
        Ok(())
    }
}

async fn launches(plan: &Plan, world: &World, place: &Place) -> Result<Vec<Finding>> {
    let n = plan.pick(2_000, 60);
    let floor = raw(place, n).await?;
    place.jobs().delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    wait(async || Ok(place.count().await? == 0)).await?;
    world.accept(&bodies(n, "kube"), 200).await?;
    let runtime = ClusterRuntime {
        driver: place.driver()?,
        launches: LaunchLimits { rate_per_s: 1e9, burst: u32::MAX, in_flight_max: u32::try_from(IN_FLIGHT)? },
        reads_capacity: false,
        jobs_max: 1_000_000,
        resync: Duration::from_mins(5),
    };
    let began = Instant::now();
    let loops = Loops::start_on(
        &world.store,
        world.instance,
        "kube",
        SchedulerSettings::default(),
        (DispatcherSettings::default(), [(only(world)?.clone(), runtime)].into()),
    );
    wait(async || Ok(place.count().await? >= n)).await?;
    let ours = rate(n, began.elapsed());
    let what = format!("{n} queued jobs → RayJobs, one dispatcher, {IN_FLIGHT} calls at once");
    let launched = Finding::beside("kubernetes", what, "launches/s", vec![(ours, floor)])
        .target(Target::AtLeast(100.0))
        .note("floor: the same RayJobs made by the driver alone; the schedulers' passes are in ours");
    let commits = commits(plan, world, place).await?;
    loops.stop().await;
    Ok(vec![launched, commits])
}

/// RayJobs made by the driver alone.
async fn raw(place: &Place, n: usize) -> Result<f64> {
    let driver = place.driver()?;
    // The client is made, the connections stand.
    driver.launch(&request()?).await?;
    let began = Instant::now();
    let calls = (0..n).map(|_| {
        let driver = Arc::clone(&driver);
        async move { Ok::<_, crate::Failure>(driver.launch(&request()?).await?) }
    });
    let mut calls = futures::stream::iter(calls).buffer_unordered(IN_FLIGHT);
    while let Some(done) = calls.next().await {
        done?;
    }
    Ok(rate(n, began.elapsed()))
}

/// From a change of status to the committed row, one after the other.
async fn commits(plan: &Plan, world: &World, place: &Place) -> Result<Finding> {
    let names = place.jobs().list_metadata(&ListParams::default().limit(500)).await?;
    let mut times = Vec::new();
    for job in names.items.iter().take(plan.pick(200, 10)) {
        let name = job.name_any();
        let (id, _) = RemoteName::parse(&name).ok_or("a RayJob of somebody else")?;
        let sql = format!("SELECT COUNT(*) FROM jobs WHERE id = x'{}' AND state = 'running'", id.0.simple());
        place.set_running(&name).await?;
        let written = Instant::now();
        wait_fast(async || Ok(world.db.number(&sql).await? == 1)).await?;
        times.push(millis(written.elapsed()));
    }
    let what = format!("RayJob's status written → row committed, p50 of {}", times.len());
    Ok(Finding::alone("kubernetes", what, quantile(&times, 0.5), "ms")
        .target(Target::AtMost(50.0))
        .details(vec![Detail::new("p99", quantile(&times, 0.99), "ms")]))
}

/// What watching takes: memory of this process before and after, and its share of a core while nothing happens.
async fn watching(plan: &Plan, place: &Place) -> Result<Vec<Finding>> {
    let n = plan.pick(10_000, 100);
    raw(place, n).await?;
    let before = memory()?;
    let driver = place.driver()?;
    let mut stream = driver.observe();
    let seen = tokio::time::timeout(LONGEST, stream.next()).await?.ok_or("the stream has ended")??;
    let Observation::Full(jobs) = seen else { return Err("the first observation is not a full one".into()) };
    if jobs.len() != n + 1 {
        return Err(format!("{} of {} RayJobs are seen", jobs.len(), n + 1).into());
    }
    drop(jobs);
    let (idle, cpu) = (Duration::from_secs(plan.pick(30, 3) as u64), cpu_ticks()?);
    let quiet = async {
        while let Some(item) = stream.next().await {
            item?;
        }
        Ok::<_, crate::Failure>(())
    };
    if let Ok(ended) = tokio::time::timeout(idle, quiet).await {
        ended?;
    }
    // A hundredth of a second each, as Linux counts them for everybody.
    let share = (cpu_ticks()? - cpu) / idle.as_secs_f64();
    let more = memory()? - before;
    let memory = Finding::alone("kubernetes", format!("memory for watching {n} RayJobs"), more, "MB")
        .target(Target::AtMost(100.0))
        .note("resident memory of the process, beyond what it had before; what the list needed for a moment is in it");
    let cpu = Finding::alone("kubernetes", format!("of a core, watching {n} quiet RayJobs"), share, "%");
    Ok(vec![memory, cpu.target(Target::AtMost(10.0))])
}

fn request() -> Result<LaunchRequest> {
    let (job, attempt) = (JobId(Uuid::new_v4()), AttemptNumber(1));
    Ok(LaunchRequest {
        name: RemoteName::new(job, attempt),
        instance: InstanceId(Uuid::nil()),
        job,
        attempt,
        team: "bench".parse()?,
        job_name: "train-resnet".to_owned(),
        entrypoint: "python train.py --epochs 3".to_owned(),
        runtime_env: serde_json::Map::new(),
        request: Request { cpu_milli: 1_000, jobs: 1, ..Request::default() },
        ray_cluster: None,
        metadata: BTreeMap::new(),
        run_timeout: Duration::from_hours(1),
    })
}

async fn wait(is_so: impl AsyncFn() -> Result<bool>) -> Result<()> {
    poll(is_so, Duration::from_millis(50)).await
}

async fn wait_fast(is_so: impl AsyncFn() -> Result<bool>) -> Result<()> {
    poll(is_so, Duration::from_millis(1)).await
}

async fn poll(is_so: impl AsyncFn() -> Result<bool>, pause: Duration) -> Result<()> {
    let began = Instant::now();
    while !is_so().await? {
        if began.elapsed() > LONGEST {
            return Err("it did not come to be".into());
        }
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

/// Resident memory of this process, in MB.
fn memory() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1_024.0 / 1e6)
}

/// What this process has had of all cores, in hundredths of a second.
fn cpu_ticks() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let rest = text.rsplit_once(')').ok_or("no name")?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let [user, system] = [11, 12].map(|at| fields.get(at).and_then(|text| text.parse::<f64>().ok()));
    Ok(user.ok_or("no utime")? + system.ok_or("no stime")?)
}
