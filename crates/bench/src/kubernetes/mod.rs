//! Kubernetes, on a real API server.
//!
//! | file | what is measured |
//! |---|---|
//! | [`launches`] | launches through a dispatcher, and how soon a change of status is committed |
//! | [`watching`] | what watching many RayJobs takes |
//! | [`capacity`] | what knowing the capacity of many nodes and pods takes |
//!
//! [`place`] is a namespace to measure in, [`crowd`] the nodes and pods, [`watcher`] a process that only watches, ours or the
//! floor, [`plain_watch`] the floor of how soon a change is known.

mod capacity;
mod crowd;
mod launches;
mod place;
mod plain_watch;
mod watcher;
mod watching;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

pub use watcher::{Watch, child};

use crate::report::Finding;
use crate::{Plan, Result};

/// Longest wait for anything.
const LONGEST: Duration = Duration::from_mins(10);

/// What of it is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct Options {
    /// One part only.
    #[arg(long)]
    part: Option<Part>,
    /// Nodes whose capacity is watched.
    #[arg(long)]
    nodes: Option<usize>,
    /// Pods that take of it.
    #[arg(long)]
    pods: Option<usize>,
}

impl Options {
    /// Everything, in its usual size.
    pub const ALL: Self = Self { part: None, nodes: None, pods: None };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Launches, and how soon a change of status is committed.
    Launches,
    /// What watching many RayJobs takes.
    Watching,
    /// What knowing the capacity of many nodes and pods takes.
    Capacity,
}

/// Runs the benchmark. Without a kubeconfig there is nothing to be measured.
pub async fn run(plan: &Plan, options: Options) -> Result<Vec<Finding>> {
    let Some(path) = kubeconfig() else {
        eprintln!("kubernetes: left out, YARD_TEST_KUBECONFIG is not set (tests/env/up.py --kube sets it)");
        return Ok(Vec::new());
    };
    let wanted = |part: Part| options.part.is_none_or(|only| only == part);
    let mut findings = Vec::new();
    if wanted(Part::Launches) {
        findings.extend(launches::run(plan, &path).await?);
    }
    if wanted(Part::Watching) {
        findings.extend(watching::run(plan, &path).await?);
    }
    if wanted(Part::Capacity) {
        let nodes = options.nodes.unwrap_or(plan.pick(5_000, 20));
        let pods = options.pods.unwrap_or(plan.pick(50_000, 200));
        findings.extend(capacity::run(plan, &path, nodes, pods).await?);
    }
    Ok(findings)
}

fn kubeconfig() -> Option<PathBuf> {
    std::env::var_os("YARD_TEST_KUBECONFIG").map(PathBuf::from)
}

/// The label of the nodes that were made for this namespace.
fn node_label(namespace: &str) -> String {
    format!("yard-bench={namespace}")
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
