//! Preemptions: by right, no more than needed, and of use.

use std::collections::BTreeSet;

use yard_domain::JobId;
use yard_planner::{Hold, Plan, Preemption, PreemptionCause, Running};

use super::check::{Violation, violation};
use super::kept::Decided;
use super::reserve::{Future, GRACE, cluster_of, head_of, kept_from, place_of};
use super::world::{Amounts, Load, World, amounts};

/// A job that others are stopped for.
struct Beneficiary {
    group: usize,
    team: usize,
    cluster: usize,
    request: Amounts,
    victims: Vec<JobId>,
}

/// Everything that is wrong with who is stopped for whom. `load` is what is in use with all that the plan places.
pub fn check(world: &World, plan: &Plan, decided: &Decided, load: &Load) -> Vec<Violation> {
    let mut found = Vec::new();
    let victims: BTreeSet<JobId> = plan.preemptions.iter().map(|p| p.victim).collect();
    if victims.len() < plan.preemptions.len() {
        found.push(violation("preempt.twice", "a job is stopped twice".to_owned()));
    }
    if victims.len() > world.policy.preemption.victims_max as usize {
        found.push(violation("preempt.limit", format!("{} victims", victims.len())));
    }
    let beneficiaries = beneficiaries(world, plan, &mut found);
    for p in &plan.preemptions {
        match beneficiaries.iter().find(|b| is_for(world, b, p)) {
            Some(b) => found.extend(may_be_stopped(world, b, p)),
            None => found.push(violation("preempt.for_nobody", format!("{p:?}"))),
        }
    }
    // What was asked to stop before goes anyway. Who is stopped is decided before anything is placed; what is placed
    // must not take the room.
    let (mut before, mut after) = (world.load(), load.clone());
    for r in world.snapshot.running.iter().filter(|r| r.leaving || victims.contains(&r.job)) {
        if r.leaving {
            stop(world, &mut before, r);
        }
        stop(world, &mut after, r);
    }
    let start = world.load();
    let place = |group: usize| place_of(world, &start, group);
    let mut taken = 0;
    for b in &beneficiaries {
        // What is decided about a head knows of those before it, and of nobody after it.
        while let Some(d) = decided.due.get(taken).filter(|d| place(d.group) < place(b.group)) {
            before.change(d.team, d.cluster, &amounts(&world.snapshot.groups[d.group].request), 1);
            taken += 1;
        }
        found.extend(check_one(world, plan, &before_it(decided, taken, b), b, &mut before));
        if !world.fits(&after, b.team, b.cluster, &b.request) {
            let who = (&world.snapshot.teams[b.team].team.id, b.cluster);
            found.push(violation(
                "preempt.in_vain",
                format!("{who:?} does not fit once its victims are gone"),
            ));
        }
        after.change(b.team, b.cluster, &b.request, 1);
    }
    found
}

/// What had been decided when it was decided about a head; so many had taken their room.
fn before_it(decided: &Decided, taken: usize, b: &Beneficiary) -> Decided {
    let kept = decided.kept.iter().take_while(|k| k.group != b.group);
    Decided { due: decided.due[..taken].to_vec(), kept: kept.cloned().collect() }
}

/// Who waits for others to stop, in the order in which room is kept for them.
fn beneficiaries(world: &World, plan: &Plan, found: &mut Vec<Violation>) -> Vec<Beneficiary> {
    let mut all = Vec::new();
    for (g, group) in world.snapshot.groups.iter().enumerate() {
        let Some(r) = plan.refusals.iter().find(|r| r.team == group.team && r.shape == group.shape) else {
            continue;
        };
        let Hold::Preempting { cluster, victims } = &r.hold else { continue };
        let team = world.team(&group.team).unwrap();
        let mine = |p: &&Preemption| p.for_team == group.team && p.for_shape == group.shape;
        let b = Beneficiary {
            group: g,
            team,
            cluster: cluster_of(world, cluster).unwrap(),
            request: amounts(&group.request),
            victims: plan.preemptions.iter().filter(mine).map(|p| p.victim).collect(),
        };
        if head_of(world, team) != Some(g) {
            found.push(violation("preempt.head", format!("{r:?} is not the head of its team")));
        }
        if !world.admissible(group).contains(&b.cluster) {
            found.push(violation("preempt.cluster", format!("{r:?}: not a cluster for this job")));
        }
        if *victims == 0 || (*victims as usize) < b.victims.len() {
            found.push(violation("preempt.count", format!("{r:?}: it stops {}", b.victims.len())));
        }
        all.push(b);
    }
    let first = |b: &Beneficiary| {
        let group = &world.snapshot.groups[b.group];
        plan.reservations.iter().position(|r| r.team == group.team && r.shape == group.shape)
    };
    all.sort_by_key(first);
    all
}

fn is_for(world: &World, b: &Beneficiary, p: &Preemption) -> bool {
    let group = &world.snapshot.groups[b.group];
    p.for_team == group.team && p.for_shape == group.shape
}

