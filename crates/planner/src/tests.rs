//! Tables and properties of [`plan`](crate::plan).

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use proptest::prelude::*;
use yard_domain::job::{Priority, QueueOrder, shape_of};
use yard_domain::{
    Capacity, Cluster, ClusterHealth, ClusterSelector, ClusterSwitch, Limits, Request, Team, Timestamp,
};

use crate::{ClusterView, Fit, Group, Hold, Parts, Plan, Policy, Refusal, Snapshot, TeamView, filter, plan};

const NOW: Timestamp = Timestamp::from_micros(1_795_386_645_000_000);
const RUN: Duration = Duration::from_hours(1);

fn policy() -> Policy {
    Policy { placements_max: 10_000, ..Policy::default() }
}

fn request(cpu: u64, gpu: u64) -> Request {
    Request { cpu_milli: cpu * 1_000, gpu_milli: gpu * 1_000, jobs: 1, ..Request::default() }
}

fn cluster(id: &str, cpu: u64, gpu: u64, jobs: u64) -> ClusterView {
    let cluster = Cluster {
        labels: BTreeMap::from([("name".to_owned(), id.to_owned())]),
        capacity: Some(Capacity(Request { jobs, ..request(cpu, gpu) })),
        health: ClusterHealth::Ready,
        ..Cluster::new(id.parse().unwrap(), "process")
    };
    ClusterView { cluster, used: Request::default() }
}

fn team(id: &str, weight: u32, cpu: Option<u64>) -> TeamView {
    let quota = Limits { cpu_milli: cpu.map(|c| c * 1_000), ..Limits::default() };
    TeamView {
        team: Team { quota, weight, ..Team::new(id.parse().unwrap()) },
        used: Request::default(),
        past: Request::default(),
    }
}

fn group(team: &str, request: Request, priority: i64, ages: std::ops::Range<i64>) -> Group {
    let clusters = ClusterSelector::default();
    let priority = Priority::new(priority).unwrap();
    Group {
        team: team.parse().unwrap(),
        shape: shape_of(&request, &clusters, RUN),
        request,
        clusters,
        run_timeout: RUN,
        expected_run: RUN,
        orders: ages.map(|a| QueueOrder::new(priority, a)).collect(),
    }
}

fn snapshot(teams: Vec<TeamView>, clusters: Vec<ClusterView>, groups: Vec<Group>) -> Snapshot {
    Snapshot::new(Parts { teams, clusters, groups, ..Parts::default() })
}

fn counts(plan: &Plan) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    for p in &plan.placements {
        *counts.entry((p.team.to_string(), p.cluster.to_string())).or_default() += 1;
    }
    counts
}

#[test]
fn a_deep_queue_of_one_team_does_not_delay_another() {
    let teams = vec![team("deep", 1, None), team("small", 1, None)];
    let groups =
        vec![group("deep", request(1, 0), 1_000, 0..500), group("small", request(1, 0), 0, 900..902)];
    let snapshot = snapshot(teams, vec![cluster("east", 4, 0, 100)], groups);
    let plan = plan(&snapshot, &policy(), NOW, 1);
    let got = counts(&plan);
    assert_eq!(got[&("small".into(), "east".into())], 2);
    assert_eq!(got[&("deep".into(), "east".into())], 2);
    assert_eq!(plan.refusals.len(), 1, "only the deep team has something left");
    assert_eq!(plan.refusals[0].hold.code(), "no_cluster");
}

#[test]
fn turns_follow_weights_and_what_already_runs() {
    let mut teams = vec![team("a", 3, None), team("b", 1, None)];
    let groups = vec![group("a", request(1, 0), 0, 0..100), group("b", request(1, 0), 0, 0..100)];
    let clusters = vec![cluster("east", 40, 0, 100)];
    let plan_a = plan(&snapshot(teams.clone(), clusters.clone(), groups.clone()), &policy(), NOW, 1);
    assert_eq!(counts(&plan_a)[&("a".into(), "east".into())], 30);
    teams[0].used = Request { jobs: 30, ..request(30, 0) };
    let plan_b = plan(&snapshot(teams, clusters, groups), &policy(), NOW, 1);
    assert_eq!(counts(&plan_b)[&("b".into(), "east".into())], 40 - 22, "b catches up to 10, then 3 to 1");
}

