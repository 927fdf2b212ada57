//! What `yard dev` runs against: a queue and two clusters, prepared one after the other or together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::folder::Folder;
use super::ministack::{self, MiniStack};
use super::procs;
use super::python;
use super::rayhead::{self, HeadSpec, RayHead};
use super::ui::Ui;

/// What runs jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Clusters {
    /// Ray if it can be had, else processes.
    Auto,
    /// Ray or nothing.
    Ray,
    /// Child processes, without Python and without a queue.
    Process,
}

/// What there is to run against.
#[derive(Debug)]
pub struct DevEnv {
    /// The queue, where Python could be had.
    pub queue: Option<MiniStack>,
    /// The Ray heads; none means that both clusters are child processes.
    pub heads: Vec<RayHead>,
}

/// The two clusters: unlike each other, and offering the same whatever the machine.
pub fn cluster_specs() -> [HeadSpec; 2] {
    [
        HeadSpec {
            cluster: "east",
            cpus: 3,
            memory_bytes: 4 << 30,
            custom: BTreeMap::new(),
            labels: BTreeMap::from([("region", "us-east-1")]),
        },
        HeadSpec {
            cluster: "west",
            cpus: 2,
            memory_bytes: 2 << 30,
            custom: BTreeMap::from([("licence", 2)]),
            labels: BTreeMap::from([("region", "us-west-2")]),
        },
    ]
}

/// Gets and starts everything. An error is one line; what has been started by then is ended by [`stop`].
pub async fn prepare(
    folder: &Folder,
    clusters: Clusters,
    base: Option<&Path>,
    ui: &Ui,
) -> Result<DevEnv, String> {
    let nothing = DevEnv { queue: None, heads: Vec::new() };
    if clusters == Clusters::Process {
        return Ok(nothing);
    }
    let python = match prepare_python(folder, base, ui).await {
        Ok(python) => python,
        Err(problem) if clusters == Clusters::Ray => return Err(problem),
        Err(problem) => {
            ui.line(&format!("! {problem}"));
            ui.line("! going on without Ray and without a queue: jobs run as processes of this machine");
            return Ok(nothing);
        }
    };
    let http = http_client()?;
    let specs = cluster_specs();
    let (queue, east, west) = tokio::join!(
        start_queue(folder, &python, &http, ui),
        start_head(folder, &python, &http, &specs[0], ui),
        start_head(folder, &python, &http, &specs[1], ui),
    );
    match (east, west) {
        (Ok(east), Ok(west)) => Ok(DevEnv { queue: Some(queue?), heads: vec![east, west] }),
        (Err(problem), _) | (_, Err(problem)) if clusters == Clusters::Ray => Err(problem),
        (Err(problem), _) | (_, Err(problem)) => {
            ui.line(&format!("! {problem}"));
            ui.line("! going on without Ray: jobs run as processes of this machine");
            stop_heads(folder).await?;
            Ok(DevEnv { queue: Some(queue?), heads: Vec::new() })
        }
    }
}

/// Ends everything that runs for this folder.
pub async fn stop(folder: &Folder) -> Result<(), String> {
    let shims = async {
        // A shim that dies takes its command with it; the next start finds those attempts lost and tries them again.
        let processes = folder.path("processes").display().to_string();
        procs::kill_by_command(crate::drivers::SHIM_COMMAND, &processes).await.map_err(|e| e.to_string())
    };
    let queue = async { ministack::stop(folder).await.map_err(|e| e.to_string()) };
    let python = async { python::stop(folder).await.map_err(|e| e.to_string()) };
    let (queue, heads, shims, python) = tokio::join!(queue, stop_heads(folder), shims, python);
    queue.and(heads).and(shims).and(python)
}

async fn stop_heads(folder: &Folder) -> Result<(), String> {
    let [east, west] = cluster_specs();
    let (east, west) = tokio::join!(rayhead::stop(folder, east.cluster), rayhead::stop(folder, west.cluster));
    east.and(west).map_err(|e| e.to_string())
}

async fn prepare_python(folder: &Folder, base: Option<&Path>, ui: &Ui) -> Result<PathBuf, String> {
    let step = ui.step("Python", "looking for it");
    let python = python::prepare(folder, base, &step).await.map_err(|e| e.to_string())?;
    step.done(&format!("{} in {}", python::REQUIREMENTS.join(", "), folder.path("python").display()));
    Ok(python)
}

async fn start_queue(
    folder: &Folder,
    python: &Path,
    http: &reqwest::Client,
    ui: &Ui,
) -> Result<MiniStack, String> {
    let step = ui.step("queue", "starting");
    let queue = MiniStack::start(folder, python, http).await.map_err(|e| e.to_string())?;
    step.done(&queue.queue_url);
    Ok(queue)
}

async fn start_head(
    folder: &Folder,
    python: &Path,
    http: &reqwest::Client,
    spec: &HeadSpec,
    ui: &Ui,
) -> Result<RayHead, String> {
    let step = ui.step(spec.cluster, "starting a Ray head");
    let head = RayHead::start(folder, python, spec, http).await.map_err(|e| e.to_string())?;
    let how = if head.taken_over { "found running" } else { "started" };
    step.done(&format!("Ray with {} cpus {how} at {}", spec.cpus, head.address));
    Ok(head)
}

/// A client for probes on loopback: never through a proxy.
pub fn http_client() -> Result<reqwest::Client, String> {
    // The provider is process-wide; a second installation is refused, which is fine.
    _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().connect_timeout(Duration::from_secs(5)).build();
    client.map_err(|e| format!("can't set up HTTP: {e}"))
}
