//! Every counterfactual is carried out, and the planner asked again.

use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;
use yard_domain::policy::PriorityClass;
use yard_domain::{
    AttemptNumber, Capacity, Cluster, ClusterHealth, ClusterSelector, ClusterSwitch, Cohort, Elastic, Limits,
    QuotaOwner, Team,
};

use super::*;
use crate::forecast::Unknown;
use crate::{ClusterView, Group, Parts, Running, TeamView, plan};
use yard_domain::job::{Priority, shape_of};

const NOW: Timestamp = Timestamp::from_micros(1_795_386_645_000_000);
const HOUR: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_mins(1);

fn request(cpu: u64, gpu: u64) -> Request {
    Request { cpu_milli: cpu * 1_000, gpu_milli: gpu * 1_000, jobs: 1, ..Request::default() }
}

fn cluster(id: &str, cpu: u64, gpu: u64) -> ClusterView {
    let cluster = Cluster {
        capacity: Some(Capacity(Request { jobs: 100, ..request(cpu, gpu) })),
        health: ClusterHealth::Ready,
        ..Cluster::new(id.parse().unwrap(), "process")
    };
    ClusterView { cluster, used: Request::default() }
}

fn team(id: &str, quota: Limits) -> TeamView {
    let team = Team { quota, ..Team::new(id.parse().unwrap()) };
    TeamView { team, used: Request::default(), past: Request::default() }
}

fn limits(cpu: u64, gpu: u64) -> Limits {
    Limits { cpu_milli: Some(cpu * 1_000), gpu_milli: Some(gpu * 1_000), ..Limits::default() }
}

fn group(team: &str, request: Request, priority: i64, ages: std::ops::Range<i64>) -> Group {
    let clusters = ClusterSelector::default();
    let priority = Priority::new(priority).unwrap();
    Group {
        team: team.parse().unwrap(),
        shape: shape_of(&request, &clusters, HOUR),
        request,
        clusters,
        run_timeout: HOUR,
        expected_run: 20 * MINUTE,
        orders: ages.map(|a| QueueOrder::new(priority, a)).collect(),
    }
}

/// Opens an attempt that is expected to end in so many minutes.
fn open(parts: &mut Parts, id: u64, team: &str, cluster: &str, request: &Request, minutes: u32) {
    let running = Running {
        job: JobId::new(id, [1; 10]),
        attempt: AttemptNumber(1),
        team: team.parse().unwrap(),
        shape: shape_of(request, &ClusterSelector::default(), HOUR),
        cluster: cluster.parse().unwrap(),
        request: request.clone(),
        priority: Priority::default(),
        started: Some(NOW),
        ends_by: NOW.plus(HOUR),
        expected_end: NOW.plus(minutes * MINUTE),
        leaving: false,
    };
    let team = parts.teams.iter_mut().find(|t| t.team.id == running.team).unwrap();
    team.used.add(request);
    let cluster = parts.clusters.iter_mut().find(|c| c.cluster.id == running.cluster).unwrap();
    cluster.used.add(request);
    parts.running.push(running);
}

fn target(group: &Group, rank: usize) -> Target {
    Target { team: group.team.clone(), shape: group.shape, order: group.orders[rank] }
}

fn explained(parts: Parts, target: &Target) -> Explanation {
    let snapshot = Snapshot::new(parts);
    let explanation =
        explain(&snapshot, &Policy::default(), NOW, 1, target, Bounds::default(), &|| Duration::ZERO);
    check(&snapshot, &Policy::default(), 1, target, &explanation).unwrap();
    explanation
}

