//! Many queues with little quota each: the shape of Kueue's own large scheduler test, end to end.
//!
//! 50,000 jobs of 1,000 teams in 10 cohorts; each team has 20 cpus of its own and may borrow 100 more, and sends 35
//! small (1 cpu, 200 ms), 10 medium (5 cpus, 500 ms) and 5 large jobs (20 cpus, 1 s) in three priority classes, of which
//! the higher may have the lower stopped, and borrowers stopped by whom the quota belongs to. (Kueue:
//! test/performance/scheduler, its baseline's classes in its large scale's number of queues.) Each second, quota moves
//! between teams of a cohort. Jobs are taken in while others run; the clock runs from the first message to the commit
//! of the last end. There are two floors. The arithmetic one is all work of a cohort, divided by its quota: jobs as if they
//! were water. The simulator's account is how long the same planner takes in a world without any overhead: all jobs are
//! there at once, a pass follows on every end, and passes, launches and stops take no time (quota stays where it is).

use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use yard_domain::job::Priority;
use yard_domain::policy::PriorityClass;
use yard_domain::{Catalog, ClusterSelector, Cohort, Limits, Policy, Request, Team, Timestamp};
use yard_engine::settings::{DispatcherSettings, SchedulerSettings};
use yard_planner::Promises;
use yard_ports::store::{CatalogDocument, QueueView};
use yard_simulator::{Model, SimJob, Simulation};
use yard_testkit::null_driver::{NullConfig, NullPlan};

use crate::life::{audited, ended};
use crate::loops::{Loops, Roles, drivers, wait_until_dispatching};
use crate::report::{Detail, Finding, Target};
use crate::world::{World, catalog};
use crate::{Plan, Result};

/// Clusters, each with its dispatcher.
const CLUSTERS: usize = 4;
/// Cpus that each team owns, and may borrow at most.
const NOMINAL: u64 = 20;
const BORROWED: u64 = 100;
/// Of each team's jobs: how many, cpus, milliseconds, priority.
const CLASSES: [(usize, u64, u64, i64); 3] = [(35, 1, 200, 50), (10, 5, 500, 100), (5, 20, 1_000, 200)];
/// Kueue's continuous integration took this long for as many jobs (docs/benchmarks.md).
const RIVAL_S: f64 = 1_179.0;
/// Longest that a round may take.
const LONGEST: Duration = Duration::from_mins(10);

/// Runs the benchmark, once: it takes long, and its floor is arithmetic.
pub async fn run(plan: &Plan) -> Result<Vec<Finding>> {
    let size = Size { cohorts: plan.pick(10, 2), teams: plan.pick(100, 5) };
    let world = World::with(&plan.url, size.catalog(0)?).await?;
    let findings = measure(plan, &world, size).await;
    world.remove().await?;
    findings
}

#[derive(Clone, Copy)]
struct Size {
    cohorts: usize,
    /// In each cohort.
    teams: usize,
}

async fn measure(plan: &Plan, world: &World, size: Size) -> Result<Vec<Finding>> {
    let bodies = size.bodies();
    let before = plan.meter.read();
    let took = ours(world, size, &bodies).await?.as_secs_f64();
    let mut details = plan.meter.read().since(&before).transactions();
    let (floor, simulated) = (floor_s(), size.simulated_s()?);
    let preempted = world.db.number("SELECT CAST(COALESCE(SUM(preemptions), 0) AS SIGNED) FROM jobs").await?;
    details.insert(0, Detail::new("jobs stopped to make room, and run again", preempted as f64, "jobs"));
    details.insert(0, Detail::new("arithmetic floor: all work by all quota", floor, "s"));
    details.insert(0, Detail::new("quota floor by the simulator: no overhead at all", simulated, "s"));
    details.insert(0, Detail::new("Kueue's continuous integration, other machine", RIVAL_S, "s"));
    let note = format!(
        "{} jobs of {} teams in {} cohorts, three classes, preemption, quota moved each second, one scheduler, \
         {CLUSTERS} dispatchers; from the first message to the last end",
        bodies.len(),
        size.cohorts * size.teams,
        size.cohorts
    );
    let whole = Finding::alone("quota", "the shape of Kueue's large test, end to end", took, "s");
    let beside = Finding::beside("quota", "the same beside the arithmetic floor", "s", vec![(took, floor)]);
    let by_simulator = Finding::beside(
        "quota",
        "the same beside the quota floor by the simulator",
        "s",
        vec![(took, simulated)],
    );
    Ok(vec![whole.target(Target::AtMost(60.0)).details(details).note(note), beside, by_simulator])
}

