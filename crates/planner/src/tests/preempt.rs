//! Who is stopped for whom.

use yard_domain::policy::PriorityClass;

use super::world::{any_world, cohort, member, open};
use super::*;
use crate::PreemptionCause;

/// From 1 on, jobs preempt and are not preempted; below, the other way round.
pub fn policy_with_classes() -> Policy {
    let classes = [("high", 1, true, false), ("low", -1_000, true, true)].map(
        |(id, priority, preempts, preemptible)| PriorityClass {
            id: id.parse().unwrap(),
            priority: Priority::new(priority).unwrap(),
            preempts,
            preemptible,
        },
    );
    Policy { classes: classes.into(), ..policy() }
}

fn two_teams(cpu: u64) -> Parts {
    Parts {
        teams: vec![member("lender", "both", cpu / 2), member("taker", "both", cpu / 2)],
        cohorts: vec![cohort("both", None)],
        clusters: vec![cluster("east", cpu, 0, 100)],
        ..Parts::default()
    }
}

fn victims(snapshot: &Snapshot, plan: &Plan) -> Vec<usize> {
    let of = |v| snapshot.running.iter().position(|r| r.job == v).unwrap();
    plan.preemptions.iter().map(|p| of(p.victim)).collect()
}

#[test]
fn borrowers_give_back_what_is_nominal_and_no_more() {
    let mut parts = two_teams(8);
    for size in [2, 2, 3, 1] {
        open(&mut parts, 1, 0, &request(size, 0), 0, 60);
    }
    parts.groups = vec![group("lender", request(3, 0), 0, 0..2)];
    let snapshot = Snapshot::new(parts);
    let plan = plan(&snapshot, &policy_with_classes(), NOW, 1);
    assert_eq!(victims(&snapshot, &plan), [0, 1], "least lost work first; the first alone is not enough");
    assert!(plan.preemptions.iter().all(|p| p.cause == PreemptionCause::Reclaim));
    let code = |r: &crate::GroupRefusal| (r.hold.code(), r.hold.to_string());
    let (code, text) = code(&plan.refusals[0]);
    assert_eq!((code, text.as_str()), ("preempting", "2 other jobs on east have been asked to stop for it"));
    assert_eq!(plan.reservations.len(), 1);
}

#[test]
fn nobody_is_stopped_for_what_would_be_borrowed_or_by_a_class_that_does_not_preempt() {
    let mut parts = two_teams(8);
    open(&mut parts, 0, 0, &request(3, 0), 1, 60);
    open(&mut parts, 1, 0, &request(5, 0), 0, 60);
    parts.groups = vec![group("lender", request(2, 0), 0, 0..1)];
    let snapshot = Snapshot::new(parts.clone());
    assert!(plan(&snapshot, &policy_with_classes(), NOW, 1).preemptions.is_empty(), "3 + 2 is more than 4");
    parts.groups = vec![group("lender", request(1, 0), 0, 0..1)];
    let snapshot = Snapshot::new(parts);
    assert_eq!(plan(&snapshot, &policy_with_classes(), NOW, 1).preemptions.len(), 1);
    assert!(plan(&snapshot, &policy(), NOW, 1).preemptions.is_empty());
    let mut never = policy_with_classes();
    never.preemption.reclaim = false;
    assert!(plan(&snapshot, &never, NOW, 1).preemptions.is_empty());
}

#[test]
fn a_higher_class_takes_from_its_own_team_the_job_that_loses_least() {
    let mut parts = two_teams(8);
    parts.teams.pop();
    for (size, priority) in [(4, 0), (2, 0), (2, 1)] {
        open(&mut parts, 0, 0, &request(size, 0), priority, 60);
    }
    parts.teams[0].team.quota.cpu_milli = Some(8_000);
    parts.groups = vec![group("lender", request(2, 0), 5, 0..1)];
    let snapshot = Snapshot::new(parts);
    let plan = plan(&snapshot, &policy_with_classes(), NOW, 1);
    assert_eq!(
        victims(&snapshot, &plan),
        [0],
        "4 for 1 minute; not 2 for 2 minutes, which is as much, by id"
    );
    assert_eq!(plan.preemptions[0].cause, PreemptionCause::HigherClass);
}

