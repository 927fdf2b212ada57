//! Whole runs: determinism, conservation, the standard run, scenarios, and that broken rules are found.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::time::Duration;

use proptest::prelude::*;
use yard_domain::policy::PriorityClass;
use yard_domain::{
    Capacity, Catalog, Cluster, ClusterSelector, Cohort, Elastic, Limits, Policy, Priority, Request, Team,
    Timestamp,
};
use yard_planner::{Plan, Promises, Snapshot, plan};
use yard_simulator::workload::standard::{self, Size, Standard};
use yard_simulator::{Comparison, Incident, Model, Report, SimJob, Simulation, Trouble};

const START: Timestamp = Timestamp::from_micros(1_795_386_645_000_000);

fn planner() -> Box<yard_simulator::Decide<'static>> {
    let mut promises = Promises::default();
    Box::new(move |snapshot, policy, now, seed| promises.plan(snapshot, policy, now, seed))
}

fn run(catalog: &Catalog, jobs: Vec<SimJob>, model: &Model, incidents: Vec<Incident>) -> Report {
    let teams: Vec<_> = jobs.iter().map(|j| j.team.clone()).collect();
    let simulation = Simulation::new(catalog, teams, model.clone(), incidents, planner());
    simulation.unwrap_or_else(|faults| panic!("{faults:?}")).run(jobs)
}

fn gpus(gpu: u64) -> Request {
    Request { cpu_milli: 1_000, gpu_milli: gpu * 1_000, jobs: 1, ..Request::default() }
}

fn cluster(id: &str, gpu: u64) -> Cluster {
    let capacity = Request { cpu_milli: 64_000, jobs: 100, ..gpus(gpu) };
    Cluster {
        capacity: Some(Capacity(Request { jobs: 100, ..capacity })),
        ..Cluster::new(id.parse().unwrap(), "ray")
    }
}

fn team(id: &str, weight: u32, gpu: u64) -> Team {
    let quota = Limits { gpu_milli: Some(gpu * 1_000), ..Limits::default() };
    Team { quota, weight, cohort: Some("all".parse().unwrap()), ..Team::new(id.parse().unwrap()) }
}

/// Two teams that lend each other, two classes, a standing cluster and an elastic one.
fn small_catalog() -> Catalog {
    let class = |id: &str, priority, preempts, preemptible| PriorityClass {
        id: id.parse().unwrap(),
        priority: Priority::new(priority).unwrap(),
        preempts,
        preemptible,
    };
    let elastic = Elastic { present: None, delay: Duration::from_mins(3) };
    Catalog {
        teams: vec![team("ads", 2, 6), team("search", 1, 2)],
        cohorts: vec![Cohort::new("all".parse().unwrap())],
        clusters: vec![cluster("east", 4), Cluster { elastic: Some(elastic), ..cluster("west", 4) }],
        policy: Policy {
            half_life: Some(Duration::from_hours(1)),
            classes: vec![class("high", 100, true, false), class("normal", 0, true, true)],
            ..Policy::default()
        },
    }
}

fn job(team: &str, after_s: u64, gpu: u64, run_s: u64) -> SimJob {
    SimJob {
        at: START.plus(Duration::from_secs(after_s)),
        team: team.parse().unwrap(),
        priority: Priority::default(),
        request: gpus(gpu),
        clusters: ClusterSelector::default(),
        run: Duration::from_secs(run_s),
        run_timeout: Duration::from_hours(1),
        queue_timeout: Duration::from_hours(24),
        max_retries: 1,
    }
}

fn small_workload() -> Vec<SimJob> {
    let mut jobs: Vec<SimJob> = (0..30).map(|i| job("search", i, 1 + i % 2, 600 + 60 * (i % 5))).collect();
    jobs.extend((0..20).map(|i| job("ads", 900 + 30 * i, 1 + i % 4, 300)));
    jobs.push(SimJob { priority: Priority::new(100).unwrap(), ..job("ads", 1_200, 2, 120) });
    jobs.push(job("ads", 1_300, 5, 60));
    jobs.push(job("search", 1_400, 1, 7_200));
    jobs.sort_by_key(|j| j.at);
    jobs
}

