//! What looking at the queue and claiming from it cost, with ten thousand and with a million jobs queued, of which
//! one team has 95 %. Both queues are there at once and are measured in turns.

use std::time::{Duration, Instant};

use yard_domain::event::ReleaseReason;
use yard_domain::{JobId, Lease, LeaseScope};
use yard_engine::settings::SchedulerSettings;
use yard_ports::store::{ClaimRequest, QueueHead, QueueView};

use crate::fill::copy_jobs;
use crate::report::{Detail, Finding, Target};
use crate::stats::{median, millis, quantile};
use crate::world::{TEAMS, World, body, team_name};
use crate::{Failure, Plan, Result};

/// Jobs of one claim.
const CLAIM: u32 = 20;
/// Places read of each group: as many as every group has in the smaller queue too, so that both read as much.
const VIEW_DEPTH: u32 = 8;
/// The lease outlasts the benchmark.
const TTL: Duration = Duration::from_hours(2);

/// A queue to claim from.
struct Queue {
    world: World,
    lease: Lease,
    deep: ClaimRequest,
    small: ClaimRequest,
}

/// Times in milliseconds.
#[derive(Default)]
struct Sample {
    deep: Vec<f64>,
    small: Vec<f64>,
    load: Vec<f64>,
    /// With the product's default view, of which the smaller queue has less to show.
    load_full: Vec<f64>,
}

/// Runs the benchmark.
pub async fn run(plan: &Plan) -> Result<Vec<Finding>> {
    let (jobs, copies) = (plan.pick(10_000, 500), plan.pick(99, 9));
    let mut queues = Vec::new();
    let findings = async {
        for copies in [0, copies] {
            queues.push(fill(&plan.url, jobs, copies).await?);
        }
        measure(plan, &queues, jobs, copies).await
    }
    .await;
    for queue in queues {
        queue.world.remove().await?;
    }
    findings
}

async fn measure(plan: &Plan, queues: &[Queue], jobs: usize, copies: usize) -> Result<Vec<Finding>> {
    let mut samples = [Sample::default(), Sample::default()];
    let turns = plan.pick(300, 20);
    for turn in 0..turns + turns / 10 {
        for (queue, sample) in queues.iter().zip(&mut samples) {
            let mut taken = Sample::default();
            queue.sample(&mut taken).await?;
            // The first turns are for caches.
            if turn >= turns / 10 {
                sample.deep.append(&mut taken.deep);
                sample.small.append(&mut taken.small);
                sample.load.append(&mut taken.load);
                sample.load_full.append(&mut taken.load_full);
            }
        }
    }
    let note = format!(
        "median of {turns}; beside it the same on a queue of {jobs}, measured in turns; 95 % belong to one team"
    );
    let [base, big] = &samples;
    let finding = |what: &str, pick: fn(&Sample) -> &Vec<f64>| {
        let what = format!("{what}, {} queued", jobs * (copies + 1));
        let tails = [big, base].map(|s| quantile(pick(s), 0.99));
        let finding = Finding::beside("claim", what, "ms", vec![(median(pick(big)), median(pick(base)))]);
        let finding = finding.target(Target::RatioAtMost(1.3));
        finding.note(format!("{note}; p99 {:.2} ms beside {:.2} ms", tails[0], tails[1]))
    };
    let depth = SchedulerSettings::default().view.depth;
    let full = format!("with up to {depth} of a group, of which the smaller queue has fewer: beside it");
    Ok(vec![
        finding("claim of 20 by the deep team", |s| &s.deep),
        finding("claim of 20 by a small team", |s| &s.small),
        finding("load_placement_input, 8 of each group", |s| &s.load).details(vec![
            Detail::new(format!("the same {full}"), median(&big.load_full), "ms"),
            Detail::new("the smaller queue", median(&base.load_full), "ms"),
        ]),
    ])
}

/// A queue of `jobs` and `copies` times as many again.
async fn fill(url: &str, jobs: usize, copies: usize) -> Result<Queue> {
    let world = World::create(url, 2).await?;
    let filled = async {
        let owner = |i: usize| if i.is_multiple_of(20) { 1 + i / 20 % (TEAMS - 1) } else { 0 };
        let bodies: Vec<String> =
            (0..jobs).map(|i| body(&team_name(owner(i)), &format!("c-{i}"), i)).collect();
        world.accept(&bodies, 200).await?;
        copy_jobs(&world.db, copies).await?;
        world.db.settle(Duration::from_mins(2)).await?;
        let scope = LeaseScope::Scheduler("bench".to_owned());
        let lease = world.store.acquire_lease(&scope, "bench", TTL).await?.ok_or("the lease is taken")?;
        let input = world.store.load_placement_input(SchedulerSettings::default().view).await?;
        let group = |team: &str| -> Result<ClaimRequest> {
            let head: Option<&QueueHead> = input.heads.iter().find(|h| h.team.as_str() == team);
            let head = head.ok_or("the queue is not as it was filled")?;
            Ok(ClaimRequest { team: head.team.clone(), shape: head.shape, max: CLAIM })
        };
        Ok::<_, Failure>((lease, group(&team_name(0))?, group(&team_name(5))?))
    };
    match filled.await {
        Ok((lease, deep, small)) => Ok(Queue { world, lease, deep, small }),
        Err(error) => {
            world.remove().await?;
            Err(error)
        }
    }
}

impl Queue {
    async fn sample(&self, sample: &mut Sample) -> Result<()> {
        let view = SchedulerSettings::default().view;
        sample.load.push(self.load(QueueView { depth: VIEW_DEPTH, ..view }).await?);
        sample.load_full.push(self.load(view).await?);
        sample.deep.push(self.claim(&self.deep).await?);
        sample.small.push(self.claim(&self.small).await?);
        Ok(())
    }

    async fn load(&self, view: QueueView) -> Result<f64> {
        let began = Instant::now();
        let input = self.world.store.load_placement_input(view).await?;
        let took = millis(began.elapsed());
        if input.heads.is_empty() {
            return Err("nothing was loaded".into());
        }
        Ok(took)
    }

    /// Claims, and gives back what was claimed, untimed.
    async fn claim(&self, request: &ClaimRequest) -> Result<f64> {
        let store = &self.world.store;
        let began = Instant::now();
        let claimed = store.claim(&self.lease, std::slice::from_ref(request)).await?;
        let took = millis(began.elapsed());
        if claimed.is_empty() {
            return Err("nothing could be claimed".into());
        }
        let ids: Vec<JobId> = claimed.iter().map(|job| job.id).collect();
        store.release_claims(&self.lease, &ids, ReleaseReason::Shutdown).await?;
        Ok(took)
    }
}
