//! `yard dev --demo`: a mixed batch of submissions through both doors, shown to the end and counted.
//!
//! | file | what it holds |
//! |---|---|
//! | `jobs.rs` | what is sent, and what is to become of it |
//! | `board.rs` | the live table |
//! | `clusters.rs` | what the clusters say ran on them |
//! | `verdict.rs` | lost and doubled, counted from clusters, store and the jobs' own traces |

mod board;
mod clusters;
mod jobs;
mod verdict;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;
use yard_domain::{JobId, StateName, SubmissionKey, Verdict};
use yard_inbox_sqs::SqsProducer;
use yard_ports::Store;

use super::env::{DevEnv, http_client};
use super::folder::Folder;
use super::ui::Ui;
use crate::config::Config;
use board::{Board, Standing};
use jobs::{DemoJob, Door, Expected, Witness, jobs};
use verdict::{Evidence, judge};

/// Longest that the demo may take: retries and slow machines included.
const TIMEOUT: Duration = Duration::from_mins(10);
/// Between looks at the store.
const LOOK: Duration = Duration::from_millis(250);
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the queue is given to be empty: an acknowledged message leaves it a moment after its verdict.
const QUEUE_SETTLE: Duration = Duration::from_secs(15);

/// What the demo works with.
pub struct Demo<'a> {
    /// Where it leaves its traces.
    pub folder: &'a Folder,
    /// The queue and the clusters.
    pub env: &'a DevEnv,
    /// What the product runs with.
    pub config: &'a Config,
    /// The truth.
    pub store: Arc<dyn Store>,
    /// Where it is told.
    pub ui: &'a Ui,
}

impl Demo<'_> {
    /// Sends everything, shows it to its end, and tells what became of it. `false` if anything is lost, doubled or not
    /// as it should be; an error if the demo itself could not be carried out.
    pub async fn run(&self) -> Result<bool, String> {
        let http = http_client()?;
        let (_, token) = self.folder.operator_token().map_err(|e| format!("no token: {e}"))?;
        let api = Api { http: &http, address: self.config.server.listen, token };
        let run = Uuid::new_v4().simple().to_string()[..6].to_owned();
        let traces = self.traces(&run)?;
        let witness = Witness(&traces);
        let jobs = jobs(&run, witness, self.env.queue.is_some());
        let producer = match &self.env.queue {
            Some(queue) => Some((SqsProducer::connect(&queue.endpoint, CALL_TIMEOUT).await, queue)),
            None => None,
        };
        let dead_before = match &producer {
            Some((producer, queue)) => depth(producer, &queue.dead_letter_url).await?.waiting,
            None => 0,
        };
        self.ui.line(&format!("Demo {run}: {} submissions of three teams.\n", jobs.len()));
        if let Some((producer, queue)) = &producer {
            send_to_queue(producer, &queue.queue_url, &jobs).await?;
        }
        send_to_api(&api, &jobs).await?;
        let standings = self.watch(&api, &jobs).await?;
        let queue = match &producer {
            Some((producer, queue)) => {
                let left = settled(producer, &queue.queue_url).await?;
                let dead = depth(producer, &queue.dead_letter_url).await?.waiting;
                Some((left, dead.saturating_sub(dead_before)))
            }
            None => None,
        };
        self.show_receipt(&api, &jobs).await?;
        let runs = clusters::runs(self.config, &http).await?;
        let drift = self.store.audit().await.map_err(|e| e.to_string())?;
        let drift = drift.iter().map(|d| format!("{d:?}")).collect();
        let evidence = Evidence { jobs: &jobs, standings: &standings, runs: &runs, witness, queue, drift };
        let summary = judge(&evidence);
        self.ui.line(&format!("\n{summary}\n"));
        Ok(summary.is_good())
    }

    fn traces(&self, run: &str) -> Result<PathBuf, String> {
        let path = self.folder.path(&format!("demo/{run}"));
        fs::create_dir_all(&path).map_err(|e| format!("{} can't be made: {e}", path.display()))?;
        Ok(path)
    }

    /// Follows everything to its end, or as far as the time goes.
    async fn watch(&self, api: &Api<'_>, jobs: &[DemoJob]) -> Result<Vec<Standing>, String> {
        let mut standings = vec![Standing::default(); jobs.len()];
        let mut board = Board::new(self.ui, jobs.len());
        let deadline = Instant::now() + TIMEOUT;
        while standings.iter().any(|standing| !standing.is_end()) && Instant::now() < deadline {
            for (job, standing) in jobs.iter().zip(&mut standings).filter(|(_, standing)| !standing.is_end())
            {
                self.look(job, standing).await.map_err(|e| e.to_string())?;
                if job.expected == Expected::IsStopped {
                    stop_if_running(api, standing).await?;
                }
            }
            board.show(jobs, &standings);
            tokio::time::sleep(LOOK).await;
        }
        board.finish(self.ui);
        Ok(standings)
    }

    async fn look(&self, job: &DemoJob, standing: &mut Standing) -> Result<(), yard_ports::StoreError> {
        if standing.verdict.is_none() {
            let key = SubmissionKey { team: job.team.to_owned(), key: job.key.clone() };
            standing.verdict = self.store.receipt(&key).await?.map(|receipt| receipt.verdict);
        }
        if let Some(Verdict::Accepted { job, .. }) = standing.verdict {
            standing.job = self.store.job(job).await?;
            let waits = standing.job.as_ref().filter(|view| view.lifecycle.state.name() == StateName::Queued);
            let note = waits.and_then(|view| view.waiting.as_ref());
            standing.held_by_quota |= note.is_some_and(|note| note.code == "team_quota");
        }
        Ok(())
    }

    async fn show_receipt(&self, api: &Api<'_>, jobs: &[DemoJob]) -> Result<(), String> {
        for job in jobs.iter().filter(|job| job.expected == Expected::IsRejected) {
            let request = api.call(Method::GET, &format!("/v1/receipts/{}/{}", job.team, job.key));
            let answer = request.send().await.and_then(reqwest::Response::error_for_status);
            let answer = answer.map_err(|e| format!("the API has no receipt: {e}"))?;
            let receipt: Value = answer.json().await.map_err(|e| format!("the receipt is not JSON: {e}"))?;
            let text = serde_json::to_string_pretty(&receipt).unwrap_or_default();
            self.ui.line(&format!("\nThe receipt of {}/{}:\n{text}", job.team, job.name));
        }
        Ok(())
    }
}

