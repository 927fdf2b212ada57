//! Random snapshots and policies: small, with everything in them that a plan depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use yard_domain::job::{Priority, QueueOrder, shape_of};
use yard_domain::policy::{Fit, Preemption, PriorityClass, Scores};
use yard_domain::{
    AttemptNumber, Capacity, Cluster, ClusterHealth, ClusterSelector, ClusterSwitch, Cohort, Elastic,
    GpuBlocks, Limits, PodDemand, RayProfile, RayProfiles, Request, Team, Timestamp, WorkerShape,
};
use yard_planner::{ClusterView, Group, Parts, Policy, Running, TeamView};

use super::rounds::job_id;

pub const NOW: Timestamp = Timestamp::from_micros(1_795_386_645_000_000);
const PRIORITIES: [i64; 3] = [-10, 0, 10];

pub fn hours(n: u64) -> Duration {
    Duration::from_hours(n)
}

/// A job's request: whole cpus, gpus and A100s.
pub fn request(cpu: u64, gpu: u64, a100: u64) -> Request {
    let mut request =
        Request { cpu_milli: cpu * 1_000, gpu_milli: gpu * 1_000, jobs: 1, ..Request::default() };
    request.set("A100", a100 * 1_000);
    request
}

pub fn priority(number: i64) -> Priority {
    Priority::new(number).unwrap()
}

type Bounds = (Option<u64>, Option<u64>, Option<u64>, Option<u64>);

fn bounds() -> impl Strategy<Value = Bounds> {
    let cpu = option::weighted(0.6, prop_oneof![1 => 0u64..4, 4 => 4u64..13]);
    (cpu, option::weighted(0.15, 1u64..4), option::weighted(0.15, 1u64..4), option::weighted(0.1, 1u64..9))
}

fn limits((cpu, gpu, a100, jobs): Bounds) -> Limits {
    let mut limits = Limits::default();
    for (name, bound, unit) in
        [("cpu", cpu, 1_000), ("gpu", gpu, 1_000), ("A100", a100, 1_000), ("jobs", jobs, 1)]
    {
        if let Some(bound) = bound {
            limits.set(name, bound * unit);
        }
    }
    limits
}

/// Ceilings that are no lower than the quota.
fn ceilings(quota: &Limits, extra: Bounds) -> Limits {
    let mut max = limits(extra);
    for (name, nominal) in quota.bounds() {
        if let Some(more) = max.limit(name) {
            max.set(name, nominal + more);
        }
    }
    max
}

/// Seldom a gpu or an A100.
fn asks(cpu: impl Strategy<Value = u64>) -> impl Strategy<Value = Request> {
    let seldom = || prop_oneof![12 => Just(0u64), 1 => 1u64..3];
    (cpu, seldom(), seldom()).prop_map(|(cpu, gpu, a100)| request(cpu, gpu, a100))
}

prop_compose! {
    fn cohorts()(raw in vec((option::weighted(0.5, any::<prop::sample::Index>()), option::weighted(0.3, bounds()),
        option::weighted(0.3, bounds()), 1u32..4), 0..3)) -> Vec<Cohort> {
        let id = |i: usize| format!("k{i}").parse().unwrap();
        raw.into_iter().enumerate().map(|(i, (parent, quota, max, weight))| {
            let parent = parent.filter(|_| i > 0).map(|p| id(p.index(i)));
            let quota = quota.map(limits).unwrap_or_default();
            let max = max.filter(|_| parent.is_some()).map(limits).unwrap_or_default();
            Cohort { id: id(i), parent, quota, max, weight }
        }).collect()
    }
}

prop_compose! {
    fn team()(cohort in option::weighted(0.8, any::<prop::sample::Index>()), quota in bounds(),
        max in option::weighted(0.3, bounds()), weight in 1u32..4, past in (0u64..5, 0u64..2)) -> (Option<prop::sample::Index>, Bounds, Option<Bounds>, u32, Request) {
        (cohort, quota, max, weight, Request { jobs: 0, ..request(past.0, past.1, 0) })
    }
}

prop_compose! {
    fn teams_in(cohorts: Vec<Cohort>)(raw in vec(team(), 2..5), cohorts in Just(cohorts)) -> (Vec<TeamView>, Vec<Cohort>) {
        let teams = raw.into_iter().enumerate().map(|(i, (cohort, quota, max, weight, past))| {
            let cohort = cohort.filter(|_| !cohorts.is_empty()).map(|c| cohorts[c.index(cohorts.len())].id.clone());
            let quota = limits(quota);
            let max = max.filter(|_| cohort.is_some()).map(|m| ceilings(&quota, m)).unwrap_or_default();
            let team = Team { cohort, quota, max, weight, ..Team::new(format!("t{i}").parse().unwrap()) };
            TeamView { team, used: Request::default(), past }
        }).collect();
        (teams, cohorts)
    }
}

