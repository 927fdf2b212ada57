//! That the model bites: random snapshots hold everything that matters, and a plan that is made wrong is found out.

use std::collections::BTreeMap;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use yard_domain::Timestamp;
use yard_planner::{ClusterRefusals, Hold, Parts, Plan, Policy, PreemptionCause, Snapshot, plan};

use crate::model::check;
use crate::model::generate::{NOW, parts, policy};

/// The same snapshots every time.
fn cases(count: usize) -> impl Iterator<Item = (Parts, Policy)> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(move |_| (parts(), policy()).new_tree(&mut runner).unwrap().current())
}

/// What a plan holds, by name.
fn contents(plan: &Plan) -> Vec<&'static str> {
    let mut found = Vec::new();
    found.extend(plan.placements.iter().map(|_| "placement"));
    found.extend(plan.reservations.iter().map(|_| "reservation"));
    found.extend(plan.preemptions.iter().map(|p| match p.cause {
        PreemptionCause::Reclaim => "reclaim",
        PreemptionCause::HigherClass => "higher_class",
    }));
    for r in &plan.refusals {
        found.push(r.hold.code());
        found.extend(r.clusters.iter().map(|(_, refusal)| refusal.code()));
        let stops =
            plan.preemptions.iter().filter(|p| p.for_team == r.team && p.for_shape == r.shape).count();
        match r.hold {
            Hold::Preempting { .. } if stops == 0 => found.push("waits without new victims"),
            Hold::Preempting { .. } if stops > 1 => found.push("several victims"),
            _ => {}
        }
    }
    if plan.reservations.len() > 1 {
        found.push("several reservations");
    }
    found
}

#[test]
fn random_snapshots_hold_everything_that_matters() {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (parts, policy) in cases(1_000) {
        for what in contents(&plan(&Snapshot::new(parts), &policy, NOW, 1)) {
            *counts.entry(what).or_default() += 1;
        }
    }
    println!("{counts:?}");
    for what in [
        "placement",
        "reservation",
        "several reservations",
        "reclaim",
        "higher_class",
        "several victims",
        "waits without new victims",
        "team_quota",
        "quota_reserved",
        "preempting",
        "no_cluster",
        "pass_full",
        "not_selected",
        "avoided",
        "label_missing",
        "no_ray_cluster",
        "no_block",
        "not_configured",
        "capacity_unknown",
        "too_small",
        "drained",
        "not_seen_yet",
        "unreachable",
        "breaker_open",
        "full",
        "reserved",
    ] {
        assert!(counts.get(what).is_some_and(|n| *n >= 5), "too little of {what}: {counts:?}");
    }
}

/// A way to make a plan wrong, by which rule that is found, and how often at least, of a hundred times: some wrongs
/// can't be told from a tie.
struct Spoil {
    what: &'static str,
    /// `false` if there is nothing in it to make wrong.
    make: fn(&mut Plan) -> bool,
    rule: &'static str,
    found: usize,
}

const fn spoil(what: &'static str, make: fn(&mut Plan) -> bool, rule: &'static str, found: usize) -> Spoil {
    Spoil { what, make, rule, found }
}

const SPOILS: [Spoil; 15] = [
    spoil("a placement is left out", |p| p.placements.pop().is_some(), "refuse", 100),
    spoil("a job is placed twice", |p| double(&mut p.placements), "place", 100),
    spoil("the first is placed last", first_last, "place.order", 50),
    spoil("a reservation is forgotten", |p| p.reservations.pop().is_some(), "reserve", 90),
    spoil("a reservation comes later", |p| shift(p, 1), "reserve", 95),
    spoil("a reservation comes sooner", |p| shift(p, -1), "reserve", 95),
    spoil("reservations are in another order", |p| turn(&mut p.reservations), "reserve", 100),
    spoil("a victim is forgotten", |p| p.preemptions.pop().is_some(), "preempt", 95),
    spoil("a victim is stopped twice", |p| double(&mut p.preemptions), "preempt.twice", 100),
    spoil("the right is another", other_right, "preempt.right", 100),
    spoil("somebody else is stopped", other_victim, "preempt", 100),
    spoil("a refusal is left out", |p| p.refusals.pop().is_some(), "refuse.count", 100),
    spoil("a quota is said to be free", quota_free, "refuse.hold", 100),
    spoil("the pass is said to be full", pass_full, "refuse.pass_full", 95),
    spoil("clusters are not spoken of", no_clusters, "refuse.hold", 100),
];

/// Every way to make a plan wrong is found.
#[test]
fn a_plan_that_is_made_wrong_is_found_out() {
    let mut counts = [(0usize, 0usize); SPOILS.len()];
    for (parts, policy) in cases(400) {
        let snapshot = Snapshot::new(parts);
        let right = plan(&snapshot, &policy, NOW, 1);
        for (Spoil { make, rule, .. }, (tried, found)) in SPOILS.iter().zip(&mut counts) {
            let mut wrong = right.clone();
            if make(&mut wrong) && wrong != right {
                *tried += 1;
                let violations = check(&snapshot, &policy, NOW, &wrong);
                *found += usize::from(violations.iter().any(|v| v.rule.starts_with(rule)));
            }
        }
    }
    for (Spoil { what, found: least, .. }, (tried, found)) in SPOILS.iter().zip(counts) {
        println!("{what}: found {found} of {tried} times");
        assert!(tried >= 10, "{what}: only {tried} times");
        assert!(found * 100 >= least * tried, "{what}: found {found} of {tried} times");
    }
}

fn double<T: Clone>(list: &mut Vec<T>) -> bool {
    let last = list.last().cloned();
    list.extend(last);
    !list.is_empty()
}

fn turn<T>(list: &mut [T]) -> bool {
    list.reverse();
    list.len() > 1
}

fn first_last(plan: &mut Plan) -> bool {
    let first = plan.placements.first().cloned();
    let Some(first) = first.filter(|f| plan.placements.iter().any(|p| p.team != f.team)) else {
        return false;
    };
    plan.placements.remove(0);
    plan.placements.push(first);
    true
}

fn shift(plan: &mut Plan, by: i64) -> bool {
    let Some(r) = plan.reservations.first_mut() else { return false };
    r.start_by = Timestamp::from_micros(r.start_by.as_micros() + by);
    true
}

fn other_right(plan: &mut Plan) -> bool {
    for p in &mut plan.preemptions {
        p.cause = match p.cause {
            PreemptionCause::Reclaim => PreemptionCause::HigherClass,
            PreemptionCause::HigherClass => PreemptionCause::Reclaim,
        };
    }
    !plan.preemptions.is_empty()
}

fn quota_free(plan: &mut Plan) -> bool {
    let holds = plan.refusals.iter_mut().find_map(|r| match &mut r.hold {
        Hold::Quota(short) => Some(short),
        _ => None,
    });
    let Some(short) = holds else { return false };
    short.short.available = short.short.requested;
    true
}

fn pass_full(plan: &mut Plan) -> bool {
    if plan.refusals.iter().any(|r| r.hold == Hold::PassFull) {
        return false;
    }
    plan.refusals.iter_mut().for_each(|r| r.hold = Hold::PassFull);
    !plan.refusals.is_empty()
}

fn other_victim(plan: &mut Plan) -> bool {
    for p in &mut plan.preemptions {
        p.attempt = p.attempt.next();
    }
    !plan.preemptions.is_empty()
}

fn no_clusters(plan: &mut Plan) -> bool {
    let held = plan.refusals.iter_mut().find(|r| r.hold == Hold::NoCluster);
    held.map(|r| r.clusters = ClusterRefusals::none()).is_some()
}
