//! Reservations and backfilling.

use super::world::{Later, any_world, in_minutes, lasting, open};
use super::*;

fn one_cluster(cpu: u64) -> Parts {
    let teams = vec![team("busy", 1, None), team("wide", 1, None)];
    Parts { teams, clusters: vec![cluster("east", cpu, 0, 100)], ..Parts::default() }
}

#[test]
fn a_wide_head_is_kept_room_and_others_go_past_it_only_without_delaying_it() {
    let mut parts = one_cluster(8);
    open(&mut parts, 0, 0, &request(3, 0), 0, 30);
    open(&mut parts, 0, 0, &request(2, 0), 0, 60);
    parts.groups = vec![
        group("wide", request(7, 0), 0, 0..1),
        lasting(group("busy", request(1, 0), 0, 10..11), 60),
        lasting(group("busy", request(1, 0), 0, 11..14), 61),
    ];
    let plan = plan(&Snapshot::new(parts), &policy(), NOW, 1);
    let [kept] = plan.reservations.as_slice() else { panic!("{plan:?}") };
    assert_eq!((kept.team.as_str(), kept.start_by, kept.expected), ("wide", in_minutes(60), in_minutes(30)));
    assert_eq!(plan.placements.len(), 2, "one ends in time, one fits beside it; then the room is used up");
    let busy = plan.refusals.iter().find(|r| r.team.as_str() == "busy").unwrap();
    assert_eq!(busy.clusters[0].1.code(), "reserved");
    let wide = plan.refusals.iter().find(|r| r.team.as_str() == "wide").unwrap();
    assert_eq!(wide.clusters[0].1.code(), "full");
}

#[test]
fn quota_is_kept_too() {
    let mut parts = one_cluster(100);
    for view in &mut parts.teams {
        view.team.cohort = Some("both".parse().unwrap());
        view.team.quota.cpu_milli = Some(4_000);
    }
    parts.cohorts = vec![world::cohort("both", None)];
    open(&mut parts, 0, 0, &request(6, 0), 0, 20);
    parts.groups = vec![
        group("wide", request(4, 0), 0, 0..1),
        lasting(group("busy", request(1, 0), 0, 5..6), 20),
        lasting(group("busy", request(5, 0), 0, 6..7), 21),
        lasting(group("busy", request(1, 0), 0, 7..8), 21),
    ];
    let plan = plan(&Snapshot::new(parts), &policy(), NOW, 1);
    assert_eq!(plan.reservations[0].start_by, in_minutes(20));
    assert_eq!(plan.placements.len(), 2, "8 in all: 4 for the head, so 4 beside it then");
    assert_eq!(plan.refusals.iter().filter(|r| r.hold.code() == "team_quota").count(), 2);
}

#[test]
fn a_head_whose_room_nobody_accounts_for_is_kept_none() {
    let mut parts = one_cluster(8);
    parts.clusters[0].used = request(8, 0);
    parts.groups = vec![group("wide", request(6, 0), 0, 0..1)];
    assert!(plan(&Snapshot::new(parts), &policy(), NOW, 1).reservations.is_empty());
}

#[test]
fn the_memo_gives_what_a_new_plan_would() {
    let mut parts = one_cluster(8);
    open(&mut parts, 0, 0, &request(3, 0), 0, 30);
    open(&mut parts, 0, 0, &request(4, 0), 0, 60);
    parts.groups =
        vec![group("wide", request(6, 0), 0, 0..1), lasting(group("busy", request(1, 0), 0, 10..11), 20)];
    let snapshot = Snapshot::new(parts);
    let mut planner = crate::Planner::default();
    let first = planner.plan(&snapshot, &policy(), NOW, 1);
    assert_eq!(first.placements.len(), 1);
    for minute in 0..90 {
        let now = in_minutes(minute);
        assert_eq!(
            *planner.plan(&snapshot, &policy(), now, 1),
            plan(&snapshot, &policy(), now, 1),
            "{minute}"
        );
    }
    let again = planner.plan(&snapshot, &policy(), NOW, 1);
    assert!(std::sync::Arc::ptr_eq(&again, &planner.plan(&snapshot.clone(), &policy(), NOW, 1)));
    assert!(
        !std::sync::Arc::ptr_eq(&again, &planner.plan(&snapshot, &policy(), NOW, 2)),
        "it places something"
    );
    let fewer = Policy { placements_max: 0, ..policy() };
    assert!(planner.plan(&snapshot, &fewer, NOW, 2).placements.is_empty());
}