/// Carries every counterfactual out and plans again.
fn check(
    snapshot: &Snapshot,
    policy: &Policy,
    seed: u64,
    target: &Target,
    explanation: &Explanation,
) -> Result<(), TestCaseError> {
    let starts = |snapshot: &Snapshot, target: &Target| {
        placed_on(snapshot, &plan(snapshot, policy, NOW, seed).placements, target)
    };
    match &explanation.standing {
        Standing::Starts(cluster) => prop_assert_eq!(starts(snapshot, target), Some(cluster.clone())),
        Standing::Held(_) => prop_assert_eq!(starts(snapshot, target), None),
        Standing::Absent => prop_assert!(rank(snapshot, target).is_none()),
    }
    for found in &explanation.counterfactuals {
        let (changed, moved) = found.change.apply(snapshot, target);
        prop_assert_eq!(starts(&changed, &moved), Some(found.cluster.clone()), "{}", found.change);
        prop_assert_ne!(&changed, snapshot, "nothing was changed: {}", found.change);
        if let Change::Quota { owner, extra } = &found.change {
            prop_assert!(!extra.is_empty());
            for i in 0..extra.len() {
                let mut less = extra.clone();
                less[i].amount -= 1_000;
                let change = Change::Quota { owner: owner.clone(), extra: less };
                let (changed, moved) = change.apply(snapshot, target);
                prop_assert_eq!(starts(&changed, &moved), None, "less would do too: {}", change);
            }
        }
    }
    let codes: Vec<_> = explanation.counterfactuals.iter().map(|c| c.change.code()).collect();
    prop_assert!(explanation.plans <= Bounds::default().plans_max, "{:?}", codes);
    if let Forecast::Starts { cluster, at, after } = &explanation.forecast {
        prop_assert!(NOW <= *after && after <= at);
        let full = plan(snapshot, policy, NOW, seed).placements.len() >= policy.placements_max as usize;
        let starts = matches!(explanation.standing, Standing::Starts(_));
        let elastic = snapshot
            .clusters
            .iter()
            .find(|c| c.cluster.id == *cluster)
            .and_then(|c| c.cluster.elastic.as_ref());
        let grown = elastic.map(|e| NOW.plus(e.delay));
        let at_once = *at == NOW || (starts && Some(*at) == grown);
        prop_assert!(starts == at_once || full, "a full pass is followed by another at once");
    }
    Ok(())
}

fn told(explanation: &Explanation) -> Vec<String> {
    explanation.counterfactuals.iter().map(|c| c.change.to_string()).collect()
}

#[test]
fn quota_and_the_end_of_an_own_job() {
    let waiting = group("a", request(1, 3), 0, 0..2);
    let mut parts = Parts {
        teams: vec![team("a", limits(100, 4))],
        clusters: vec![cluster("east", 100, 100)],
        groups: vec![waiting.clone()],
        ..Parts::default()
    };
    open(&mut parts, 1, "a", "east", &request(1, 2), 30);
    open(&mut parts, 2, "a", "east", &request(1, 1), 10);
    let first = explained(parts.clone(), &target(&waiting, 0));
    assert!(matches!(first.standing, Standing::Held(Hold::Quota(_))));
    assert_eq!(
        first.clusters,
        [ClusterAnswer { cluster: "east".parse().unwrap(), refusal: None, scattered: None }]
    );
    assert_eq!(
        told(&first),
        [
            "when job 00000000-0001-7101-8101-010101010101 of team a on east ends",
            "with +2 gpu of quota for team a",
            "if it asked for 1 gpu instead of 3",
        ],
        "the end of the smaller one is not enough"
    );
    assert_eq!(first.counterfactuals[0].expected, Some(NOW.plus(30 * MINUTE)));
    let second = explained(parts, &target(&waiting, 1));
    assert_eq!(told(&second)[0], "with +5 gpu of quota for team a", "the first one goes first");
    assert_eq!(second.ahead[0].reason, Reason::Older);
    let when = |e: &Explanation| match e.forecast {
        Forecast::Starts { at, .. } => at,
        Forecast::Unknown(why) => panic!("{why:?}"),
    };
    assert_eq!(when(&first), NOW.plus(30 * MINUTE));
    assert_eq!(when(&second), NOW.plus(50 * MINUTE), "after the first one's usual run");
}

