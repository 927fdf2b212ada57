//! What the clusters themselves say ran on them: asked directly, not through our drivers.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use yard_domain::{AttemptNumber, JobId, RemoteName};

use crate::config::{Config, DriverConfig, Environment, Secret};

/// One run, as its cluster shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteRun {
    /// Where.
    pub cluster: String,
    /// Which job.
    pub job: JobId,
    /// Which attempt.
    pub attempt: AttemptNumber,
    /// From when to when, in milliseconds since the epoch by the cluster's clock; no end while it runs.
    pub span: (u64, Option<u64>),
}

/// Every run with a name of ours' form, on every cluster.
pub async fn runs(config: &Config, http: &reqwest::Client) -> Result<Vec<RemoteRun>, String> {
    let mut all = Vec::new();
    for cluster in config.clusters() {
        let id = cluster.cluster.id.to_string();
        match &cluster.driver {
            DriverConfig::Ray(ray) => {
                let token = ray.token.as_ref().map(|t| t.read(&Environment::of_process())).transpose()?;
                let token = token.as_ref().map(Secret::expose);
                let list =
                    ray_jobs(http, &ray.address, token).await.map_err(|e| format!("cluster {id}: {e}"))?;
                all.extend(list.iter().filter_map(|job| ray_run(&id, job)));
            }
            // The demonstration makes none.
            DriverConfig::KubeRay(_) => {}
            DriverConfig::Process(process) => {
                all.extend(process_runs(&id, &process.dir).map_err(|e| format!("cluster {id}: {e}"))?);
            }
        }
    }
    Ok(all)
}

async fn ray_jobs(
    http: &reqwest::Client,
    address: &str,
    token: Option<&str>,
) -> Result<Vec<Value>, reqwest::Error> {
    let mut request = http.get(format!("{address}/api/jobs/")).timeout(Duration::from_secs(30));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    request.send().await?.error_for_status()?.json().await
}

fn ray_run(cluster: &str, job: &Value) -> Option<RemoteRun> {
    let (id, attempt) = RemoteName::parse(job["submission_id"].as_str()?)?;
    let span = (job["start_time"].as_u64().unwrap_or(0), job["end_time"].as_u64());
    Some(RemoteRun { cluster: cluster.to_owned(), job: id, attempt, span })
}

/// A folder per run, with a file for its start and one for its end.
fn process_runs(cluster: &str, dir: &Path) -> std::io::Result<Vec<RemoteRun>> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut runs = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let time = |file: &str| entry.path().join(file).metadata().and_then(|meta| meta.modified()).ok();
        let named = entry.file_name().to_str().and_then(RemoteName::parse);
        if let (Some((job, attempt)), Some(started)) = (named, time("started")) {
            let span = (millis(started), time("exit").map(millis));
            runs.push(RemoteRun { cluster: cluster.to_owned(), job, attempt, span });
        }
    }
    Ok(runs)
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Runs that are there twice, and runs of one job side by side: each as a sentence.
pub fn doubled(runs: &[RemoteRun]) -> Vec<String> {
    let mut by_job: BTreeMap<JobId, Vec<&RemoteRun>> = BTreeMap::new();
    for run in runs {
        by_job.entry(run.job).or_default().push(run);
    }
    let mut found = Vec::new();
    for (job, mut runs) in by_job {
        runs.sort_by_key(|run| (run.attempt, run.span.0));
        for pair in runs.windows(2) {
            let (a, b) = (pair[0], pair[1]);
            if a.attempt == b.attempt {
                found.push(format!(
                    "attempt {} of {job} ran on {} and on {}",
                    a.attempt, a.cluster, b.cluster
                ));
            } else if a.span.1.is_none_or(|end| end > b.span.0) {
                found.push(format!("attempts {} and {} of {job} ran side by side", a.attempt, b.attempt));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(cluster: &str, job: u8, attempt: u32, span: (u64, Option<u64>)) -> RemoteRun {
        RemoteRun {
            cluster: cluster.to_owned(),
            job: JobId::new(1, [job; 10]),
            attempt: AttemptNumber(attempt),
            span,
        }
    }

    #[test]
    fn doubled_runs_are_seen() {
        let good =
            [run("east", 1, 1, (0, Some(5))), run("west", 1, 2, (5, Some(9))), run("east", 2, 1, (0, None))];
        assert_eq!(doubled(&good), Vec::<String>::new());
        let twice = [run("east", 1, 1, (0, Some(5))), run("west", 1, 1, (7, Some(9)))];
        assert!(doubled(&twice)[0].contains("ran on east and on west"), "{:?}", doubled(&twice));
        for end in [None, Some(6)] {
            let beside = [run("west", 1, 2, (5, Some(9))), run("east", 1, 1, (0, end))];
            assert!(doubled(&beside)[0].contains("side by side"), "{:?}", doubled(&beside));
        }
    }

    #[test]
    fn rays_list_and_the_folders_of_processes_are_read() {
        let name = RemoteName::new(JobId::new(1, [7; 10]), AttemptNumber(2));
        let job = serde_json::json!({"submission_id": name.as_str(), "start_time": 5, "end_time": 9});
        assert_eq!(ray_run("east", &job), Some(run("east", 7, 2, (5, Some(9)))));
        assert_eq!(ray_run("east", &serde_json::json!({"submission_id": null})), None);
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join(name.as_str());
        std::fs::create_dir(&folder).unwrap();
        assert_eq!(process_runs("east", place.path()).unwrap(), []);
        std::fs::write(folder.join("started"), "").unwrap();
        let runs = process_runs("east", place.path()).unwrap();
        assert!(runs.len() == 1 && runs[0].span.0 > 0 && runs[0].span.1.is_none(), "{runs:?}");
    }
}