#[test]
fn what_is_kept_holds_up_only_what_came_later() {
    let mut parts = one_cluster(8);
    parts.teams.push(team("small", 1, None));
    open(&mut parts, 0, 0, &request(4, 0), 0, 60);
    parts.groups =
        vec![group("wide", request(8, 0), 0, 10..11), lasting(group("small", request(2, 0), 0, 5..6), 61)];
    let first = plan(&Snapshot::new(parts.clone()), &policy(), NOW, 1);
    assert_eq!((first.placements.len(), first.reservations.len()), (1, 0), "the small job is older");
    parts.groups[1] = lasting(group("small", request(2, 0), 0, 15..16), 61);
    let second = plan(&Snapshot::new(parts), &policy(), NOW, 1);
    assert_eq!((second.placements.len(), second.reservations.len()), (0, 1), "the small job is younger");
}

/// Minute by minute, every job running as long as it may: when the wide job starts, and by when it should have.
fn wide_start(mut plan_once: impl FnMut(&Snapshot, Timestamp) -> Plan) -> (Option<u64>, u64) {
    let mut parts = one_cluster(8);
    parts.clusters.push(cluster("west", 8, 0, 100));
    parts.clusters[1].cluster.switch = ClusterSwitch::Drained;
    // The wide job's team uses more than the other ever does, so that every turn is the other's.
    open(&mut parts, 1, 1, &request(8, 0), 0, 100_000);
    for i in 0..8 {
        open(&mut parts, 0, 0, &request(1, 0), 0, 1 + i);
    }
    parts.groups =
        vec![group("wide", request(8, 0), 0, 0..1), lasting(group("busy", request(1, 0), 0, 1..100), 7)];
    let mut promised = 0;
    for minute in 0..120 {
        let now = in_minutes(minute);
        for gone in parts.running.extract_if(.., |r| r.ends_by <= now) {
            let team = parts.teams.iter_mut().find(|t| t.team.id == gone.team).unwrap();
            team.used.checked_sub(&gone.request).unwrap();
            let on = parts.clusters.iter_mut().find(|c| c.cluster.id == gone.cluster).unwrap();
            on.used.checked_sub(&gone.request).unwrap();
        }
        let plan = plan_once(&Snapshot::new(parts.clone()), now);
        if let (0, Some(kept)) = (minute, plan.reservations.first()) {
            promised = u64::try_from(kept.start_by.as_micros() - NOW.as_micros()).unwrap() / 60_000_000;
        }
        for p in &plan.placements {
            if p.team.as_str() == "wide" {
                return (Some(minute), promised);
            }
            parts.groups[1].orders.remove(0);
            open(&mut parts, 0, 0, &request(1, 0), 0, minute + 7);
        }
    }
    (None, promised)
}

#[test]
fn what_was_promised_starts_in_time_whoever_has_the_smaller_share() {
    let mut planner = crate::Planner::default();
    let (start, promised) = wide_start(|snapshot, now| (*planner.plan(snapshot, &policy(), now, 1)).clone());
    assert_eq!((start, promised), (Some(8), 8));
    let (start, _) = wide_start(|snapshot, now| plan(snapshot, &policy(), now, 1));
    assert!(
        start.is_none_or(|start| start > 90),
        "without memory of promises it would wait for the other's last job"
    );
}