#[test]
fn a_job_for_which_a_cluster_must_grow_is_expected_after_the_delay() {
    let delay = 3 * MINUTE;
    let start = |present: Option<u64>, used: u64| {
        let waiting = group("a", request(4, 0), 0, 0..2);
        let mut grows = cluster("east", 8, 0);
        let present = present.map(|cpu| Capacity(Request { jobs: 100, ..request(cpu, 0) }));
        grows.cluster.elastic = Some(Elastic { present, delay });
        let mut parts = Parts {
            teams: vec![team("a", Limits::default())],
            clusters: vec![grows],
            groups: vec![waiting.clone()],
            ..Parts::default()
        };
        if used > 0 {
            open(&mut parts, 1, "a", "east", &request(used, 0), 30);
        }
        [0, 1].map(|n| match explained(parts.clone(), &target(&waiting, n)).forecast {
            Forecast::Starts { at, .. } => at.since(NOW),
            Forecast::Unknown(why) => panic!("{why:?}"),
        })
    };
    let (now, usual_run) = (Duration::ZERO, 20 * MINUTE);
    assert_eq!(start(Some(8), 0), [now, now], "all of it is there");
    assert_eq!(start(Some(2), 0), [delay, delay]);
    assert_eq!(start(None, 0), [delay, delay], "nothing has been seen of it");
    assert_eq!(start(Some(4), 0), [now, delay], "the second one needs more");
    assert_eq!(start(Some(6), 2), [now, usual_run], "the second one has the place of the first");
    assert_eq!(
        start(Some(2), 2),
        [delay, delay + usual_run + delay],
        "what grew for the first has not been seen"
    );
}

#[test]
fn a_drained_cluster_and_a_full_one() {
    let waiting = group("a", request(4, 0), 0, 0..1);
    let mut parts = Parts {
        teams: vec![team("a", Limits::default()), team("b", Limits::default())],
        clusters: vec![cluster("east", 8, 0), cluster("small", 2, 0), cluster("west", 8, 0)],
        groups: vec![waiting.clone()],
        ..Parts::default()
    };
    parts.clusters[2].cluster.switch = ClusterSwitch::Drained;
    for id in 1..=4 {
        open(&mut parts, id, "b", "east", &request(2, 0), 10 * u32::try_from(id).unwrap());
    }
    let got = explained(parts.clone(), &target(&waiting, 0));
    let codes: Vec<_> = got.clusters.iter().map(|c| c.refusal.as_ref().map(Refusal::code)).collect();
    assert_eq!(codes, [Some("full"), Some("too_small"), Some("drained")]);
    let told = told(&got);
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].starts_with("when 2 jobs have ended (00000000-0001"), "{told:?}");
    assert_eq!(told[1], "if west is resumed");
    assert_eq!(told[2], "if it asked for 2 cpu instead of 4");
    assert_eq!(got.counterfactuals[0].expected, Some(NOW.plus(20 * MINUTE)));
    assert_eq!(got.counterfactuals[1].change.code(), "cluster_resumed");
    parts.clusters[2].cluster.health = ClusterHealth::Unreachable;
    parts.clusters[2].cluster.breaker_open = true;
    let got = explained(parts, &target(&waiting, 0));
    assert_eq!(got.counterfactuals[1].change.code(), "cluster_back");
    assert_eq!(
        got.counterfactuals[1].change.to_string(),
        "if west is resumed and answers again and takes launches again"
    );
}

#[test]
fn a_higher_class_alone_and_never() {
    let class = |id: &str, priority| PriorityClass {
        id: id.parse().unwrap(),
        priority: Priority::new(priority).unwrap(),
        preempts: false,
        preemptible: false,
    };
    let classes = vec![class("urgent", 500), class("high", 100), class("normal", -1_000)];
    let policy = Policy { classes, ..Policy::default() };
    let (waiting, others) = (group("a", request(2, 0), 0, 9..10), group("a", request(1, 0), 50, 0..4));
    let parts = Parts {
        teams: vec![team("a", Limits::default())],
        clusters: vec![cluster("east", 4, 0)],
        groups: vec![waiting.clone(), others],
        ..Parts::default()
    };
    let snapshot = Snapshot::new(parts.clone());
    let t = target(&waiting, 0);
    let got = explain(&snapshot, &policy, NOW, 1, &t, Bounds::default(), &|| Duration::ZERO);
    check(&snapshot, &policy, 1, &t, &got).unwrap();
    assert_eq!(told(&got), ["with priority class high (priority 100)"]);
    assert_eq!(got.ahead[0].reason, Reason::HigherPriority(Priority::new(50).unwrap()));
    let without = explained(parts.clone(), &t);
    assert_eq!(told(&without), ["with priority 51"]);
    let huge = group("a", request(5, 0), 0, 0..1);
    let parts = Parts { groups: vec![huge.clone()], ..parts };
    let got = explained(parts, &target(&huge, 0));
    assert_eq!(got.forecast, Forecast::Unknown(Unknown::Never));
    assert_eq!(told(&got), ["if it asked for 4 cpu instead of 5"]);
}

