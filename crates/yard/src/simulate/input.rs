//! From options to a catalog, a scenario and a workload.

use std::path::Path;
use std::time::Duration;

use yard_domain::{Capacity, Catalog, Cluster, Request, Timestamp};
use yard_simulator::workload::standard::{self, Size, Standard};
use yard_simulator::workload::{LineFault, Read, jsonl, swf};
use yard_simulator::{Incident, Model, SimJob};

use super::Args;
use crate::config::{CatalogParts, read_catalog_parts, read_scenario};

/// When the standard workload begins: only differences count.
const START: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);
/// Jobs of the standard workload unless the command says otherwise.
const JOBS: u32 = 20_000;
/// Most wrong lines that are told.
const FAULTS_MAX: usize = 100;

pub(super) enum Workload {
    Standard(Standard),
    File(Read),
}

/// The workload that the options name.
pub(super) fn workload(args: &Args) -> Result<Workload, String> {
    let span = args.days.map(|days| Duration::from_hours(24) * days);
    if args.workload == "standard" {
        let size = span.map_or(Size::Jobs(u64::from(args.jobs.unwrap_or(JOBS))), Size::Span);
        return Ok(Workload::Standard(Standard::new(args.seed, START, size)));
    }
    let path = Path::new(&args.workload);
    let read: fn(&str) -> Result<Read, Vec<LineFault>> = match path.extension().and_then(|e| e.to_str()) {
        Some("jsonl") => jsonl::read,
        Some("swf") => swf::read,
        _ => {
            return Err(format!(
                "--workload {}: must be standard, or a file that ends in .jsonl or .swf",
                args.workload
            ));
        }
    };
    let mut read = read(&text(path)?).map_err(|faults| tell(&args.workload, &faults))?;
    if let (Some(span), Some(first)) = (span, read.jobs.first().map(|job| job.at)) {
        read.jobs.retain(|job| job.at < first.plus(span));
    }
    read.jobs.truncate(args.jobs.map_or(usize::MAX, |n| n as usize));
    Ok(Workload::File(read))
}

/// Every wrong line, by file and line.
pub(super) fn tell(file: &str, faults: &[LineFault]) -> String {
    let mut told: Vec<String> =
        faults.iter().take(FAULTS_MAX).map(|fault| format!("{file}: {fault}")).collect();
    let more = faults.len().saturating_sub(FAULTS_MAX);
    if more > 0 {
        told.push(format!("and {more} more"));
    }
    told.push(format!("{} problems in the workload", faults.len()));
    told.join("\n")
}

/// The catalog that the options name; what they leave out is the standard one's, or what a file asks for.
pub(super) fn catalog(args: &Args, workload: &Workload) -> Result<Catalog, String> {
    let (policy, clusters) = documents(args)?;
    let rules = policy.rules.or(clusters.rules);
    let given = clusters.clusters.or(policy.clusters);
    match workload {
        Workload::Standard(_) => {
            let standard = standard::catalog();
            let clusters = given.unwrap_or_else(|| standard.clusters.clone());
            Ok(Catalog { clusters, ..rules.unwrap_or(standard) })
        }
        Workload::File(read) => {
            let clusters = given
                .or_else(|| machine(read))
                .ok_or("the workload does not say what it ran on: name the clusters with --clusters FILE")?;
            Ok(Catalog { clusters, ..rules.unwrap_or_default() })
        }
    }
}

/// The catalog in force with what the options change in it.
pub(super) fn changed(args: &Args, in_force: &Catalog) -> Result<Catalog, String> {
    let (policy, clusters) = documents(args)?;
    let given = clusters.clusters.or_else(|| Some(with_known_capacity(policy.clusters?, in_force)));
    let rules = policy.rules.or(clusters.rules).unwrap_or_else(|| in_force.clone());
    Ok(Catalog { clusters: given.unwrap_or_else(|| in_force.clusters.clone()), ..rules })
}

/// Clusters that don't declare what they have, have what is known of those in force.
pub(super) fn with_known_capacity(mut clusters: Vec<Cluster>, in_force: &Catalog) -> Vec<Cluster> {
    for cluster in clusters.iter_mut().filter(|c| c.capacity.is_none()) {
        let known = in_force.clusters.iter().find(|c| c.id == cluster.id);
        cluster.capacity = known.and_then(|c| c.capacity.clone());
    }
    clusters
}

fn documents(args: &Args) -> Result<(CatalogParts, CatalogParts), String> {
    let read = |path: &Option<std::path::PathBuf>| match path {
        Some(path) => parts(&path.display().to_string(), &text(path)?),
        None => Ok(CatalogParts { rules: None, clusters: None }),
    };
    // Both are read before either is complained of.
    match (read(&args.policy), read(&args.clusters)) {
        (Ok(policy), Ok(clusters)) => Ok((policy, clusters)),
        (Err(one), Err(other)) => Err(format!("{one}\n{other}")),
        (Err(one), _) | (_, Err(one)) => Err(one),
    }
}

/// The parts that a catalog document has.
pub(super) fn parts(name: &str, document: &str) -> Result<CatalogParts, String> {
    let folder = Path::new(name).parent().unwrap_or(Path::new(""));
    read_catalog_parts(name, document, folder).map_err(|errors| errors.to_string())
}

/// One cluster of the processors that the file speaks of, with all the memory that its jobs could want.
fn machine(read: &Read) -> Option<Vec<Cluster>> {
    let mut capacity = Request { cpu_milli: read.processors?.checked_mul(1_000)?, ..Request::default() };
    let wanted = |job: &SimJob| job.request.memory_bytes;
    capacity.memory_bytes = read.jobs.iter().map(wanted).fold(0, u64::saturating_add);
    capacity.jobs = u64::MAX / 2;
    let id = "machine".parse().ok()?;
    Some(vec![Cluster { capacity: Some(Capacity(capacity)), ..Cluster::new(id, "swf") }])
}

/// What the simulated world is like.
pub(super) fn scenario(args: &Args, base: Model) -> Result<(Model, Vec<Incident>), String> {
    let Some(path) = &args.scenario else { return Ok((base, Vec::new())) };
    read_scenario(&path.display().to_string(), &text(path)?, &base).map_err(|errors| errors.to_string())
}

fn text(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("can't read {}: {e}", path.display()))
}