/// All work of a team, divided by its quota.
fn floor_s() -> f64 {
    let work: u64 = CLASSES.iter().map(|(n, cpus, ms, _)| *n as u64 * cpus * ms).sum();
    work as f64 / 1e3 / NOMINAL as f64
}

async fn ours(world: &World, size: Size, bodies: &[String]) -> Result<Duration> {
    let drivers = drivers(world, &NullConfig::default());
    for driver in drivers.values() {
        driver.set_script(|launch| {
            let cpus = launch.request.cpu_milli / 1_000;
            let ms = CLASSES.iter().find(|class| class.1 == cpus).map_or(0, |class| class.2);
            NullPlan::succeed_after(Duration::from_millis(ms))
        });
    }
    let groups = u32::try_from(3 * size.cohorts * size.teams)?;
    let scheduler = SchedulerSettings {
        view: QueueView { groups, depth: 20 },
        placements_max: 5_000,
        ..SchedulerSettings::default()
    };
    let dispatcher = Some((DispatcherSettings::default(), drivers.clone()));
    let roles = Roles { scheduler: Some(scheduler), dispatcher };
    let loops = Loops::start(&world.store, world.instance, "bench", roles);
    wait_until_dispatching(world).await?;
    let began = Instant::now();
    let filling = world.accept(bodies, 200);
    let ending = async {
        let mut round = 0;
        while ended(world).await? < bodies.len() && began.elapsed() < LONGEST {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if began.elapsed().as_secs() > round {
                round += 1;
                let (catalog, text) = (size.catalog(round)?, format!("round {round}"));
                world.store.apply_catalog(&catalog, CatalogDocument::configuration(&text, "bench")).await?;
            }
            loops.nudges.scheduler();
        }
        Ok::<_, crate::Failure>(began.elapsed())
    };
    let (filled, took) = tokio::join!(filling, ending);
    filled?;
    loops.stop().await;
    audited(world, drivers.values(), bodies.len()).await?;
    took
}

impl Size {
    /// In each round, other pairs of teams have lent each other half of their quota for good: the cohort's sum stays.
    fn catalog(self, round: u64) -> Result<Catalog> {
        let mut rng = SmallRng::seed_from_u64(round);
        let (mut teams, mut cohorts) = (Vec::new(), Vec::new());
        for c in 0..self.cohorts {
            let cohort = Cohort::new(format!("cohort-{c}").parse()?);
            let mut members = Vec::new();
            for t in 0..self.teams {
                members.push(Team {
                    cohort: Some(cohort.id.clone()),
                    quota: cpus(NOMINAL),
                    max: cpus(NOMINAL + BORROWED),
                    ..Team::new(name(c, t).parse()?)
                });
            }
            if round > 0 && self.teams > 1 {
                let (from, by) = (rng.random_range(0..self.teams), rng.random_range(1..self.teams));
                members[from].quota = cpus(NOMINAL / 2);
                members[(from + by) % self.teams].quota = cpus(NOMINAL + NOMINAL / 2);
            }
            teams.extend(members);
            cohorts.push(cohort);
        }
        let classes = CLASSES.iter().rev().map(|(_, _, _, priority)| {
            let priority = Priority::new(*priority).ok_or("a priority out of range")?;
            let id = format!("class-{}", priority.get()).parse()?;
            Ok(PriorityClass { id, priority, preempts: true, preemptible: true })
        });
        let policy = Policy { classes: classes.collect::<Result<_>>()?, ..Policy::default() };
        Ok(Catalog { teams, cohorts, clusters: catalog(CLUSTERS)?.1, policy })
    }