#[test]
fn inside_a_team_priority_then_age_and_what_cannot_fit_is_skipped() {
    let groups = vec![
        group("a", request(8, 0), 10, 0..3),
        group("a", request(1, 0), 5, 10..11),
        group("a", request(2, 0), 0, 5..6),
    ];
    let snapshot = snapshot(vec![team("a", 1, None)], vec![cluster("east", 3, 0, 100)], groups);
    let plan = plan(&snapshot, &policy(), NOW, 1);
    let shapes: Vec<_> = plan.placements.iter().map(|p| p.shape).collect();
    let selector = ClusterSelector::default();
    assert_eq!(shapes, [shape_of(&request(1, 0), &selector, RUN), shape_of(&request(2, 0), &selector, RUN)]);
    assert_eq!(plan.refusals[0].clusters[0].1.code(), "too_small");
    assert_eq!(plan.considered, 3, "the three wide jobs cost one look together");
}

#[test]
fn refusals_name_the_rule() {
    let mut clusters =
        vec![cluster("c1", 4, 0, 9), cluster("c2", 4, 0, 9), cluster("c3", 4, 0, 9), cluster("c4", 1, 0, 9)];
    clusters[0].cluster.switch = ClusterSwitch::Drained;
    clusters[1].cluster.health = ClusterHealth::Unreachable;
    clusters[2].used = Request { jobs: 9, ..Request::default() };
    let snapshot = snapshot(vec![team("a", 1, None)], clusters, vec![group("a", request(2, 0), 0, 0..1)]);
    let plan = plan(&snapshot, &policy(), NOW, 1);
    let codes: Vec<_> = plan.refusals[0].clusters.iter().map(|(_, r)| r.code()).collect();
    assert_eq!(codes, ["drained", "unreachable", "full", "too_small"]);
    let sentence = plan.refusals[0].clusters[2].1.to_string();
    assert_eq!(sentence, "no room now (jobs: asks 1, 0 free)");
}

#[test]
fn quota_holds_before_capacity() {
    let snapshot = snapshot(
        vec![team("a", 1, Some(2))],
        vec![cluster("east", 100, 0, 100)],
        vec![group("a", request(1, 0), 0, 0..5)],
    );
    let plan = plan(&snapshot, &policy(), NOW, 1);
    assert_eq!(plan.placements.len(), 2);
    assert!(matches!(plan.refusals[0].hold, Hold::Quota(_)));
}

prop_compose! {
    fn any_snapshot()(
        clusters in prop::collection::vec((0u64..8, 0u64..4, 0u64..6, 0u8..6), 1..4),
        quotas in prop::collection::vec((prop::option::of(0u64..10), 1u32..4), 1..4),
        groups in prop::collection::vec((0usize..4, 0u64..5, 0u64..3, -1i64..2, 1i64..6), 0..8),
    ) -> Snapshot {
        let clusters = clusters.iter().enumerate().map(|(i, (cpu, gpu, jobs, kind))| {
            let mut view = cluster(&format!("c{i}"), *cpu, *gpu, *jobs);
            match kind {
                0 => view.cluster.switch = ClusterSwitch::Drained,
                1 => view.cluster.health = ClusterHealth::Unknown,
                _ => {}
            }
            view
        }).collect();
        let teams: Vec<_> = quotas.iter().enumerate().map(|(i, (cpu, w))| team(&format!("t{i}"), *w, *cpu)).collect();
        let mut seen = HashMap::new();
        for (t, cpu, gpu, priority, n) in groups {
            let g = group(&format!("t{}", t % teams.len()), request(cpu, gpu), priority, 0..n);
            seen.insert((g.team.clone(), g.shape), g);
        }
        snapshot(teams, clusters, seen.into_values().collect())
    }
}

