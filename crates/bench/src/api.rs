//! The HTTP API: one job read again and again, and bulk submissions, beside the store's same verbs without HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use yard_domain::{Arrival, JobId};
use yard_ports::Store;

use crate::report::{Finding, Target};
use crate::stats::rate;
use crate::whole::Whole;
use crate::world::{Reader, World, bodies, check_accepted};
use crate::{Failure, Plan, Result};

/// Clients, and callers of the floor.
const READERS: usize = 16;
const WRITERS: usize = 4;
/// Documents in one request.
const BULK: usize = 1_000;

/// Runs the benchmark.
pub async fn run(plan: &Plan) -> Result<Vec<Finding>> {
    let world = World::create(&plan.url, 1).await?;
    let findings = measure(plan, &world).await;
    world.remove().await?;
    findings
}

async fn measure(plan: &Plan, world: &World) -> Result<Vec<Finding>> {
    let whole = Whole::api(world.store.clone()).await?;
    let findings = async {
        let reads = reads(plan, world, &whole).await?;
        Ok([reads, bulk(plan, world, &whole).await?].concat())
    };
    let findings = findings.await;
    whole.stop().await?;
    findings
}

async fn reads(plan: &Plan, world: &World, whole: &Whole) -> Result<Vec<Finding>> {
    let (jobs, reads) = (plan.pick(2_000, 100), plan.pick(20_000, 200));
    world.accept(&bodies(jobs, "read"), 256).await?;
    let filter = yard_ports::store::JobFilter { limit: u32::try_from(jobs)?, ..Default::default() };
    let page = world.store.jobs(&filter).await?;
    let ids: Arc<Vec<JobId>> = Arc::new(page.jobs.iter().map(|row| row.lifecycle.id).collect());
    let client = reqwest::Client::builder().build()?;
    let mut rounds = Vec::new();
    for round in 0..=plan.rounds {
        let base = format!("http://{}/v1/jobs", whole.api);
        let ours = many(READERS, reads, |n| {
            let request = client.get(format!("{base}/{}", ids[n % ids.len()])).bearer_auth(&whole.token);
            async move {
                let answer = request.send().await?.error_for_status()?;
                answer.bytes().await?;
                Ok(())
            }
        });
        let ours = ours.await?;
        let floor = many(READERS, reads, |n| {
            let (store, id): (Arc<dyn Store>, _) = (world.store.clone(), ids[n % ids.len()]);
            async move {
                store.now().await?;
                store.job(id).await?.map(|_| ()).ok_or_else(|| "the job is not there".into())
            }
        });
        let floor = floor.await?;
        if round > 0 {
            rounds.push((rate(reads, ours), rate(reads, floor)));
        }
    }
    let what = "GET /v1/jobs/{id}";
    let note = format!(
        "{reads} reads a round of {jobs} queued jobs, {READERS} clients; floor: the store's reads alone"
    );
    Ok(both("api", what, "/s", rounds, 3_000.0, &note))
}

async fn bulk(plan: &Plan, world: &World, whole: &Whole) -> Result<Vec<Finding>> {
    let requests = plan.pick(20, 1);
    let client = reqwest::Client::builder().build()?;
    let mut rounds = Vec::new();
    for round in 0..=plan.rounds {
        let of = |who: &str| bodies(requests * BULK, &format!("{who}-{round}"));
        let texts: Arc<Vec<String>> = Arc::new(
            of("bulk").chunks(BULK).map(|part| format!("{{\"jobs\":[{}]}}", part.join(","))).collect(),
        );
        world.db.settle(Duration::from_secs(10)).await?;
        let url = format!("http://{}/v1/jobs/batch", whole.api);
        let ours = many(WRITERS, requests, |n| {
            let request = client
                .post(&url)
                .bearer_auth(&whole.token)
                .header("content-type", "application/json")
                .body(texts[n].clone());
            async move {
                let answer = request.send().await?.error_for_status()?.text().await?;
                let accepted = answer.matches("\"accepted\"").count();
                if accepted == BULK {
                    Ok(())
                } else {
                    Err(format!("{accepted} of {BULK} were accepted").into())
                }
            }
        });
        let ours = ours.await?;
        world.db.settle(Duration::from_secs(10)).await?;
        let mut reader = Reader::new(world.admission.clone());
        let read = |part: &[String]| part.iter().map(|body| reader.read(body)).collect();
        let batches: Vec<Vec<Arrival>> = of("floor").chunks(BULK).map(read).collect();
        let batches = Arc::new(batches);
        let floor = many(WRITERS, requests, |n| {
            let (store, batches) = (world.store.clone(), batches.clone());
            async move { check_accepted(&store.accept(&batches[n]).await?) }
        });
        let floor = floor.await?;
        if round > 0 {
            rounds.push((rate(requests * BULK, ours), rate(requests * BULK, floor)));
        }
    }
    let note =
        format!("{requests} requests of {BULK} a round, {WRITERS} clients; floor: the store's commits alone");
    Ok(both("api", "POST /v1/jobs/batch", "jobs/s", rounds, 5_000.0, &note))
}

/// The ratio to the floor, and the figure held against its target.
fn both(
    bench: &'static str,
    what: &str,
    unit: &'static str,
    rounds: Vec<(f64, f64)>,
    target: f64,
    note: &str,
) -> Vec<Finding> {
    let beside = Finding::beside(bench, what, unit, rounds).note(note);
    let alone = Finding::alone(bench, format!("{what}, absolute"), beside.figure, unit);
    vec![beside, alone.target(Target::AtLeast(target))]
}

/// Does something `n` times, so many at once; how long all took.
async fn many<F>(at_once: usize, n: usize, one: impl Fn(usize) -> F) -> Result<Duration>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    let mut running: JoinSet<Result<()>> = JoinSet::new();
    loop {
        while running.len() < at_once {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= n {
                break;
            }
            running.spawn(one(i));
        }
        match running.join_next().await {
            Some(done) => done.map_err(Failure::from)??,
            None => return Ok(began.elapsed()),
        }
    }
}