#[test]
fn what_is_leaving_already_is_waited_for() {
    let mut parts = two_teams(8);
    for _ in 0..4 {
        open(&mut parts, 1, 0, &request(2, 0), 0, 60);
    }
    parts.running[3].leaving = true;
    parts.groups = vec![group("lender", request(2, 0), 0, 0..1)];
    let snapshot = Snapshot::new(parts.clone());
    let plan_a = plan(&snapshot, &policy_with_classes(), NOW, 1);
    assert!(plan_a.preemptions.is_empty());
    assert!(matches!(plan_a.refusals[0].hold, Hold::Preempting { victims: 1, .. }));
    parts.groups = vec![group("lender", request(4, 0), 0, 0..1)];
    let plan_b = plan(&Snapshot::new(parts), &policy_with_classes(), NOW, 1);
    assert_eq!(plan_b.preemptions.len(), 1, "one more");
    assert!(matches!(plan_b.refusals[0].hold, Hold::Preempting { victims: 2, .. }));
}

/// Whether the group's job fits on a cluster once these attempts are gone.
fn fits(snapshot: &Snapshot, g: usize, cluster: &str, gone: &[usize]) -> bool {
    let group = &snapshot.groups[g];
    let mut nodes = crate::tests::preempt::usage(snapshot);
    let view = snapshot.clusters.iter().find(|c| c.cluster.id.as_str() == cluster).unwrap();
    let mut on = view.used.clone();
    for i in gone {
        let run = &snapshot.running[*i];
        for n in snapshot.quota.path(snapshot.quota.node_of(&run.team).unwrap()) {
            nodes[n].checked_sub(&run.request).unwrap();
        }
        if run.cluster == view.cluster.id {
            on.checked_sub(&run.request).unwrap();
        }
    }
    snapshot.quota.allows(&nodes, snapshot.team_of(g), &group.request).is_ok()
        && filter::check(&view.cluster, &on, &group.request, &group.clusters).is_ok()
}

fn usage(snapshot: &Snapshot) -> Vec<Request> {
    snapshot.quota.usage(|id| snapshot.teams.iter().find(|t| t.team.id == *id).map(|t| &t.used))
}

