//! From a submission to the launch call, on a system with nothing else to do: one job after the other, over HTTP and
//! over SQS, through a whole process.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::PrometheusBuilder;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use sqlx::Row;
use tokio::sync::mpsc;
use uuid::Uuid;
use yard_inbox_sqs::{SqsInbox, SqsProducer};
use yard_ports::{Inbox, LaunchRequest};
use yard_testkit::null_driver::{NullConfig, NullPlan};

use crate::loops::{drivers, wait_until_dispatching};
use crate::report::{Detail, Finding, Target};
use crate::stats::{millis, quantile};
use crate::whole::{Whole, endpoint, queue};
use crate::world::{World, body, team_name, unix_us};
use crate::{Plan, Result};

/// Longest that a job may take to be launched, or to end.
const LONGEST: Duration = Duration::from_secs(30);
/// How long one call to SQS may take.
const CALL: Duration = Duration::from_secs(10);

/// A launch call: which submission's, and when it was made.
type Launch = (String, Instant);

/// Runs the benchmark.
pub async fn run(plan: &Plan) -> Result<Vec<Finding>> {
    let world = World::create(&plan.url, 2).await?;
    let findings = measure(plan, &world).await;
    world.remove().await?;
    findings
}

async fn measure(plan: &Plan, world: &World) -> Result<Vec<Finding>> {
    let (tx, launches) = mpsc::unbounded_channel();
    let drivers = drivers(world, &NullConfig::default());
    for driver in drivers.values() {
        let tx = tx.clone();
        driver.set_script(move |request: &LaunchRequest| {
            // Nobody listens any more at the end.
            _ = tx.send((request.metadata.get("run").cloned().unwrap_or_default(), Instant::now()));
            NullPlan::succeed_after(Duration::ZERO)
        });
    }
    let metrics = PrometheusBuilder::new().build_recorder().handle();
    let producer = match &plan.sqs {
        None => None,
        Some(url) => {
            let producer = SqsProducer::connect(&endpoint(url), CALL).await;
            let name = format!("bench-{}", Uuid::new_v4().simple());
            let there = producer.ensure_queue(&name).await?;
            Some((producer, there, url.clone()))
        }
    };
    let intake = producer.as_ref().map(|(_, there, url)| queue(there.clone(), endpoint(url)));
    let whole = Whole::start(world.store.clone(), &drivers, intake, metrics).await?;
    wait_until_dispatching(world).await?;
    let mut probe = Probe { world, launches, rng: SmallRng::seed_from_u64(11), turns: plan.pick(400, 20) };
    let http = probe.over_http(&whole).await?;
    let mut findings = vec![http.finding("HTTP", 0.5, 25.0), http.finding("HTTP", 0.99, 100.0)];
    if let Some((producer, there, url)) = &producer {
        let mut sqs = probe.over_sqs(producer, there).await?;
        sqs.detail(
            "send → receive without Switchyard: the queue's own time",
            bare(&probe, producer, url).await?,
        );
        for q in [0.5, 0.99] {
            findings.push(sqs.finding("SQS", q, quantile(&http.total, q) + 30.0));
        }
    }
    whole.stop().await?;
    Ok(findings)
}

/// Times in milliseconds.
#[derive(Default)]
struct Sample {
    total: Vec<f64>,
    stages: Vec<(String, Vec<f64>)>,
}

impl Sample {
    fn stage(&mut self, what: &str, ms: f64) {
        match self.stages.iter_mut().find(|(name, _)| name == what) {
            Some((_, times)) => times.push(ms),
            None => self.stages.push((what.to_owned(), vec![ms])),
        }
    }

    fn detail(&mut self, what: &str, times: Vec<f64>) {
        self.stages.push((what.to_owned(), times));
    }

    fn finding(&self, door: &str, q: f64, target: f64) -> Finding {
        let percent = q * 100.0;
        let what = format!("{door} submission → launch call, p{percent:.0} of {}", self.total.len());
        let details = self.stages.iter().map(|(what, times)| Detail::new(what, quantile(times, q), "ms"));
        Finding::alone("latency", what, quantile(&self.total, q), "ms")
            .target(Target::AtMost(target))
            .details(details.collect())
            .note(format!(
                "idle system, one job at a time; each stage's own p{percent:.0}, by the database's clock"
            ))
    }
}

/// Sends one job after the other.
struct Probe<'a> {
    world: &'a World,
    launches: mpsc::UnboundedReceiver<Launch>,
    rng: SmallRng,
    turns: usize,
}