/// One victim: is it what the plan says it is, and do classes and policy allow it?
fn may_be_stopped(world: &World, b: &Beneficiary, p: &Preemption) -> Option<Violation> {
    let Some(r) = world.snapshot.running.iter().find(|r| r.job == p.victim && r.attempt == p.attempt) else {
        return Some(violation("preempt.unknown", format!("{p:?}: no such attempt")));
    };
    let policy = world.policy;
    let head = world.snapshot.groups[b.group].orders[0].priority();
    let (upper, lower) = (policy.class_of(head), policy.class_of(r.priority));
    let wrong = if r.leaving {
        "leaves already"
    } else if (&r.team, &r.cluster) != (&p.team, &p.cluster) {
        "is of another team or on another cluster"
    } else if !policy.classes[upper].preempts {
        "is stopped for a class that stops nobody"
    } else if !policy.classes[lower].preemptible {
        "is of a class that is not stopped"
    } else {
        match p.cause {
            PreemptionCause::Reclaim if !policy.preemption.reclaim => "is reclaimed against the policy",
            PreemptionCause::Reclaim if p.team == p.for_team => "is reclaimed from its own team",
            PreemptionCause::HigherClass if !policy.preemption.within_team => "is stopped against the policy",
            PreemptionCause::HigherClass if p.team != p.for_team => "is of another team",
            PreemptionCause::HigherClass if lower <= upper => "is of no lower class",
            _ => return None,
        }
    };
    Some(violation("preempt.right", format!("{p:?}: the victim {wrong}")))
}

/// One beneficiary with its victims; `load` is left as it will be when it has started, for the next one.
fn check_one(
    world: &World,
    plan: &Plan,
    earlier: &Decided,
    b: &Beneficiary,
    load: &mut Load,
) -> Vec<Violation> {
    let mut found = Vec::new();
    let group = &world.snapshot.groups[b.group];
    let who = format!("{} {:?}", group.team, group.shape);
    let running = |id: &JobId| world.snapshot.running.iter().find(|r| r.job == *id);
    let victims: Vec<&Running> = b.victims.iter().filter_map(running).collect();
    let reclaimed: Vec<&Running> = victims.iter().copied().filter(|r| r.team != group.team).collect();
    found.extend(reclaimed.iter().filter_map(|r| is_owed(world, b, r, load)));
    if !in_some_order(world, b, &reclaimed, load) {
        found.push(violation(
            "preempt.lender",
            format!("{who}: a victim's team was not over its nominal quota"),
        ));
    }
    if victims.len() <= 10 {
        let needed = (0..(1usize << victims.len()) - 1).all(|subset| {
            let chosen = (0..victims.len()).filter(|i| subset >> i & 1 == 1).map(|i| victims[i]);
            !suffices(world, plan, earlier, b, load, &chosen.collect::<Vec<_>>())
        });
        if !needed {
            found.push(violation(
                "preempt.minimal",
                format!("{who}: fewer would do: {:#?}", plan.preemptions),
            ));
        }
    }
    for r in victims {
        stop(world, load, r);
    }
    load.change(b.team, b.cluster, &b.request, 1);
    found
}

/// Whether it is enough to stop these: the beneficiary fits beside those who are given room before it, and
/// delays none of them.
fn suffices(
    world: &World,
    plan: &Plan,
    earlier: &Decided,
    b: &Beneficiary,
    load: &Load,
    victims: &[&Running],
) -> bool {
    let mut load = load.clone();
    for r in victims {
        stop(world, &mut load, r);
    }
    if !world.fits(&load, b.team, b.cluster, &b.request) {
        return false;
    }
    let mut future = Future::so_far(world, plan, &earlier.due, &earlier.kept);
    let own = future.kept.len();
    let could: Vec<bool> = (0..own).map(|k| future.can_start(k)).collect();
    future.victims.extend(victims.iter().map(|r| (r.job, Some(b.group))));
    future.kept.extend(kept_from(world, b.group, b.cluster, world.now.plus(GRACE)));
    future.can_start(own) && (0..own).all(|k| !could[k] || future.can_start(k))
}

/// Below the cohort that it shares with the victim, the beneficiary stays within what is guaranteed.
fn is_owed(world: &World, b: &Beneficiary, victim: &Running, load: &Load) -> Option<Violation> {
    let victim_team = world.team(&victim.team)?;
    if world.root(victim_team) != world.root(b.team) {
        return Some(violation("preempt.tree", format!("{} and {} share no cohort", victim.team, b.team)));
    }
    let shared = world.path(victim_team);
    let below = world.path(b.team).into_iter().filter(|n| !shared.contains(n));
    let over = below.into_iter().find(|node| would_be_over(world, load, *node, &b.request));
    over.map(|node| violation("preempt.borrower", format!("{} would borrow", world.nodes[node].owner)))
}

pub fn would_be_over(world: &World, load: &Load, node: usize, request: &Amounts) -> bool {
    request.iter().any(|(name, amount)| {
        let nominal = world.nominal(node, name);
        nominal.is_some_and(|nominal| world.used(load, node, name) + amount > nominal)
    })
}

/// Whether the victims can be stopped one after the other in some order so that each, when its turn comes, is over
/// its nominal quota, at every level below what it shares with the beneficiary.
fn in_some_order(world: &World, b: &Beneficiary, victims: &[&Running], load: &Load) -> bool {
    if victims.is_empty() {
        return true;
    }
    (0..victims.len()).any(|i| {
        if !is_over(world, b, victims[i], load) {
            return false;
        }
        let mut rest = victims.to_vec();
        let mut later = load.clone();
        stop(world, &mut later, rest.remove(i));
        in_some_order(world, b, &rest, &later)
    })
}

fn is_over(world: &World, b: &Beneficiary, victim: &Running, load: &Load) -> bool {
    let Some(team) = world.team(&victim.team) else { return false };
    let shared = world.path(b.team);
    world.path(team).into_iter().filter(|n| !shared.contains(n)).all(|node| {
        b.request.keys().any(|name| {
            let nominal = world.nominal(node, name);
            nominal.is_some_and(|nominal| world.used(load, node, name) > nominal)
        })
    })
}

fn stop(world: &World, load: &mut Load, r: &Running) {
    if let (Some(team), Some(cluster)) = (world.team(&r.team), cluster_of(world, &r.cluster)) {
        load.change(team, cluster, &amounts(&r.request), -1);
    }
}