#[test]
fn a_head_is_not_held_by_what_is_kept_for_itself() {
    let mut parts = one_cluster(4);
    parts.clusters[0].cluster.capacity.as_mut().unwrap().0.jobs = 1;
    parts.teams[1].team.quota.cpu_milli = Some(4_000);
    open(&mut parts, 0, 0, &request(1, 0), 0, 30);
    parts.groups = vec![group("wide", request(3, 0), 0, 0..1)];
    let plan = plan(&Snapshot::new(parts), &policy(), NOW, 1);
    assert_eq!(plan.reservations[0].team.as_str(), "wide");
    assert_eq!(plan.refusals[0].hold, Hold::NoCluster, "its quota has room for one, and that is the one");
    assert_eq!(plan.refusals[0].clusters[0].1.code(), "full");
}

#[test]
fn an_owner_is_given_room_before_a_borrower_whatever_their_cohort_borrows() {
    let teams = vec![
        world::member("borrower", "part", 0),
        world::member("owner", "part", 4),
        world::member("lender", "whole", 4),
    ];
    let cohorts = vec![world::cohort("part", Some("whole")), world::cohort("whole", None)];
    let mut parts = Parts { teams, cohorts, clusters: vec![cluster("east", 8, 0, 100)], ..Parts::default() };
    open(&mut parts, 0, 0, &request(6, 0), 0, 30);
    open(&mut parts, 0, 0, &request(2, 0), 0, 60);
    parts.groups = vec![group("borrower", request(5, 0), 0, 0..1), group("owner", request(4, 0), 0, 9..10)];
    let plan = plan(&Snapshot::new(parts), &policy(), NOW, 1);
    let kept: Vec<_> = plan.reservations.iter().map(|r| (r.team.as_str(), r.start_by)).collect();
    assert_eq!(kept, [("owner", in_minutes(30)), ("borrower", in_minutes(90))]);
}

#[test]
fn what_is_promised_stays_where_it_is_if_it_comes_no_sooner_elsewhere() {
    let mut parts = one_cluster(4);
    parts.clusters.push(cluster("west", 4, 0, 100));
    open(&mut parts, 0, 0, &request(4, 0), 0, 60);
    open(&mut parts, 0, 1, &request(4, 0), 0, 60);
    parts.groups = vec![group("wide", request(3, 0), 0, 0..1)];
    parts.running[1].expected_end = in_minutes(40);
    let mut planner = crate::Planner::default();
    let mut kept_on = |parts: &Parts| {
        planner.plan(&Snapshot::new(parts.clone()), &policy(), NOW, 1).reservations[0].cluster.to_string()
    };
    assert_eq!(kept_on(&parts), "east", "it is expected to be free there first");
    parts.running[0].expected_end = in_minutes(50);
    assert_eq!(
        plan(&Snapshot::new(parts.clone()), &policy(), NOW, 1).reservations[0].cluster.as_str(),
        "west"
    );
    assert_eq!(kept_on(&parts), "east");
    parts.running[1].ends_by = in_minutes(59);
    assert_eq!(kept_on(&parts), "west");
}