    /// How long the same jobs take in virtual time, in seconds, if nothing but quota, work and the planner's choices counts.
    fn simulated_s(self) -> Result<f64> {
        let catalog = self.catalog(0)?;
        let none = Duration::ZERO;
        let model = Model {
            pass_interval: none,
            groups_max: CLASSES.len() * self.cohorts * self.teams,
            placements_max: u32::MAX,
            launch_delay: (none, none),
            preempt_grace: none,
            user_failure_rate: 0.0,
            launch_failure_rate: 0.0,
            ..Model::default()
        };
        let mut promises = Promises::default();
        let decide =
            Box::new(move |snapshot: &_, policy: &_, now, seed| promises.plan(snapshot, policy, now, seed));
        let simulation = Simulation::new(&catalog, [], model, Vec::new(), decide);
        let report = simulation.map_err(|faults| faults.join("; "))?.run(self.jobs()?);
        if !report.is_sound() || report.jobs.succeeded != report.jobs.arrived {
            return Err(format!("the simulator broke a rule or left a job undone:\n{report}").into());
        }
        Ok(report.runs.whole_s)
    }

    /// What [`Self::bodies`] asks for, all of it at once.
    fn jobs(self) -> Result<Vec<SimJob>> {
        let mut jobs = Vec::new();
        for (c, t) in (0..self.cohorts).flat_map(|c| (0..self.teams).map(move |t| (c, t))) {
            for (count, cpu, ms, priority) in CLASSES {
                let job = SimJob {
                    at: Timestamp::from_micros(0),
                    team: name(c, t).parse()?,
                    priority: Priority::new(priority).ok_or("a priority out of range")?,
                    request: Request { cpu_milli: cpu * 1_000, jobs: 1, ..Request::default() },
                    clusters: ClusterSelector::default(),
                    run: Duration::from_millis(ms),
                    run_timeout: Duration::from_mins(1),
                    queue_timeout: Duration::from_hours(24),
                    max_retries: 0,
                };
                jobs.extend(std::iter::repeat_n(job, count));
            }
        }
        jobs.shuffle(&mut SmallRng::seed_from_u64(1));
        Ok(jobs)
    }

    /// Every team's jobs, all teams mixed.
    fn bodies(self) -> Vec<String> {
        let mut bodies = Vec::new();
        for (c, t) in (0..self.cohorts).flat_map(|c| (0..self.teams).map(move |t| (c, t))) {
            for (count, cpu, _, priority) in CLASSES {
                bodies.extend((0..count).map(|i| {
                    json!({
                        "v": 1, "team": name(c, t), "key": format!("{priority}-{i}"), "entrypoint": "python work.py",
                        "resources": {"cpu": cpu}, "priority": priority, "timeouts": {"run_s": 60},
                    })
                    .to_string()
                }));
            }
        }
        bodies.shuffle(&mut SmallRng::seed_from_u64(1));
        bodies
    }
}

fn name(cohort: usize, team: usize) -> String {
    format!("team-{cohort}-{team}")
}

fn cpus(n: u64) -> Limits {
    Limits { cpu_milli: Some(n * 1_000), ..Limits::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Jobs are no water: a schedule takes at least what the arithmetic says, and, with room to borrow, not twice that.
    #[test]
    fn the_simulated_floor_is_above_the_arithmetic_one() {
        let size = Size { cohorts: 2, teams: 5 };
        let simulated = size.simulated_s().unwrap();
        assert!((floor_s()..2.0 * floor_s()).contains(&simulated), "{simulated} s beside {} s", floor_s());
    }
}