#[test]
fn the_quota_of_a_cohort_and_of_who_lends() {
    let mut parts = Parts {
        teams: vec![team("a", limits(2, 0)), team("b", limits(2, 0))],
        cohorts: vec![Cohort::new("both".parse().unwrap())],
        clusters: vec![cluster("east", 100, 0)],
        ..Parts::default()
    };
    for t in &mut parts.teams {
        t.team.cohort = Some("both".parse().unwrap());
    }
    let waiting = group("a", request(1, 0), 0, 0..1);
    parts.groups = vec![waiting.clone()];
    open(&mut parts, 1, "a", "east", &request(3, 0), 50);
    open(&mut parts, 2, "b", "east", &request(1, 0), 40);
    let got = explained(parts.clone(), &target(&waiting, 0));
    assert_eq!(
        told(&got)[..2],
        [
            "when job 00000000-0002-7101-8101-010101010101 of team b on east ends",
            "with +1 cpu of quota for team a"
        ]
    );
    // Now its own ceiling is what is short: the cohort would have room.
    parts.teams[0].team.max = limits(3, 0);
    parts.teams[1].team.quota = limits(9, 0);
    let got = explained(parts, &target(&waiting, 0));
    assert!(told(&got).contains(&"with +1 cpu of quota for team a".to_owned()), "{:?}", told(&got));
}

#[test]
fn what_is_not_there_and_what_starts_anyway() {
    let waiting = group("a", request(1, 0), 0, 0..1);
    let parts = Parts {
        teams: vec![team("a", Limits::default())],
        clusters: vec![cluster("east", 4, 0)],
        groups: vec![waiting.clone()],
        ..Parts::default()
    };
    let got = explained(parts.clone(), &target(&waiting, 0));
    assert_eq!(got.standing, Standing::Starts("east".parse().unwrap()));
    assert!(got.counterfactuals.is_empty());
    let gone = Target { order: QueueOrder(7), ..target(&waiting, 0) };
    let got = explained(parts, &gone);
    assert_eq!((got.standing, got.forecast), (Standing::Absent, Forecast::Unknown(Unknown::Absent)));
}

#[test]
fn a_search_stops_at_its_bound_and_says_so() {
    let waiting = group("a", request(4, 0), 0, 0..1);
    let mut parts = Parts {
        teams: vec![team("a", Limits::default())],
        clusters: vec![cluster("east", 64, 0)],
        groups: vec![waiting.clone()],
        ..Parts::default()
    };
    for id in 0..64 {
        open(&mut parts, id, "a", "east", &request(1, 0), 5);
    }
    let snapshot = Snapshot::new(parts);
    let bounds = Bounds { plans_max: 3, forecast_plans_max: 1, ..Bounds::default() };
    let got =
        explain(&snapshot, &Policy::default(), NOW, 1, &target(&waiting, 0), bounds, &|| Duration::ZERO);
    assert!(got.cut_short && got.plans <= 3);
    assert_eq!(got.forecast, Forecast::Unknown(Unknown::BeyondPlans));
}

#[test]
fn many_ends_are_taken_together_and_the_span_is_said() {
    let waiting = group("a", request(30, 0), 0, 0..1);
    let mut parts = Parts {
        teams: vec![team("a", Limits::default())],
        clusters: vec![cluster("east", 50, 0)],
        groups: vec![waiting.clone()],
        ..Parts::default()
    };
    for id in 1..=50u32 {
        open(&mut parts, id.into(), "a", "east", &request(1, 0), id);
    }
    let snapshot = Snapshot::new(parts);
    for plans in [4, 10, 64] {
        let bounds = Bounds { forecast_plans_max: plans, ..Bounds::default() };
        let got =
            forecast(&snapshot, &Policy::default(), NOW, 1, &target(&waiting, 0), bounds, &|| Duration::ZERO);
        let Forecast::Starts { at, after, .. } = got else { panic!("{got:?}") };
        let exact = NOW.plus(30 * MINUTE);
        assert!(after <= exact && exact <= at, "{plans}: {after} {at}");
        assert!(plans < 64 || (at, after) == (exact, exact), "{plans} plans suffice for every end");
    }
    let bounds = Bounds { horizon: 20 * MINUTE, ..Bounds::default() };
    let got =
        forecast(&snapshot, &Policy::default(), NOW, 1, &target(&waiting, 0), bounds, &|| Duration::ZERO);
    assert_eq!(got, Forecast::Unknown(Unknown::BeyondHorizon));
}

