//! From a submission to the launch call, on a system with nothing else to do: one job after the other, over HTTP and
//! over SQS, through a whole process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use metrics_exporter_prometheus::PrometheusBuilder;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use sqlx::Row;
use tokio::sync::mpsc;
use yard_inbox_sqs::{SqsInbox, SqsProducer};
use yard_ports::{Inbox, InboxError, LaunchRequest, Message, MessageHandle};
use yard_testkit::null_driver::{NullConfig, NullPlan};

use crate::loops::{drivers, wait_until_dispatching};
use crate::report::{Detail, Finding, Target};
use crate::stats::{millis, quantile};
use crate::whole::{TestQueue, Whole};
use crate::world::{World, body, team_name, unix_us};
use crate::{Plan, Result};

/// Longest that a job may take to be launched, or to end.
const LONGEST: Duration = Duration::from_secs(30);

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
    let queue = match &plan.sqs {
        None => None,
        Some(server) => Some(TestQueue::create(server).await?),
    };
    let (sender, queue) = queue.map(|q| ((q.producer, q.url), Stopwatch::new(q.inbox))).unzip();
    let inbox = queue.clone().map(|q| Arc::new(q) as Arc<dyn Inbox>);
    let metrics = PrometheusBuilder::new().build_recorder().handle();
    let whole = Whole::start(world.store.clone(), &drivers, inbox, metrics).await?;
    wait_until_dispatching(world).await?;
    let mut probe = Probe { world, launches, rng: SmallRng::seed_from_u64(11), turns: plan.pick(400, 20) };
    let http = probe.over_http(&whole).await?;
    let mut findings =
        vec![http.finding("HTTP submission", 0.5, 25.0), http.finding("HTTP submission", 0.99, 100.0)];
    if let Some(((producer, url), stopwatch)) = sender.zip(queue) {
        let (sent, received) = probe.over_sqs(&producer, &url, &stopwatch).await?;
        for (what, sample) in [("SQS send", &sent), ("SQS message received", &received)] {
            for q in [0.5, 0.99] {
                findings.push(sample.finding(what, q, quantile(&http.total, q) + 30.0));
            }
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

    fn finding(&self, from: &str, q: f64, target: f64) -> Finding {
        let percent = q * 100.0;
        let what = format!("{from} → launch call, p{percent:.0} of {}", self.total.len());
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
            let request = client
                .post(&url)
                .bearer_auth(&whole.token)
                .header("content-type", "application/json")
                .body(body);
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

    /// From the send on, and from the moment on at which the intake had the message.
    async fn over_sqs(
        &mut self,
        producer: &SqsProducer,
        queue: &str,
        stopwatch: &Stopwatch,
    ) -> Result<(Sample, Sample)> {
        let (mut from_send, mut from_receipt) = (Sample::default(), Sample::default());
        for turn in 0..self.turns + 10 {
            let (key, body) = self.next("sqs", turn).await;
            let (sent, sent_us) = (Instant::now(), unix_us());
            producer.send(queue, &[body]).await?;
            let answered = millis(sent.elapsed());
            let launched = self.launched(&key, sent).await?;
            let received = stopwatch.received().ok_or("launched, but never received")?;
            if turn >= 10 {
                from_send.total.push(launched);
                from_send.stage("the send call itself (beside the stages below)", answered);
                let waited = millis(received - sent);
                from_send.stage("the queue's own time: sent → received by the intake", waited);
                self.stages(&mut from_send, &key, sent_us, launched).await?;
                from_receipt.total.push(launched - waited);
            }
        }
        Ok((from_send, from_receipt))
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

/// An inbox that notes when it last gave a message to the intake.
#[derive(Clone)]
struct Stopwatch {
    inner: Arc<SqsInbox>,
    received: Arc<Mutex<Option<Instant>>>,
}

impl Stopwatch {
    fn new(inner: SqsInbox) -> Self {
        Self { inner: Arc::new(inner), received: Arc::default() }
    }

    fn received(&self) -> Option<Instant> {
        *self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Inbox for Stopwatch {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn receive(&self) -> std::result::Result<Vec<Message>, InboxError> {
        let messages = self.inner.receive().await?;
        if !messages.is_empty() {
            *self.received.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        Ok(messages)
    }

    async fn delete(&self, handles: &[MessageHandle]) -> std::result::Result<Vec<MessageHandle>, InboxError> {
        self.inner.delete(handles).await
    }

    async fn extend(&self, handles: &[MessageHandle], span: Duration) -> std::result::Result<(), InboxError> {
        self.inner.extend(handles, span).await
    }

    async fn dead_letter(&self, body: &str, reason: &str) -> std::result::Result<(), InboxError> {
        self.inner.dead_letter(body, reason).await
    }

    fn visibility(&self) -> Duration {
        self.inner.visibility()
    }
}