prop_compose! {
    fn cluster()(size in (2u64..11, 0u64..3, 0u64..4, prop_oneof![1 => 1u64..5, 4 => 5u64..30]), state in 0u8..48, zone in option::of(0u8..2),
        cost in option::of(1u64..5), failures in prop_oneof![3 => Just(0u32), 1 => 1u32..20],
        elastic in option::weighted(0.2, (option::of(0u64..4), 0u64..600)), heads in option::weighted(0.15, vec(0u64..3, 1..3)),
        blocks in prop_oneof![1 => Just(Vec::new()), 1 => vec(0u64..2, 1..3)]) -> Cluster {
        let (cpu, gpu, a100, jobs) = size;
        let mut cluster = Cluster::new("c".parse().unwrap(), "process");
        cluster.capacity = Some(Capacity(Request { jobs, ..request(cpu, gpu, a100) }));
        cluster.health = ClusterHealth::Ready;
        cluster.recent_failures = failures;
        cluster.cost_per_hour_micro = cost.map(|c| c * 1_000_000);
        cluster.labels = zone.map(|z| ("zone".to_owned(), format!("z{z}"))).into_iter().collect();
        cluster.elastic = elastic.map(|(present, delay)| Elastic {
            present: present.map(|cpu| Capacity(Request { jobs, ..request(cpu, 0, 0) })),
            delay: Duration::from_secs(delay),
        });
        cluster.ray_profiles = heads.map(profiles);
        cluster.gpu_blocks = blocks
            .into_iter()
            .map(|gpus| GpuBlocks { largest: gpus * 1_000, ..GpuBlocks::default() })
            .collect();
        match state {
            0 => cluster.switch = ClusterSwitch::Drained,
            1 => cluster.health = ClusterHealth::Unknown,
            2 => cluster.health = ClusterHealth::Unreachable,
            3 => cluster.breaker_open = true,
            4 => cluster.configured = false,
            5 => cluster.capacity = None,
            _ => {}
        }
        cluster
    }
}

/// Profiles p0, p1, of which the first is the default, by the least cpu of their heads.
fn profiles(heads: Vec<u64>) -> Arc<RayProfiles> {
    let profiles = heads.into_iter().enumerate().map(|(i, cpu)| {
        let head_min = Request { cpu_milli: cpu * 1_000, ..Request::default() };
        (format!("p{i}"), RayProfile { head_min, ..RayProfile::default() })
    });
    Arc::new(RayProfiles { default: "p0".to_owned(), links: false, profiles: profiles.collect() })
}

/// A Ray cluster of a profile, with workers of one cpu each or without.
fn own_cluster(profile: Option<u8>, workers: u32) -> ClusterSelector {
    let each = Request { cpu_milli: 1_000, ..Request::default() };
    let pods = PodDemand {
        profile: profile.map(|p| format!("p{p}")),
        workers: (workers > 0).then_some(WorkerShape { min: 0, max: workers, each, gpu_type: None }),
        ..PodDemand::default()
    };
    ClusterSelector { pods: Some(Box::new(pods)), ..ClusterSelector::default() }
}

fn selector() -> impl Strategy<Value = ClusterSelector> {
    let zone = |z: u8| BTreeMap::from([("zone".to_owned(), format!("z{z}"))]);
    let some = |c: usize| BTreeSet::from([format!("c{c}").parse().unwrap()]);
    prop_oneof![
        6 => Just(ClusterSelector::default()),
        1 => (0..4usize).prop_map(move |c| ClusterSelector { only: some(c), ..Default::default() }),
        1 => (0..4usize).prop_map(move |c| ClusterSelector { avoid: some(c), ..Default::default() }),
        1 => (0..2u8).prop_map(move |z| ClusterSelector { labels: zone(z), ..Default::default() }),
        1 => (0..2u8).prop_map(move |z| ClusterSelector { prefer: zone(z), ..Default::default() }),
        1 => (option::of(0..2u8), 0..4u32).prop_map(|(profile, workers)| own_cluster(profile, workers)),
    ]
}

type RawRunning = (usize, usize, Request, usize, u64, u64, u64, bool);
type RawGroup = (usize, Request, ClusterSelector, u64, u64, Vec<(usize, i64)>);

fn running() -> impl Strategy<Value = RawRunning> {
    let leaving = prop::bool::weighted(0.1);
    (
        0..4usize,
        0..4usize,
        asks(prop_oneof![9 => 1u64..4, 1 => 0u64..9]),
        0..3usize,
        0..5u64,
        1..6u64,
        0..6u64,
        leaving,
    )
}

