//! Random snapshots against the model.

use proptest::prelude::*;
use yard_domain::Timestamp;
use yard_planner::{
    Hold, Parts, Placement, Plan, Planner, Policy, Promises, Refusal, Reservation, Snapshot, plan,
};

use crate::model::generate::{NOW, parts, policy};
use crate::model::{Rounds, check};

mod regressions;
mod starvation;
mod teeth;

pub fn config(cases: u32) -> ProptestConfig {
    // PROPTEST_CASES, where it is set, is the number of cases of every property.
    let cases =
        if std::env::var_os("PROPTEST_CASES").is_some() { ProptestConfig::default().cases } else { cases };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(300))]

    /// The model finds nothing wrong: see `model::check` for everything that it looks at.
    #[test]
    fn plans_are_as_agreed(parts in parts(), policy in policy(), seed: u64) {
        let snapshot = Snapshot::new(parts);
        let plan = plan(&snapshot, &policy, NOW, seed);
        let wrong = check(&snapshot, &policy, NOW, &plan);
        prop_assert!(wrong.is_empty(), "{:#?}\n{:#?}\n{:#?}", wrong, plan, snapshot);
    }

    /// The same arguments give the same plan, in whatever order their parts are listed.
    #[test]
    fn plans_do_not_depend_on_the_order_of_the_parts(
        listed in parts(), policy in policy(), seed: u64, turn in any::<prop::sample::Index>(),
    ) {
        let mut turned = listed.clone();
        let Parts { teams, cohorts, clusters, groups, running } = &mut turned;
        shuffle(teams, turn);
        shuffle(cohorts, turn);
        shuffle(clusters, turn);
        shuffle(groups, turn);
        shuffle(running, turn);
        for group in groups {
            shuffle(&mut group.orders, turn);
        }
        let first = plan(&Snapshot::new(listed.clone()), &policy, NOW, seed);
        prop_assert_eq!(&first, &plan(&Snapshot::new(listed), &policy, NOW, seed));
        prop_assert_eq!(&first, &plan(&Snapshot::new(turned), &policy, NOW, seed));
    }

    /// Passes that are applied one after the other, with what they stop gone and waiting again, come to rest.
    #[test]
    fn passes_come_to_rest(parts in parts(), policy in policy(), seed: u64) {
        let rest = come_to_rest(parts, policy, seed);
        prop_assert!(rest.is_ok(), "{}", rest.unwrap_err());
    }

    /// A planner that remembers its last plan says what one says that only knows what was promised, whenever it is asked;
    /// and what one without any memory says, but that a reservation stays where it was if it comes no sooner elsewhere.
    #[test]
    fn a_memory_changes_nothing(
        parts in parts(), policy in policy(), seeds: [u64; 2], later in prop::collection::vec((0i64..20_000, any::<bool>()), 1..6),
    ) {
        let (mut planner, mut promises) = (Planner::default(), Promises::default());
        let (mut now, mut before) = (NOW, Vec::new());
        for (seconds, other_seed) in later {
            let (snapshot, seed) = (Snapshot::new(parts.clone()), seeds[usize::from(other_seed)]);
            let remembered = planner.plan(&snapshot, &policy, now, seed);
            prop_assert!(same(&remembered, &promises.plan(&snapshot, &policy, now, seed)));
            let fresh = plan(&snapshot, &policy, now, seed);
            let pairs = remembered.reservations.iter().zip(&fresh.reservations);
            match pairs.into_iter().find(|(r, f)| r != f) {
                None => prop_assert!(same(&remembered, &fresh), "{:#?}\nand\n{:#?}", remembered, fresh),
                Some((r, f)) => {
                    prop_assert_eq!((&r.team, r.shape, r.order, r.start_by), (&f.team, f.shape, f.order, f.start_by));
                    let was = |b: &Reservation| (&b.team, b.shape, &b.cluster) == (&r.team, r.shape, &r.cluster);
                    prop_assert!(r.cluster != f.cluster && before.iter().any(was), "{:?} and {:?}", r, f);
                }
            }
            before = remembered.reservations.clone();
            now = Timestamp::from_micros(now.as_micros() + seconds * 1_000_000);
        }
    }

    /// A second pass right after the first finds no more room: see [`second_pass`].
    #[test]
    fn a_second_pass_has_nothing_to_do(parts in parts(), policy in policy(), seed: u64) {
        let second = second_pass(parts, policy, seed);
        prop_assert!(second.is_ok(), "{}", second.unwrap_err());
    }
}