proptest! {
    /// Never over quota or capacity, never on a cluster that takes no jobs, never more than were seen.
    #[test]
    fn placements_are_allowed(snapshot in any_snapshot(), seed: u64) {
        let plan = plan(&snapshot, &policy(), NOW, seed);
        let mut left: HashMap<_, _> = snapshot.groups.iter().map(|g| ((g.team.clone(), g.shape), g.orders.len())).collect();
        let mut on: HashMap<_, Request> = HashMap::new();
        let mut by: HashMap<_, Request> = HashMap::new();
        for p in &plan.placements {
            let g = snapshot.groups.iter().find(|g| g.team == p.team && g.shape == p.shape).unwrap();
            let n = left.get_mut(&(p.team.clone(), p.shape)).unwrap();
            prop_assert!(*n > 0);
            *n -= 1;
            on.entry(p.cluster.clone()).or_default().add(&g.request);
            by.entry(p.team.clone()).or_default().add(&g.request);
        }
        for view in &snapshot.clusters {
            if let Some(used) = on.get(&view.cluster.id) {
                prop_assert!(view.cluster.takes_jobs());
                prop_assert!(view.cluster.capacity.as_ref().unwrap().allows(&Request::default(), used).is_ok());
            }
        }
        for view in &snapshot.teams {
            if let Some(used) = by.get(&view.team.id) {
                prop_assert!(view.team.quota.allows(&Request::default(), used).is_ok());
            }
        }
    }

    /// Work-conserving and justified: of a group that has something left, no further job could be placed
    /// anywhere beside the plan; and every group with something left has its refusal.
    #[test]
    fn refusals_are_justified(snapshot in any_snapshot(), seed: u64) {
        let plan = plan(&snapshot, &policy(), NOW, seed);
        let mut on: HashMap<_, Request> = HashMap::new();
        let mut by: HashMap<_, Request> = HashMap::new();
        let mut placed: HashMap<_, usize> = HashMap::new();
        for p in &plan.placements {
            let g = snapshot.groups.iter().find(|g| g.team == p.team && g.shape == p.shape).unwrap();
            on.entry(p.cluster.clone()).or_default().add(&g.request);
            by.entry(p.team.clone()).or_default().add(&g.request);
            *placed.entry((p.team.clone(), p.shape)).or_default() += 1;
        }
        for (i, g) in snapshot.groups.iter().enumerate() {
            let done = placed.get(&(g.team.clone(), g.shape)).copied().unwrap_or(0);
            let refusal = plan.refusals.iter().find(|r| r.team == g.team && r.shape == g.shape);
            prop_assert_eq!(refusal.is_some(), done < g.orders.len());
            let Some(refusal) = refusal else { continue };
            let none = Request::default();
            let quota = snapshot.teams[snapshot.team_of(i)].team.quota.allows(by.get(&g.team).unwrap_or(&none), &g.request);
            match &refusal.hold {
                Hold::Quota(_) => prop_assert!(quota.is_err()),
                Hold::NoCluster => {
                    prop_assert_eq!(refusal.clusters.len(), snapshot.clusters.len());
                    for view in &snapshot.clusters {
                        let used = on.get(&view.cluster.id).unwrap_or(&none);
                        prop_assert!(filter::check(&view.cluster, used, &g.request, &g.clusters).is_err());
                    }
                }
                other => prop_assert!(false, "there is no reason for {:?}", other),
            }
        }
    }

    /// The same arguments give the same plan, in whatever order their parts are listed.
    #[test]
    fn deterministic_and_independent_of_listing(snapshot in any_snapshot(), seed: u64) {
        let mut turned = (snapshot.teams.clone(), snapshot.clusters.clone(), snapshot.groups.clone());
        turned.0.reverse();
        turned.1.reverse();
        turned.2.reverse();
        let again = self::snapshot(turned.0, turned.1, turned.2);
        prop_assert_eq!(plan(&snapshot, &policy(), NOW, seed), plan(&again, &policy(), NOW, seed));
    }
}

#[test]
fn packing_fills_one_cluster_first() {
    let clusters = vec![cluster("c1", 4, 0, 9), cluster("c2", 4, 0, 9)];
    let groups = vec![group("a", request(1, 0), 0, 0..4)];
    let snapshot = snapshot(vec![team("a", 1, None)], clusters, groups);
    let packing =
        Policy { scores: yard_domain::policy::Scores { fit: Fit::Pack, ..Default::default() }, ..policy() };
    let packed = plan(&snapshot, &packing, NOW, 1);
    assert_eq!(counts(&packed).len(), 1);
    let spread = plan(&snapshot, &policy(), NOW, 1);
    assert_eq!(counts(&spread).values().copied().collect::<Vec<_>>(), [2, 2]);
    assert!(matches!(
        filter::check(
            &snapshot.clusters[0].cluster,
            &request(4, 0),
            &request(1, 0),
            &ClusterSelector::default()
        ),
        Err(Refusal::Full(_))
    ));
}

mod order;
mod pods;
mod preempt;
mod reserve;
mod score;
mod world;