#[test]
fn what_is_held_by_unseen_attempts_is_not_called_never() {
    let waiting = group("a", request(4, 0), 0, 0..1);
    let mut parts = Parts {
        teams: vec![team("a", Limits::default())],
        clusters: vec![cluster("east", 4, 0)],
        groups: vec![waiting.clone()],
        ..Parts::default()
    };
    open(&mut parts, 1, "a", "east", &request(1, 0), 5);
    parts.running.clear();
    let got = explained(parts, &target(&waiting, 0));
    assert_eq!(got.forecast, Forecast::Unknown(Unknown::Unseen));
}

#[test]
fn a_team_is_told_what_holds_its_jobs_and_what_would_gain_most() {
    let (gpus, cpus) = (group("a", request(1, 2), 0, 0..6), group("a", request(8, 0), 0, 20..24));
    let mut parts = Parts {
        teams: vec![team("a", limits(100, 4)), team("b", Limits::default())],
        clusters: vec![cluster("east", 20, 32), cluster("west", 20, 0)],
        groups: vec![gpus, cpus, group("b", request(1, 0), 0, 0..1)],
        ..Parts::default()
    };
    parts.clusters[1].cluster.switch = ClusterSwitch::Drained;
    let snapshot = Snapshot::new(parts);
    let bounds = Bounds::default();
    let got = explain_team(&snapshot, &Policy::default(), NOW, 1, &"a".parse().unwrap(), bounds, &|| {
        Duration::ZERO
    });
    assert_eq!(got.starting, 4, "2 with gpus, 2 without");
    let holds: Vec<_> = got.holds.iter().map(|h| (h.refusal.hold.code(), h.jobs)).collect();
    assert_eq!(holds, [("team_quota", 4), ("no_cluster", 2)]);
    let gains: Vec<_> = got.gains.iter().map(|g| (g.change.to_string(), g.jobs)).collect();
    assert_eq!(gains.len(), 2, "{gains:?}");
    for gain in &got.gains {
        let nobody = Target { team: "a".parse().unwrap(), shape: Shape(0), order: QueueOrder(0) };
        let changed = gain.change.apply(&snapshot, &nobody).0;
        let placed = plan(&changed, &Policy::default(), NOW, 1);
        let ours = placed.placements.iter().filter(|p| p.team.as_str() == "a").count();
        assert_eq!(ours, (got.starting + gain.jobs) as usize, "{}", gain.change);
    }
    assert!(gains.contains(&("if west is resumed".to_owned(), 2)), "{gains:?}");
    assert_eq!(got.share, Some(0), "nothing is in use yet");
}

#[test]
fn a_share_is_the_largest_part_of_what_there_is_for_the_weight() {
    let mut parts = Parts {
        teams: vec![team("a", limits(10, 4)), team("b", Limits::default())],
        clusters: vec![cluster("east", 40, 0), cluster("west", 60, 10)],
        ..Parts::default()
    };
    parts.teams[1].team.weight = 2;
    open(&mut parts, 1, "a", "east", &request(2, 1), 5);
    open(&mut parts, 2, "b", "west", &request(10, 1), 5);
    let snapshot = Snapshot::new(parts);
    let of = |node| ahead::share(&snapshot, node);
    assert_eq!(of(0), 250_000, "1 of 4 gpus of quota");
    assert_eq!(of(1), 50_000, "10 of 100 cpus, for weight 2");
}

