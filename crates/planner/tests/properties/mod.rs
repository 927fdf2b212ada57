//! Random snapshots against the model.

use proptest::prelude::*;
use yard_planner::{Parts, Snapshot, plan};

use crate::model::generate::{NOW, parts, policy};
use crate::model::{Rounds, check};

mod starvation;

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
        prop_assume!(policy.placements_max > 0);
        let mut rounds = Rounds::new(parts, policy, NOW, seed);
        let jobs = rounds.parts.running.len() + rounds.parts.groups.iter().map(|g| g.orders.len()).sum::<usize>();
        for round in 0.. {
            let plan = rounds.plan();
            let wrong = check(&rounds.snapshot(), &rounds.policy, NOW, &plan);
            prop_assert!(wrong.is_empty(), "round {}: {:#?}\n{:#?}", round, wrong, plan);
            rounds.apply(&plan);
            if rounds.requeue_leaving() == 0 && plan.placements.is_empty() {
                break;
            }
            prop_assert!(round < 3 * jobs + 3, "no rest after {} rounds: {:#?}", round, plan);
        }
    }

    /// A second pass right after the first has nothing to do, if nothing was stopped and nobody new holds a
    /// reservation.
    #[test]
    fn a_second_pass_has_nothing_to_do(parts in parts(), policy in policy(), seed: u64) {
        let mut rounds = Rounds::new(parts, policy, NOW, seed);
        let first = rounds.plan();
        prop_assume!(first.preemptions.is_empty());
        prop_assume!(first.placements.len() < rounds.policy.placements_max as usize);
        rounds.apply(&first);
        let second = rounds.plan();
        let held = |p: &yard_planner::Plan| p.reservations.iter().map(|r| (r.team.clone(), r.shape, r.start_by)).collect::<Vec<_>>();
        if held(&first) == held(&second) {
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