impl Probe<'_> {
    async fn over_http(&mut self, whole: &Whole) -> Result<Sample> {
        let client = reqwest::Client::builder().build()?;
        let url = format!("http://{}/v1/jobs", whole.api);
        let mut sample = Sample::default();
        for turn in 0..self.turns + 10 {
            let (key, body) = self.next("http", turn).await;
            let request = client.post(&url).header("content-type", "application/json").body(body);
            let (sent, sent_us) = (Instant::now(), unix_us());
            let response = request.send().await?;
            let answered = millis(sent.elapsed());
            if response.status().as_u16() != 201 {
                return Err(
                    format!("the API answered {}: {}", response.status(), response.text().await?).into()
                );
            }
            let launched = self.launched(&key, sent).await?;
            if turn >= 10 {
                sample.total.push(launched);
                sample.stage("answered with 201 (beside the stages below)", answered);
                self.stages(&mut sample, &key, sent_us, launched).await?;
            }
        }
        Ok(sample)
    }

    async fn over_sqs(&mut self, producer: &SqsProducer, queue: &str) -> Result<Sample> {
        let mut sample = Sample::default();
        for turn in 0..self.turns + 10 {
            let (key, body) = self.next("sqs", turn).await;
            let (sent, sent_us) = (Instant::now(), unix_us());
            producer.send(queue, &[body]).await?;
            let answered = millis(sent.elapsed());
            let launched = self.launched(&key, sent).await?;
            if turn >= 10 {
                sample.total.push(launched);
                sample.stage("the send call itself (beside the stages below)", answered);
                self.stages(&mut sample, &key, sent_us, launched).await?;
            }
        }
        Ok(sample)
    }

    /// The next submission, after a pause that keeps no step with the product's timers.
    async fn next(&mut self, door: &str, turn: usize) -> (String, String) {
        tokio::time::sleep(Duration::from_micros(self.rng.random_range(5_000..60_000))).await;
        let key = format!("{door}-{turn}");
        let body = body(&team_name(turn % 15), &key, turn);
        (key, body)
    }

    /// Milliseconds from `sent` to the launch call.
    async fn launched(&mut self, key: &str, sent: Instant) -> Result<f64> {
        let wait = async {
            loop {
                match self.launches.recv().await {
                    Some((launched, at)) if launched == key => return Some(millis(at - sent)),
                    Some(_) => {}
                    None => return None,
                }
            }
        };
        let launched = tokio::time::timeout(LONGEST, wait).await;
        launched.ok().flatten().ok_or_else(|| format!("{key} was not launched in {LONGEST:?}").into())
    }

    /// Waits for the job's end, and adds when what was committed; `launched` in milliseconds from `sent_us`.
    async fn stages(&self, sample: &mut Sample, key: &str, sent_us: u64, launched: f64) -> Result<()> {
        let sql = "SELECT h.code, h.at_us FROM history h JOIN jobs j ON j.id = h.job_id WHERE j.idem_key = ?";
        let began = Instant::now();
        let mut times: HashMap<String, i64> = HashMap::new();
        while !times.contains_key("succeeded") {
            if began.elapsed() > LONGEST {
                return Err(format!("{key} has not ended in {LONGEST:?}").into());
            }
            let rows = sqlx::query(sql).bind(key).fetch_all(&self.world.db.pool).await?;
            times = rows.iter().map(|r| Ok((r.try_get(0)?, r.try_get(1)?))).collect::<Result<_>>()?;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let mut last = sent_us as f64;
        for (code, what) in [
            ("accepted", "sent → its acceptance begins"),
            ("claimed", "→ its claim begins"),
            ("placed", "→ its placement begins"),
            ("launch_begun", "→ the beginning of its launch is written down"),
        ] {
            let at = times.get(code).copied().ok_or_else(|| format!("{key} was not {code}"))? as f64;
            sample.stage(what, (at - last) / 1e3);
            last = at;
        }
        sample.stage("→ the launch call", launched - (last - sent_us as f64) / 1e3);
        Ok(())
    }
}

/// What the queue takes by itself: a receive that waits, and a send.
async fn bare(probe: &Probe<'_>, producer: &SqsProducer, url: &str) -> Result<Vec<f64>> {
    let there = producer.ensure_queue(&format!("bench-{}", Uuid::new_v4().simple())).await?;
    let inbox = SqsInbox::connect(queue(there.clone(), endpoint(url))).await;
    let mut times = Vec::new();
    for _ in 0..probe.turns {
        let receiving = async {
            loop {
                let messages = inbox.receive().await?;
                if !messages.is_empty() {
                    return Ok::<_, crate::Failure>((messages, Instant::now()));
                }
            }
        };
        let sending = async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            let sent = Instant::now();
            producer.send(&there, &["{}".to_owned()]).await?;
            Ok::<_, crate::Failure>(sent)
        };
        let ((messages, received), sent) = tokio::try_join!(receiving, sending)?;
        times.push(millis(received - sent));
        inbox.delete(&messages.into_iter().map(|m| m.handle).collect::<Vec<_>>()).await?;
    }
    Ok(times)
}