prop_compose! {
    fn any_parts()(
        clusters in prop::collection::vec((1u64..8, 0u64..4, 0u8..8), 1..4),
        teams in prop::collection::vec((prop::option::of((0u64..8, 0u64..4)), 1u32..4, any::<bool>(), prop::option::of(1u64..6)), 1..4),
        groups in prop::collection::vec((0usize..4, 0u64..5, 0u64..3, -1i64..2, 1i64..5), 1..7),
        open_ones in prop::collection::vec((0usize..4, 0usize..4, 1u64..4, 0u64..2, 1u32..50), 0..6),
    ) -> Parts {
        let clusters: Vec<_> = clusters.iter().enumerate().map(|(i, (cpu, gpu, kind))| {
            let mut view = cluster(&format!("c{i}"), *cpu, *gpu);
            match kind {
                0 => view.cluster.switch = ClusterSwitch::Drained,
                1 => view.cluster.health = ClusterHealth::Unreachable,
                2 => view.cluster.breaker_open = true,
                _ => {}
            }
            view
        }).collect();
        let teams: Vec<_> = teams.iter().enumerate().map(|(i, (quota, weight, lends, max))| {
            let mut view = team(&format!("t{i}"), quota.map(|(c, g)| limits(c, g)).unwrap_or_default());
            view.team.weight = *weight;
            view.team.cohort = lends.then(|| "both".parse().unwrap());
            view.team.max = max.map(|m| limits(m, m)).unwrap_or_default();
            view
        }).collect();
        let mut seen = HashMap::new();
        for (t, cpu, gpu, priority, n) in groups {
            let g = group(&format!("t{}", t % teams.len()), request(cpu, gpu), priority, 0..n);
            seen.insert((g.team.clone(), g.shape), g);
        }
        let cohorts = vec![Cohort::new("both".parse().unwrap())];
        let (n_teams, n_clusters) = (teams.len(), clusters.len());
        let mut parts = Parts { teams, cohorts, clusters, groups: seen.into_values().collect(), ..Parts::default() };
        for (i, (t, c, cpu, gpu, minutes)) in open_ones.into_iter().enumerate() {
            let (t, c) = (format!("t{}", t % n_teams), format!("c{}", c % n_clusters));
            open(&mut parts, i as u64 + 1, &t, &c, &request(cpu, gpu), minutes);
        }
        parts
    }
}