#[test]
fn nobody_is_expected_to_start_where_a_promised_job_starts_now() {
    let mut parts = one_cluster(4);
    open(&mut parts, 0, 0, &request(2, 0), 0, 10);
    open(&mut parts, 0, 0, &request(2, 0), 0, 10);
    parts.groups = vec![group("wide", request(4, 0), 0, 0..1), group("busy", request(4, 0), 0, 5..6)];
    let mut planner = crate::Planner::default();
    assert_eq!(planner.plan(&Snapshot::new(parts.clone()), &policy(), NOW, 1).reservations.len(), 2);
    parts.running.clear();
    parts.teams[0].used = Request::default();
    parts.clusters[0].used = Request::default();
    let plan = planner.plan(&Snapshot::new(parts), &policy(), in_minutes(10), 1);
    assert_eq!(plan.placements[0].team.as_str(), "wide");
    assert_eq!(plan.reservations[0].expected, in_minutes(70), "when that has run as long as it usually does");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Nothing placed delays what is kept room: at its start, everything that may still run leaves it its room.
    #[test]
    fn reservations_are_never_delayed(parts in any_world(), seed: u64) {
        let snapshot = Snapshot::new(parts);
        let plan = plan(&snapshot, &policy(), NOW, seed);
        for r in &plan.reservations {
            prop_assert!(r.start_by >= NOW && r.expected <= r.start_by && r.expected >= NOW);
            let later = Later::at(&snapshot, &plan, r.start_by, &[]);
            prop_assert!(later.holds(&snapshot, r), "{:?} in {:?}", r, plan);
        }
    }

    /// Work-conserving up to reservations: what is left over fits nowhere, or would delay what is kept room.
    #[test]
    fn nothing_more_could_be_placed(parts in any_world(), seed: u64) {
        let snapshot = Snapshot::new(parts);
        let plan = plan(&snapshot, &policy(), NOW, seed);
        let now = Later::at(&snapshot, &Plan { reservations: Vec::new(), ..plan.clone() }, NOW, &[]);
        for refusal in &plan.refusals {
            let g = snapshot.groups.iter().position(|g| g.team == refusal.team && g.shape == refusal.shape).unwrap();
            let group = &snapshot.groups[g];
            let node = snapshot.team_of(g);
            // Attempts whose time is over still hold their room.
            let mut nodes = now.nodes.clone();
            let mut clusters = now.clusters.clone();
            for run in snapshot.running.iter().filter(|r| r.ends_by <= NOW) {
                let team = snapshot.quota.node_of(&run.team).unwrap();
                snapshot.quota.charge(&mut nodes, team, &run.request);
                let c = snapshot.clusters.iter().position(|c| c.cluster.id == run.cluster).unwrap();
                clusters[c].add(&run.request);
            }
            let quota = snapshot.quota.allows(&nodes, node, &group.request).is_ok();
            prop_assert!(!quota || !matches!(refusal.hold, Hold::Quota(_)));
            for (c, view) in snapshot.clusters.iter().enumerate() {
                let room = filter::check(&view.cluster, &clusters[c], &group.request, &group.clusters).is_ok();
                if quota && room {
                    let delays = plan.reservations.iter().any(|r| {
                        !Later::at(&snapshot, &plan, r.start_by, &[(g, c)]).holds(&snapshot, r)
                    });
                    prop_assert!(delays, "{:?} on {} in {:?}", group, c, plan);
                }
            }
            if let Hold::NoCluster = refusal.hold {
                prop_assert_eq!(refusal.clusters.len(), snapshot.clusters.len());
            }
        }
    }

    /// At whatever time it is asked, the memo gives what a new plan would that honours the same promises.
    #[test]
    fn the_memo_is_faithful(parts in any_world(), seed: u64, classes: bool, steps in prop::collection::vec(0u64..20, 1..8)) {
        let policy = if classes { preempt::policy_with_classes() } else { policy() };
        let snapshot = Snapshot::new(parts.clone());
        let (mut planner, mut promises) = (crate::Planner::default(), crate::Promises::default());
        let mut minute = 0;
        for step in steps {
            minute += step;
            let now = in_minutes(minute);
            let same = Snapshot::new(parts.clone());
            let (memo, made) = (planner.plan(&same, &policy, now, seed), promises.plan(&snapshot, &policy, now, seed));
            prop_assert_eq!(&*memo, &made);
        }
    }

    /// The same arguments give the same plan, in whatever order the parts are listed.
    #[test]
    fn worlds_are_independent_of_listing(parts in any_world(), seed: u64, classes: bool) {
        let policy = if classes { preempt::policy_with_classes() } else { policy() };
        let mut turned = parts.clone();
        turned.teams.reverse();
        turned.cohorts.reverse();
        turned.clusters.reverse();
        turned.groups.reverse();
        turned.running.reverse();
        let (a, b) = (Snapshot::new(parts), Snapshot::new(turned));
        prop_assert_eq!(plan(&a, &policy, NOW, seed), plan(&b, &policy, NOW, seed));
    }
}
