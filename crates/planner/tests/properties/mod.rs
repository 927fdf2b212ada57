//! Random snapshots against the model.

use proptest::prelude::*;
use yard_domain::Timestamp;
use yard_planner::{Parts, Plan, Planner, Policy, Snapshot, plan};

use crate::model::generate::{NOW, parts, policy};
use crate::model::{Rounds, check};

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
        let policy = Policy { placements_max: policy.placements_max.max(1), ..policy };
        let mut rounds = Rounds::new(parts, policy, NOW, seed);
        let jobs = rounds.parts.running.len() + rounds.parts.groups.iter().map(|g| g.orders.len()).sum::<usize>();
        let mut history = String::new();
        for round in 0.. {
            let plan = rounds.plan();
            prop_assert!(plan.is_ok(), "round {}: {}\n{}", round, plan.unwrap_err(), history);
            let plan = plan.unwrap();
            history += &told(round, &plan);
            rounds.apply(&plan);
            if rounds.requeue_leaving() == 0 && plan.placements.is_empty() {
                break;
            }
            prop_assert!(round < 3 * jobs + 3, "no rest after {} rounds:\n{}", round, history);
        }
    }

    /// A planner that remembers its last plan says what one without a memory says, whenever it is asked.
    #[test]
    fn a_memory_changes_nothing(
        parts in parts(), policy in policy(), seeds: [u64; 2], later in prop::collection::vec((0i64..20_000, any::<bool>()), 1..6),
    ) {
        let mut planner = Planner::default();
        let mut now = NOW;
        for (seconds, other_seed) in later {
            let (snapshot, seed) = (Snapshot::new(parts.clone()), seeds[usize::from(other_seed)]);
            let remembered = planner.plan(&snapshot, &policy, now, seed);
            let fresh = plan(&snapshot, &policy, now, seed);
            // Another seed orders refusals in another way; that is all it may do.
            let sorted = |p: &Plan| {
                let mut refusals = p.refusals.clone();
                refusals.sort_by(|a, b| (&a.team, a.shape).cmp(&(&b.team, b.shape)));
                refusals
            };
            prop_assert_eq!(&remembered.placements, &fresh.placements);
            prop_assert_eq!(&remembered.preemptions, &fresh.preemptions);
            prop_assert_eq!(&remembered.reservations, &fresh.reservations);
            prop_assert_eq!(sorted(&remembered), sorted(&fresh));
            now = Timestamp::from_micros(now.as_micros() + seconds * 1_000_000);
        }
    }

    /// A second pass right after the first has nothing to do, if nothing was stopped and nobody new holds a
    /// reservation.
    #[test]
    fn a_second_pass_has_nothing_to_do(parts in parts(), policy in policy(), seed: u64) {
        let mut rounds = Rounds::new(parts, policy, NOW, seed);
        let first = rounds.plan().unwrap();
        rounds.apply(&first);
        let second = rounds.plan().unwrap();
        let held = |p: &yard_planner::Plan| p.reservations.iter().map(|r| (r.team.clone(), r.shape, r.start_by)).collect::<Vec<_>>();
        let full = first.placements.len() >= rounds.policy.placements_max as usize;
        if first.preemptions.is_empty() && !full && held(&first) == held(&second) {
            prop_assert!(second.placements.is_empty(), "{:#?}\nthen\n{:#?}", first, second);
        }
    }
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