/// One round of the world: what is asked to stop stops and is queued again, what is placed runs.
fn next_round(mut parts: Parts, plan: &Plan) -> Parts {
    for p in &plan.preemptions {
        let i = parts.running.iter().position(|r| r.job == p.victim).unwrap();
        let run = parts.running.remove(i);
        parts
            .teams
            .iter_mut()
            .find(|t| t.team.id == run.team)
            .unwrap()
            .used
            .checked_sub(&run.request)
            .unwrap();
        let on = parts.clusters.iter_mut().find(|c| c.cluster.id == run.cluster).unwrap();
        on.used.checked_sub(&run.request).unwrap();
        let age = 1_000 + i64::try_from(parts.groups.len()).unwrap();
        let again =
            group(run.team.as_str(), run.request.clone(), i64::from(run.priority.get()), age..age + 1);
        match parts.groups.iter_mut().find(|g| g.team == again.team && g.shape == again.shape) {
            Some(group) => group.orders.extend(again.orders),
            None => parts.groups.push(again),
        }
    }
    for p in &plan.placements {
        let g = parts.groups.iter().position(|g| g.team == p.team && g.shape == p.shape).unwrap();
        let order = parts.groups[g].orders.remove(0);
        let request = parts.groups[g].request.clone();
        let t = parts.teams.iter().position(|t| t.team.id == p.team).unwrap();
        let c = parts.clusters.iter().position(|c| c.cluster.id == p.cluster).unwrap();
        open(&mut parts, t, c, &request, i64::from(order.priority().get()), 60);
        let n = parts.running.len();
        let fresh = &mut parts.running[n - 1];
        let number = u64::from_be_bytes([0, 0, 0, 0, 0, 0, 0, u8::try_from(n).unwrap()]);
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&(number << 32 | order.0.cast_unsigned() & 0xFFFF_FFFF).to_be_bytes());
        fresh.job = yard_domain::JobId::new(2, bytes);
        parts.groups.retain(|g| !g.orders.is_empty());
    }
    parts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// What is stopped suffices for the first beneficiary, none of it could be spared, and all of it was borrowed or
    /// of a lower class.
    #[test]
    fn victims_suffice_and_are_needed(parts in any_world(), seed: u64) {
        let snapshot = Snapshot::new(parts);
        let plan = plan(&snapshot, &policy_with_classes(), NOW, seed);
        let Some(first) = plan.preemptions.first() else { return Ok(()) };
        let g = snapshot.groups.iter().position(|g| g.team == first.for_team && g.shape == first.for_shape).unwrap();
        let refusal = plan.refusals.iter().find(|r| r.team == first.for_team && r.shape == first.for_shape).unwrap();
        let Hold::Preempting { cluster, victims: n } = &refusal.hold else { panic!("{refusal:?}") };
        let all = victims(&snapshot, &plan);
        let own: Vec<usize> = plan.preemptions.iter().zip(&all)
            .filter(|(p, _)| p.for_team == first.for_team && p.for_shape == first.for_shape).map(|(_, i)| *i).collect();
        prop_assert_eq!(own.len(), *n as usize);
        prop_assert!(fits(&snapshot, g, cluster.as_str(), &own));
        let older = plan.reservations.iter().position(|r| r.team == first.for_team).unwrap();
        if older == 0 {
            for spared in 0..own.len() {
                let rest: Vec<usize> = own.iter().enumerate().filter(|(i, _)| *i != spared).map(|(_, v)| *v).collect();
                prop_assert!(!fits(&snapshot, g, cluster.as_str(), &rest), "{} could be spared", spared);
            }
        }
        for p in &plan.preemptions {
            let victim = snapshot.running.iter().find(|r| r.job == p.victim).unwrap();
            prop_assert!(victim.priority.get() < 1);
            match p.cause {
                PreemptionCause::HigherClass => prop_assert_eq!(&p.team, &p.for_team),
                PreemptionCause::Reclaim => {
                    prop_assert_ne!(&p.team, &p.for_team);
                    let node = snapshot.quota.node_of(&p.team).unwrap();
                    let used = &snapshot.teams.iter().find(|t| t.team.id == p.team).unwrap().used;
                    let nominal = &snapshot.quota.nodes()[node].nominal;
                    prop_assert!(nominal.bounds().any(|(name, bound)| used.amount(name) > bound));
                }
            }
        }
    }

    /// Rounds of stopping, queueing again and placing come to an end, with and without memory of what was promised, and
    /// never fill a cluster or quota beyond what there is.
    #[test]
    fn preemption_does_not_go_round(parts in any_world(), seed: u64, memory: bool) {
        let mut parts = parts;
        let mut planner = crate::Planner::default();
        let over = |snapshot: &Snapshot| {
            let none = Request::default();
            let full = |c: &ClusterView| c.cluster.capacity.as_ref().unwrap().allows(&none, &c.used).is_err();
            let nodes = snapshot.quota.nodes().iter().zip(usage(snapshot));
            let quota = nodes.filter(|(n, used)| n.ceiling.allows(&none, used).is_err()).count();
            (snapshot.clusters.iter().filter(|c| full(c)).count(), quota)
        };
        let mut before = over(&Snapshot::new(parts.clone()));
        for round in 0..60 {
            let snapshot = Snapshot::new(parts.clone());
            let now = over(&snapshot);
            prop_assert!(now.0 == 0 && now.1 <= before.1, "{:?} then {:?}", before, now);
            before = now;
            let plan = if memory {
                (*planner.plan(&snapshot, &policy_with_classes(), NOW, seed)).clone()
            } else {
                plan(&snapshot, &policy_with_classes(), NOW, seed)
            };
            if plan.placements.is_empty() && plan.preemptions.is_empty() {
                return Ok(());
            }
            prop_assert!(round < 59, "no end");
            parts = next_round(parts, &plan);
        }
    }
}