prop_compose! {
    /// With classes that stop others and are stopped, with and without reservations, in short passes and long ones.
    fn any_policy()(classes: bool, reclaim: bool, within_team: bool, reservations in 0u32..4, placements in 1u32..20) -> Policy {
        let class = |id: &str, priority, preempts, preemptible| PriorityClass {
            id: id.parse().unwrap(),
            priority: Priority::new(priority).unwrap(),
            preempts,
            preemptible,
        };
        let classes = if classes {
            vec![class("high", 1, true, false), class("normal", 0, false, true), class("low", -1_000, false, true)]
        } else {
            Policy::default().classes
        };
        let preemption = yard_domain::policy::Preemption { reclaim, within_team, victims_max: 10 };
        Policy { classes, preemption, reservations_max: reservations, placements_max: placements, ..Policy::default() }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Whatever is told of any waiting job holds when it is carried out, and the quota told is the least.
    #[test]
    fn what_is_told_holds(parts in any_parts(), policy in any_policy(), seed: u64, pick: prop::sample::Index) {
        let snapshot = Snapshot::new(parts);
        let all: Vec<Target> = snapshot.groups.iter().flat_map(|g| (0..g.orders.len()).map(move |r| target(g, r))).collect();
        let target = pick.get(&all);
        let got = explain(&snapshot, &policy, NOW, seed, target, Bounds::default(), &|| Duration::ZERO);
        check(&snapshot, &policy, seed, target, &got)?;
        let again = explain(&snapshot, &policy, NOW, seed, target, Bounds::default(), &|| Duration::ZERO);
        prop_assert_eq!(got, again);
    }

    /// Where something would do that can be found by hand, the search finds it: every cluster that takes jobs no more
    /// is tried alone.
    #[test]
    fn nothing_is_missed_among_clusters(parts in any_parts(), seed: u64, pick: prop::sample::Index) {
        let snapshot = Snapshot::new(parts);
        let heads: Vec<Target> = snapshot.groups.iter().map(|g| target(g, 0)).collect();
        let target = pick.get(&heads);
        let got = explain(&snapshot, &Policy::default(), NOW, seed, target, Bounds::default(), &|| Duration::ZERO);
        let Standing::Held(_) = got.standing else { return Ok(()) };
        let told: BTreeSet<ClusterId> = got.counterfactuals.iter().filter_map(|c| match &c.change {
            Change::Cluster { cluster, .. } => Some(cluster.clone()),
            _ => None,
        }).collect();
        for view in &snapshot.clusters {
            let obstacles = Obstacle::of(&view.cluster);
            if obstacles.is_empty() { continue }
            let change = Change::Cluster { cluster: view.cluster.id.clone(), obstacles };
            let (changed, moved) = change.apply(&snapshot, target);
            let every_seed = [seed, crate::order::mix(seed, 1), crate::order::mix(seed, 2)];
            let would = every_seed.iter().all(|s| placed_on(&changed, &plan(&changed, &Policy::default(), NOW, *s).placements, &moved).is_some());
            prop_assert_eq!(told.contains(&view.cluster.id), would, "{}", view.cluster.id);
        }
    }
}

#[test]
fn a_job_behind_what_was_read_is_seated_where_it_is() {
    let all = group("a", request(1, 0), 0, 0..9);
    let parts = |orders: &[QueueOrder]| Parts {
        teams: vec![team("a", Limits::default())],
        clusters: vec![cluster("east", 4, 0)],
        groups: vec![Group { orders: orders.to_vec(), ..all.clone() }],
        ..Parts::default()
    };
    let last = target(&all, 8);
    let job = Group { orders: vec![last.order], ..all.clone() };
    for read in [0, 3, 8, 9] {
        let snapshot = Snapshot::new(parts(&all.orders[..read]));
        let seated = seat(snapshot, &Seat { job: job.clone(), before: 8 });
        assert_eq!(rank(&seated, &last), Some(8), "{read} were read");
        assert_eq!(seated.groups[0].orders.len(), 9);
        assert_eq!(Some(&last), Seat { job: job.clone(), before: 8 }.target().as_ref());
    }
}

#[test]
fn sentences_name_the_owner_and_natural_units() {
    let change = Change::Quota {
        owner: QuotaOwner::Cohort("both".parse().unwrap()),
        extra: vec![
            Extra { resource: "gpu".into(), amount: 2_000 },
            Extra { resource: "memory".into(), amount: 8 << 30 },
        ],
    };
    assert_eq!(change.to_string(), "with +2 gpu, +8GiB memory of quota for cohort both");
    assert_eq!(names(&[]), "");
}

#[test]
fn the_time_that_it_takes_is_bounded_too() {
    let waiting = group("a", request(4, 0), 0, 0..1);
    let mut parts = Parts {
        teams: vec![team("a", Limits::default())],
        clusters: vec![cluster("east", 64, 0)],
        groups: vec![waiting.clone()],
        ..Parts::default()
    };
    for (id, minutes) in (0..64).zip(5..) {
        open(&mut parts, id, "a", "east", &request(1, 0), minutes);
    }
    let snapshot = Snapshot::new(parts);
    let bounds = Bounds { time_max: Duration::from_secs(4), ..Bounds::default() };
    // A clock that goes on by so much each time it is read: twice for a plan.
    let asked = |tick: Duration| {
        let reads = std::cell::Cell::new(0u32);
        let clock = || {
            reads.set(reads.get() + 1);
            tick * reads.get()
        };
        let got = explain(&snapshot, &Policy::default(), NOW, 1, &target(&waiting, 0), bounds, &clock);
        (got, tick * reads.get())
    };
    let (got, _) = asked(Duration::ZERO);
    assert!(!got.cut_short && !got.counterfactuals.is_empty());
    let all = got.plans;
    let (got, took) = asked(Duration::from_millis(200));
    assert!(got.cut_short && got.plans < all, "{} of {all}", got.plans);
    assert!(took <= Duration::from_secs(5), "{took:?}");
    assert!(matches!(got.standing, Standing::Held(_)) && !got.clusters.is_empty());
    let (got, took) = asked(Duration::from_mins(1));
    assert_eq!((got.plans, got.cut_short), (0, true), "no plan is begun after the time");
    assert_eq!(got.forecast, Forecast::Unknown(Unknown::BeyondPlans));
    assert!(took < Duration::from_mins(20), "it stops soon: {took:?}");
}