/// The API of the installation that is shown.
struct Api<'a> {
    http: &'a reqwest::Client,
    address: SocketAddr,
    token: String,
}

impl Api<'_> {
    fn call(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("http://{}{path}", self.address);
        self.http.request(method, url).bearer_auth(&self.token).timeout(CALL_TIMEOUT)
    }
}

async fn send_to_api(api: &Api<'_>, jobs: &[DemoJob]) -> Result<(), String> {
    for job in jobs.iter().filter(|job| job.door == Door::Http) {
        for _ in 0..job.copies {
            let request = api.call(Method::POST, "/v1/jobs").json(&job.document);
            let status = request.send().await.map_err(|e| format!("the API does not answer: {e}"))?.status();
            let wanted =
                if job.expected == Expected::IsRejected { status == 422 } else { status.is_success() };
            if !wanted {
                return Err(format!("the API answers {status} to {}/{}", job.team, job.name));
            }
        }
    }
    Ok(())
}

async fn stop_if_running(api: &Api<'_>, standing: &Standing) -> Result<(), String> {
    let Some(job) = standing.job.as_ref().map(|view| &view.lifecycle) else { return Ok(()) };
    if job.state.name() != StateName::Running || job.stop_requested {
        return Ok(());
    }
    let JobId(id) = job.id;
    let request = api.call(Method::POST, &format!("/v1/jobs/{id}/stop"));
    let answer = request.json(&json!({"reason": "the demo stops it"})).send().await;
    let answer = answer.and_then(reqwest::Response::error_for_status);
    answer.map(drop).map_err(|e| format!("the API does not stop a job: {e}"))
}

async fn send_to_queue(producer: &SqsProducer, url: &str, jobs: &[DemoJob]) -> Result<(), String> {
    let queued = jobs.iter().filter(|job| job.door == Door::Sqs);
    let bodies: Vec<String> =
        queued.flat_map(|job| std::iter::repeat_n(job.document.to_string(), job.copies)).collect();
    producer.send(url, &bodies).await.map_err(|e| e.to_string())
}

async fn depth(producer: &SqsProducer, url: &str) -> Result<yard_inbox_sqs::QueueDepth, String> {
    producer.depth(url).await.map_err(|e| e.to_string())
}

/// What is left in the queue once it has had a moment to empty.
async fn settled(producer: &SqsProducer, url: &str) -> Result<yard_inbox_sqs::QueueDepth, String> {
    let deadline = Instant::now() + QUEUE_SETTLE;
    loop {
        let left = depth(producer, url).await?;
        if left == yard_inbox_sqs::QueueDepth::default() || Instant::now() >= deadline {
            return Ok(left);
        }
        tokio::time::sleep(LOOK).await;
    }
}