#[test]
fn a_small_scenario() {
    let incident = |after_s, cluster: &str, trouble| Incident {
        after: Duration::from_secs(after_s),
        cluster: cluster.parse().unwrap(),
        trouble,
    };
    let incidents = vec![
        incident(600, "west", Trouble::Drain),
        incident(1_500, "west", Trouble::Resume),
        incident(2_000, "east", Trouble::Lost),
        incident(3_600, "east", Trouble::Back),
    ];
    let report = run(&small_catalog(), small_workload(), &Model { seed: 5, ..Model::default() }, incidents);
    assert!(report.is_sound(), "{report}");
    assert_eq!(report.jobs.turned_away, 1, "5 gpus fit on no cluster");
    assert!(report.retries.infra > 0 && report.jobs.failed > 0, "east was lost; one job runs too long");
    insta::assert_snapshot!(report.to_string());
}

#[test]
fn the_same_seed_gives_the_same_report_and_another_another() {
    let catalog = standard::catalog();
    let report = |seed| {
        let jobs = Standard::new(9, START, Size::Jobs(1_500)).collect();
        run(&catalog, jobs, &Model { seed, ..Model::default() }, Vec::new()).json().to_string()
    };
    let first = report(1);
    assert_eq!(first, report(1));
    assert_ne!(first, report(2));
}

#[test]
fn the_standard_run_keeps_every_rule() {
    let simulation =
        Simulation::new(&standard::catalog(), [], Model::default(), Vec::new(), planner()).unwrap();
    let report = simulation.run(Standard::new(1, START, Size::Jobs(20_000)));
    assert!(report.is_sound(), "{report}");
    let jobs = report.jobs;
    assert_eq!(jobs.arrived, 20_000);
    assert_eq!(jobs.succeeded + jobs.failed + jobs.expired + jobs.turned_away, 20_000, "{jobs:?}");
    let used =
        |c: &yard_simulator::report::ClusterLine| c.resources.iter().map(|r| r.mean).fold(0.0, f64::max);
    assert!(report.clusters.iter().all(|c| used(c) > 0.3), "{report}");
    assert!(report.share_error.mean < 0.1, "{report}");
}

/// What a wrong planner does is found: the rules would not hold by themselves.
#[test]
fn a_planner_that_breaks_rules_is_found_out() {
    let breaking = |wrong: fn(&Snapshot, Plan) -> Plan| {
        let decide = Box::new(move |s: &Snapshot, p: &Policy, now, seed| wrong(s, plan(s, p, now, seed)));
        let model = Model { violations_max: 5, ..Model::default() };
        let teams = small_workload().into_iter().map(|j| j.team);
        Simulation::new(&small_catalog(), teams, model, Vec::new(), decide).unwrap().run(small_workload())
    };
    let twice =
        breaking(|_, plan| Plan { placements: [plan.placements.clone(), plan.placements].concat(), ..plan });
    assert!(twice.audit.violations > 5 && twice.audit.first.len() == 5, "{twice}");
    let greedy = breaking(|snapshot, mut plan| {
        plan.placements = snapshot
            .groups
            .iter()
            .flat_map(|g| g.orders.iter().map(move |_| g))
            .map(|g| yard_planner::Placement {
                team: g.team.clone(),
                shape: g.shape,
                cluster: "east".parse().unwrap(),
            })
            .collect();
        plan
    });
    assert!(greedy.audit.first.iter().any(|v| v.contains("beyond its capacity")), "{greedy}");
    assert!(greedy.audit.first.iter().any(|v| v.contains("beyond a quota")), "{greedy}");
}

#[test]
fn elastic_room_comes_late_and_outages_make_jobs_wait() {
    let mut catalog = small_catalog();
    catalog.clusters.remove(0);
    let steady = Model { user_failure_rate: 0.0, launch_failure_rate: 0.0, ..Model::default() };
    let one = run(&catalog, vec![job("ads", 0, 1, 100)], &steady, Vec::new());
    assert!((280.0..=291.0).contains(&one.runs.whole_s), "delay 180 s, launch 2 to 10 s, run 100 s: {one}");
    let lost = vec![
        Incident {
            after: Duration::from_secs(200),
            cluster: "west".parse().unwrap(),
            trouble: Trouble::Lost,
        },
        Incident {
            after: Duration::from_secs(2_000),
            cluster: "west".parse().unwrap(),
            trouble: Trouble::Back,
        },
    ];
    let two = run(&catalog, vec![job("ads", 0, 1, 100), job("ads", 300, 1, 100)], &steady, lost);
    assert_eq!((two.retries.infra, two.jobs.succeeded), (1, 2), "{two}");
    assert!(
        (two.waits.max_s - 1_700.0).abs() < 2.0,
        "the second waits from 300 s until the cluster is back: {two}"
    );
}