/// Plays passes until one places and stops nothing; each is held against the model.
fn come_to_rest(parts: Parts, policy: Policy, seed: u64) -> Result<(), String> {
    let policy = Policy { placements_max: policy.placements_max.max(1), ..policy };
    let mut rounds = Rounds::new(parts, policy, NOW, seed);
    let jobs = rounds.parts.running.len() + rounds.parts.groups.iter().map(|g| g.orders.len()).sum::<usize>();
    let mut history = String::new();
    for round in 0..3 * jobs + 4 {
        let plan = rounds.plan().map_err(|wrong| format!("round {round}: {wrong}\n{history}"))?;
        history += &told(round, &plan);
        rounds.apply(&plan);
        if rounds.requeue_leaving() == 0 && plan.placements.is_empty() {
            return Ok(());
        }
    }
    Err(format!("no rest:\n{history}"))
}

/// What a second pass may do right after the first, if that stopped nothing and was not full: place nothing, but where the
/// first kept room for somebody, and that only if room is kept for others or from another time on.
fn second_pass(parts: Parts, policy: Policy, seed: u64) -> Result<(), String> {
    let mut rounds = Rounds::new(parts, policy, NOW, seed);
    let first = rounds.plan()?;
    rounds.apply(&first);
    let second = rounds.plan()?;
    let full = first.placements.len() >= rounds.policy.placements_max as usize;
    if !first.preemptions.is_empty() || full {
        return Ok(());
    }
    let kept =
        |p: &Plan| p.reservations.iter().map(|r| (r.team.clone(), r.shape, r.start_by)).collect::<Vec<_>>();
    let was_reserved = |p: &Placement| {
        let refusal = first.refusals.iter().find(|r| (&r.team, r.shape) == (&p.team, p.shape));
        refusal.is_some_and(|r| match r.hold {
            Hold::QuotaReserved { .. } => true,
            _ => r.clusters.iter().any(|(c, why)| *c == p.cluster && matches!(why, Refusal::Reserved { .. })),
        })
    };
    let wrong = match second.placements.iter().find(|p| !was_reserved(p)) {
        Some(p) => format!("there was room for {p:?} before"),
        None if !second.placements.is_empty() && kept(&first) == kept(&second) => {
            "the same is kept".to_owned()
        }
        None => return Ok(()),
    };
    Err(format!("{wrong}:\n{first:#?}\nthen\n{second:#?}"))
}

/// Another seed orders refusals in another way; that is all it may do where nothing is placed or stopped.
fn same(a: &Plan, b: &Plan) -> bool {
    let sorted = |p: &Plan| {
        let mut refusals = p.refusals.clone();
        refusals.sort_by(|a, b| (&a.team, a.shape).cmp(&(&b.team, b.shape)));
        refusals
    };
    a.placements == b.placements
        && a.preemptions == b.preemptions
        && a.reservations == b.reservations
        && sorted(a) == sorted(b)
}

fn shuffle<T>(list: &mut [T], turn: prop::sample::Index) {
    if !list.is_empty() {
        let by = turn.index(list.len());
        list.rotate_left(by);
        list[by..].reverse();
    }
}

/// What a round does, in a line for each decision.
fn told(round: usize, plan: &Plan) -> String {
    let placed =
        plan.placements.iter().map(|p| format!("{round}: place {} {} on {}\n", p.team, p.shape.0, p.cluster));
    let stopped = plan
        .preemptions
        .iter()
        .map(|p| format!("{round}: stop {} {} for {} {}\n", p.team, p.victim, p.for_team, p.for_shape.0));
    let kept = plan
        .reservations
        .iter()
        .map(|r| format!("{round}: keep {} for {} {} by {}\n", r.cluster, r.team, r.shape.0, r.start_by));
    placed.chain(stopped).chain(kept).collect()
}
