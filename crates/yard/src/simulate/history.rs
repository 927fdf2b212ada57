//! What really arrived, and the catalog in force, from a server.

use std::time::Duration;

use reqwest::Method;
use yard_cli::client::{Client, problem};
use yard_domain::{Capacity, Catalog, Request};
use yard_simulator::workload::{Read, jsonl};
use yard_wire::views::{Amounts, CatalogVersionView, ClusterList};

use super::input::{parts, tell};

/// Longest time that what arrived may take to come.
const TIMEOUT: Duration = Duration::from_hours(1);

/// What a simulation of the past begins with.
pub(super) struct Past {
    pub(super) catalog: Catalog,
    pub(super) workload: Read,
}

/// Asks the server. `range` is `FROM..TO`.
pub(super) async fn load(range: &str, global: &yard_cli::Global) -> Result<Past, String> {
    let (from, to) = range.split_once("..").filter(|(from, to)| !from.is_empty() && !to.is_empty()).ok_or_else(|| {
        format!("--history {range:?} is not FROM..TO: write it like 2026-11-22T00:00:00Z..2026-11-23T00:00:00Z")
    })?;
    let client = Client::new(global).map_err(|failure| failure.message)?;
    let query = [("from", from.to_owned()), ("to", to.to_owned())];
    let lines = get(&client, &["v1", "workload"], &query).await?;
    let workload = jsonl::read(&lines).map_err(|faults| tell("the server's workload", &faults))?;
    if workload.jobs.is_empty() {
        return Err(format!("nothing arrived in {range}, or what did is deleted: choose another time"));
    }
    let in_force: CatalogVersionView = typed(&client, &["v1", "catalog"]).await?;
    let document =
        in_force.text.ok_or("the server's answer is of another version: the catalog has no text")?;
    let found = parts("the catalog in force", &document)?;
    let seen: ClusterList = typed(&client, &["v1", "clusters"]).await?;
    let mut catalog = found.rules.unwrap_or_default();
    catalog.clusters = found.clusters.unwrap_or_default();
    for cluster in catalog.clusters.iter_mut().filter(|c| c.capacity.is_none()) {
        let view = seen.clusters.iter().find(|view| view.id == cluster.id.as_str());
        cluster.capacity = view.and_then(|view| view.capacity.as_ref()).map(capacity);
    }
    Ok(Past { catalog, workload })
}

async fn get(client: &Client, segments: &[&str], query: &[(&str, String)]) -> Result<String, String> {
    let answer = client.send(Method::GET, segments, query, None, Some(TIMEOUT)).await;
    let answer = answer.map_err(|failure| failure.message)?;
    if !answer.status().is_success() {
        return Err(problem(answer).await.message);
    }
    answer.text().await.map_err(|e| format!("the answer to {} broke off: {e}", segments.join("/")))
}

async fn typed<T: serde::de::DeserializeOwned>(client: &Client, segments: &[&str]) -> Result<T, String> {
    let answer = client.get(segments, &[]).await.map_err(|failure| failure.message)?;
    serde_json::from_value(answer).map_err(|e| format!("the server's answer is of another version: {e}"))
}

/// What a cluster has, as the server shows it: in whole thousandths, so nothing is lost.
fn capacity(amounts: &Amounts) -> Capacity {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates; never below 0")]
    let milli = |amount: f64| (amount * 1_000.0).round() as u64;
    Capacity(Request {
        cpu_milli: milli(amounts.cpu),
        gpu_milli: milli(amounts.gpu),
        memory_bytes: amounts.memory_bytes,
        jobs: amounts.jobs,
        custom_milli: amounts.custom.iter().map(|(name, amount)| (name.clone(), milli(*amount))).collect(),
    })
}