#[test]
fn what_cannot_be_simulated_is_said_at_once() {
    let mut catalog = small_catalog();
    catalog.clusters[0].capacity = None;
    catalog.teams[0].cohort = Some("none".parse().unwrap());
    let incident =
        Incident { after: Duration::ZERO, cluster: "nowhere".parse().unwrap(), trouble: Trouble::Lost };
    let faults = Simulation::new(&catalog, [], Model::default(), vec![incident], planner()).err().unwrap();
    assert_eq!(faults.len(), 3, "{faults:?}");
}

#[test]
fn a_comparison_shows_both_and_what_changes() {
    let mut bigger = small_catalog();
    bigger.teams[1].quota.gpu_milli = Some(6_000);
    bigger.teams[0].quota.gpu_milli = Some(2_000);
    let model = Model::default();
    let comparison = Comparison {
        before_name: "present".to_owned(),
        before: run(&small_catalog(), small_workload(), &model, Vec::new()),
        after_name: "new".to_owned(),
        after: run(&bigger, small_workload(), &model, Vec::new()),
    };
    assert!(comparison.is_sound());
    let text = comparison.to_string();
    assert!(text.contains("53 jobs, present → new") && text.contains("===== new ====="), "{text}");
    assert_eq!(comparison.json()["waits"]["teams"][1]["name"], "search");
    let html = comparison.html();
    assert!(html.contains("<h2>present</h2>") && html.contains("Waits by team"));
    for outside in ["http://", "https://", "<script", "<link", "url(", "@import"] {
        assert!(!html.contains(outside), "the page needs {outside}");
    }
}

prop_compose! {
    fn any_job()(team in 0usize..3, at in 0u64..4_000, gpu in 0u64..5, run in 1u64..5_000, high: bool, retries in 0u32..3)
        -> SimJob {
        let priority = Priority::new(if high { 100 } else { 0 }).unwrap();
        let queue_timeout = Duration::from_secs(3_000 + at);
        SimJob { priority, max_retries: retries, queue_timeout, ..job(["ads", "search", "stranger"][team], at, gpu, run) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever arrives, fails, is preempted or lost: every job ends exactly once, nothing is ever over quota or
    /// capacity, and all that was charged is given back.
    #[test]
    fn every_job_ends_once(
        mut jobs in prop::collection::vec(any_job(), 1..80),
        outages in prop::collection::vec((0u64..6_000, any::<bool>(), 0usize..4), 0..6),
        (seed, failing, interval) in (any::<u64>(), 0.0f64..0.6, 0u64..90),
    ) {
        jobs.sort_by_key(|j| j.at);
        let incidents = outages.iter().map(|(after, east, trouble)| Incident {
            after: Duration::from_secs(*after),
            cluster: if *east { "east" } else { "west" }.parse().unwrap(),
            trouble: Trouble::ALL[*trouble],
        }).collect();
        let model = Model {
            seed,
            user_failure_rate: failing,
            launch_failure_rate: failing / 4.0,
            pass_interval: Duration::from_secs(interval),
            groups_max: 3,
            depth: 2,
            placements_max: 4,
            ..Model::default()
        };
        let arrived = jobs.len() as u64;
        let report = run(&small_catalog(), jobs, &model, incidents);
        prop_assert!(report.is_sound(), "{report}");
        let ended = report.jobs.succeeded + report.jobs.failed + report.jobs.expired + report.jobs.turned_away;
        prop_assert_eq!((report.jobs.arrived, ended, report.jobs.open, report.jobs.waiting), (arrived, arrived, 0, 0));
        let waits: u64 = report.teams.iter().map(|t| t.waits.jobs).sum();
        prop_assert_eq!(waits, arrived - report.jobs.turned_away);
    }
}
