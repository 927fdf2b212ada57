//! The loops over the real SQLite store where room is short: borrowing and taking back, classes, reservations.

use std::collections::BTreeMap;
use std::time::Duration;

use yard_domain::job::Priority;
use yard_domain::policy::PriorityClass;
use yard_domain::{Catalog, Cohort, JobId, Policy, RemoteName, StateName, Team};
use yard_ports::RemoteStatus;
use yard_testkit::null_driver::NullPlan;

use crate::world::{World, cluster, settings, team};

/// Teams `ads` and `lab` with 4 cpus each of the 8 there are, which lend each other what they don't use; high and
/// normal jobs, both of which may have others stopped and be stopped.
fn lenders() -> Catalog {
    let cohort: Cohort = Cohort::new("all".parse().unwrap());
    let member = |id| Team { cohort: Some(cohort.id.clone()), ..team(id, 4) };
    let class = |id: &str, priority| PriorityClass {
        id: id.parse().unwrap(),
        priority: Priority::new(priority).unwrap(),
        preempts: true,
        preemptible: true,
    };
    Catalog {
        teams: vec![member("ads"), member("lab")],
        cohorts: vec![cohort.clone()],
        clusters: vec![cluster("east", 4), cluster("west", 4)],
        policy: Policy { classes: vec![class("high", 100), class("normal", 0)], ..Policy::default() },
    }
}

async fn submit_some(world: &mut World, team: &str, n: u32, priority: i64) -> Vec<JobId> {
    let mut jobs = Vec::new();
    for _ in 0..n {
        jobs.push(world.submit_job(team, |spec| spec.priority = Priority::new(priority).unwrap()).await);
    }
    jobs
}

async fn all_running(world: &World, jobs: &[JobId]) {
    for job in jobs {
        world.until(*job, |state| state == StateName::Running).await;
    }
}

/// How often each of these was stopped to make room; none may have paid for it.
async fn preemptions(world: &World, jobs: &[JobId]) -> u32 {
    let mut sum = 0;
    for job in jobs {
        let counts = world.store.job(*job).await.unwrap().unwrap().lifecycle.counts;
        assert_eq!((counts.own, counts.infra), (0, 0));
        sum += counts.preempted;
    }
    sum
}

/// Lets these jobs end from now on: those that run, and those still to come.
async fn let_end(world: &World, jobs: &[JobId]) {
    for driver in world.clusters.values() {
        driver.set_script(|_| NullPlan::succeed_after(Duration::from_millis(5)));
    }
    for job in jobs {
        let view = world.store.job(*job).await.unwrap().unwrap();
        if let Some(open) = view.lifecycle.state.open_attempt() {
            let driver = &world.clusters[open.cluster.as_str()];
            driver.finish(&RemoteName::new(*job, open.number), RemoteStatus::Succeeded);
        }
    }
}

#[tokio::test]
async fn what_was_lent_is_taken_back_and_no_more() {
    let mut world = World::with(NullPlan::endless(), &lenders()).await;
    let replica = world.replica("one", &settings()).await;
    let lab = submit_some(&mut world, "lab", 8, 0).await;
    all_running(&world, &lab).await;
    let ads = submit_some(&mut world, "ads", 3, 0).await;
    all_running(&world, &ads).await;
    assert_eq!(preemptions(&world, &lab).await, 3, "one cpu each, one job each");
    let stops: u64 = world.clusters.values().map(|d| d.counters().stop_calls).sum();
    assert!(stops >= 3);
    let jobs: Vec<JobId> = lab.iter().chain(&ads).copied().collect();
    let_end(&world, &jobs).await;
    assert_eq!(world.ended(&jobs).await, BTreeMap::from([("succeeded", 11)]));
    assert_eq!(preemptions(&world, &jobs).await, 3, "nobody took anything back again");
    replica.drain().await;
    world.check().await;
}

#[tokio::test]
async fn a_higher_class_goes_before_a_lower_one_of_its_team() {
    let mut world = World::with(NullPlan::endless(), &lenders()).await;
    let (one, two) = (world.replica("one", &settings()).await, world.replica("two", &settings()).await);
    let normal = submit_some(&mut world, "lab", 8, 0).await;
    all_running(&world, &normal).await;
    let high = submit_some(&mut world, "lab", 2, 100).await;
    all_running(&world, &high).await;
    assert_eq!(preemptions(&world, &normal).await, 2, "two schedulers ask no more than one would");
    let jobs: Vec<JobId> = normal.iter().chain(&high).copied().collect();
    let_end(&world, &jobs).await;
    assert_eq!(world.ended(&jobs).await, BTreeMap::from([("succeeded", 10)]));
    one.drain().await;
    two.drain().await;
    world.check().await;
}

/// A job as wide as its cluster starts though small ones keep coming that would fit sooner.
#[tokio::test]
async fn a_wide_job_does_not_starve() {
    let mut world = World::new(NullPlan::succeed_after(Duration::from_millis(30))).await;
    let replica = world.replica("one", &settings()).await;
    let east = |spec: &mut yard_domain::JobSpec| {
        spec.clusters.only = ["east".parse().unwrap()].into();
        // They end soon, but nobody knows that beforehand.
        spec.timeouts.run = Duration::from_hours(1);
    };
    let mut small = Vec::new();
    for _ in 0..12 {
        small.push(world.submit_job("lab", east).await);
    }
    world.until(small[0], |state| state != StateName::Queued).await;
    let wide = world
        .submit_job("ads", |spec| {
            east(spec);
            // All of the cluster; the quota of ads is lifted below.
            spec.request.cpu_milli = 4_000;
        })
        .await;
    let catalog = Catalog::of([team("ads", 8), team("lab", 100)], [cluster("east", 4), cluster("west", 4)]);
    let document = yard_ports::store::CatalogDocument::configuration("more", "test");
    world.store.apply_catalog(&catalog, document).await.unwrap();
    let mut sent = 0;
    while world.store.job(wide).await.unwrap().unwrap().lifecycle.attempts == 0 {
        sent += 1;
        assert!(sent < 150, "the wide job is passed by for ever");
        small.push(world.submit_job("lab", east).await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(world.until(wide, StateName::is_end).await, StateName::Succeeded);
    let ends = world.ended(&small).await;
    assert_eq!(ends, BTreeMap::from([("succeeded", small.len())]));
    replica.drain().await;
    world.check().await;
}