fn group() -> impl Strategy<Value = RawGroup> {
    (
        0..4usize,
        asks(prop_oneof![3 => 1u64..5, 1 => 0u64..9]),
        selector(),
        1..6u64,
        1..6u64,
        vec((0..3usize, 1..100i64), 1..4),
    )
}

prop_compose! {
    /// A snapshot's parts. `unlisted` of one: some of what is in use may be missing from the list of what runs.
    pub fn parts()(tree in cohorts().prop_flat_map(teams_in), clusters in vec(cluster(), 1..4),
        running in vec(running(), 0..13), groups in vec(group(), 0..8), listed in prop::bool::weighted(0.8)) -> Parts {
        let (teams, cohorts) = tree;
        let clusters = clusters.into_iter().enumerate().map(|(i, mut cluster)| {
            cluster.id = format!("c{i}").parse().unwrap();
            ClusterView { cluster, used: Request::default() }
        }).collect();
        let mut parts = Parts { teams, cohorts, clusters, ..Parts::default() };
        for (i, raw) in running.into_iter().enumerate() {
            run(&mut parts, i, raw);
        }
        if !listed {
            parts.running.pop();
        }
        for raw in groups {
            wait(&mut parts, raw);
        }
        parts
    }
}

/// Adds an open attempt, if its cluster has room for it. The team's quota may be less: it may have been lowered.
fn run(parts: &mut Parts, i: usize, raw: RawRunning) {
    let (team, cluster, request, class, age, left, expected, leaving) = raw;
    let team_index = team % parts.teams.len();
    let cluster_index = cluster % parts.clusters.len();
    let (team, cluster) = (&mut parts.teams[team_index], &mut parts.clusters[cluster_index]);
    if cluster.cluster.capacity.as_ref().is_none_or(|c| c.allows(&cluster.used, &request).is_err()) {
        return;
    }
    cluster.used.add(&request);
    team.used.add(&request);
    let ends_by = NOW.plus(hours(left));
    parts.running.push(Running {
        job: job_id(i as u64 + 1),
        attempt: AttemptNumber(1),
        team: team.team.id.clone(),
        shape: shape_of(&request, &ClusterSelector::default(), hours(left)),
        cluster: cluster.cluster.id.clone(),
        request,
        priority: priority(PRIORITIES[class]),
        started: (age > 0)
            .then(|| Timestamp::from_micros(NOW.as_micros() - 3_600_000_000 * i64::try_from(age).unwrap())),
        ends_by,
        expected_end: NOW.plus(hours(expected)).min(ends_by),
        leaving,
    });
}

/// Adds a group, if there is none of its team and shape yet. No two jobs were accepted at the same time.
fn wait(parts: &mut Parts, raw: RawGroup) {
    let (team, request, clusters, timeout, expected, orders) = raw;
    let team = parts.teams[team % parts.teams.len()].team.id.clone();
    let run_timeout = hours(timeout);
    let shape = shape_of(&request, &clusters, run_timeout);
    if parts.groups.iter().any(|g| g.team == team && g.shape == shape) {
        return;
    }
    let before: usize = parts.groups.iter().map(|g| g.orders.len()).sum();
    let orders = orders.into_iter().enumerate().map(|(i, (class, age))| {
        let unique = i64::try_from(before + i).unwrap();
        let accepted = NOW.as_micros() - age * 60_000_000 - unique;
        QueueOrder::new(priority(PRIORITIES[class]), accepted)
    });
    let orders = orders.collect();
    let expected_run = hours(expected).min(run_timeout);
    parts.groups.push(Group { team, shape, request, clusters, run_timeout, expected_run, orders });
}

/// Three classes, of which the highest is never stopped and the lowest stops nobody.
pub fn classes() -> Vec<PriorityClass> {
    let class = |id: &str, number, preempts, preemptible| PriorityClass {
        id: id.parse().unwrap(),
        priority: priority(number),
        preempts,
        preemptible,
    };
    vec![class("high", 10, true, false), class("normal", 0, true, true), class("low", -1_000, false, true)]
}

prop_compose! {
    pub fn policy()(placements_max in prop_oneof![1 => 0u32..4, 5 => Just(1_000)], remembers: bool,
        pack: bool, reservations_max in 0u32..5, reclaim: bool, within_team: bool,
        victims_max in prop_oneof![1 => 0u32..3, 2 => Just(100)], declared in prop::bool::weighted(0.8)) -> Policy {
        let fit = if pack { Fit::Pack } else { Fit::Spread };
        let preemption = Preemption { reclaim, within_team, victims_max };
        let classes = if declared { classes() } else { Policy::default().classes };
        Policy {
            placements_max,
            half_life: remembers.then(|| hours(24)),
            scores: Scores { fit, ..Scores::default() },
            reservations_max,
            preemption,
            classes,
        }
    }
}
