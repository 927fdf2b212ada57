//! Small worlds, found at random and made smaller, in which the planner or the model was once wrong. Written as in
//! `scenarios/README.md`.

use yard_planner::{Snapshot, plan};

use super::{come_to_rest, second_pass};
use crate::golden::read::{Scenario, scenario};
use crate::model::check;
use crate::model::generate::NOW;

const CLASSES: &str = "class high priority=10 preempts
class normal priority=0 preempts preemptible
class low priority=-1000 preemptible
";

fn world(text: &str) -> Scenario {
    scenario(text).unwrap_or_else(|why| panic!("{why}"))
}

/// The first plan is as agreed, and so are all that follow until there is nothing to do.
fn holds(text: &str) {
    let Scenario { parts, policy, seed, .. } = world(&format!("{CLASSES}{text}"));
    let snapshot = Snapshot::new(parts.clone());
    let wrong = check(&snapshot, &policy, NOW, &plan(&snapshot, &policy, NOW, seed));
    assert!(wrong.is_empty(), "{wrong:#?}");
    second_pass(parts.clone(), policy.clone(), seed).unwrap_or_else(|why| panic!("{why}"));
    come_to_rest(parts, policy, seed).unwrap_or_else(|why| panic!("{why}"));
}

/// In the second pass t1's promised job takes room on c0, so that t2's second job, of an owner, fits on c1 alone: none is
/// kept there for t0, who borrows.
#[test]
fn nothing_is_kept_that_holds_up_an_owner_beside_one_who_takes_promised_room() {
    holds(
        "policy placements=1 reservations=1 reclaim=off victims=1
cohort k0
team t0 cohort=k0
team t1
team t2 cohort=k0 quota=cpu:7
cluster c0 has=cpu:8,jobs:3
cluster c1 has=cpu:4,jobs:5
queue wide team=t1 asks=cpu:6 age=1m
queue borrows team=t0 asks=cpu:3 only=c1 priority=-10 age=2m
queue owns team=t2 asks=cpu:1 run=2h expected=1h priority=-10 jobs=2 age=3m
running a team=t0 cluster=c0 asks=cpu:1 priority=-10
running b team=t0 cluster=c1 asks=cpu:1 priority=-10
running c team=t1 cluster=c0 asks=cpu:2 priority=-10
running d team=t0 cluster=c1 asks=cpu:1 priority=-10 ends=2h
running e team=t0 cluster=c1 asks=cpu:1 priority=-10",
    );
}

/// t2's job was promised room and would fit, but t0's, older, comes before it; others of t2 stop for it. Without that, and
/// with it in place, t0's would be delayed: so it cannot be placed now.
#[test]
fn a_head_for_which_others_stop_cannot_be_placed_beside_what_is_kept_before_it() {
    holds(
        "policy placements=1 reservations=0 reclaim=off
team t0
team t1
team t2
cluster c0 has=cpu:3,gpu:1,jobs:1 state=drained
cluster c1 has=cpu:4,gpu:1,jobs:3
queue wide team=t0 asks=cpu:3 priority=10 age=3m
queue small team=t0 asks=cpu:1 priority=-10 age=2m
queue other team=t2 asks=cpu:1 age=4m
running x team=t0 cluster=c0 asks=cpu:1 priority=-10
running a team=t2 cluster=c1 asks=cpu:1 priority=-10
running b team=t2 cluster=c1 asks=cpu:1 priority=-10",
    );
}

/// The job that was stopped for t0's head comes back and goes past it, into what another one that is stopped leaves beside
/// both heads; the head itself would delay t1's, which is older, if it started before that.
#[test]
fn another_of_the_team_has_its_turn_while_its_head_waits_for_others_to_stop() {
    holds(
        "policy placements=1000 reservations=0 reclaim=off
team t0
team t1
cluster c0 has=cpu:4,jobs:3
queue older team=t1 asks=cpu:2 avoid=c1 age=35m
queue head team=t0 asks=cpu:1 priority=10 age=1m
running a team=t1 cluster=c0 asks=cpu:1 priority=-10
running b team=t0 cluster=c0 asks=cpu:2 priority=0 since=2h
running c team=t0 cluster=c0 asks=cpu:1 priority=-10",
    );
}

/// What stops for t1 leaves more than t1 needs, but it was decided for t0 first: nobody counts on what comes after.
#[test]
fn who_is_stopped_for_a_later_head_makes_nobody_needless_for_an_earlier_one() {
    holds(
        "policy placements=1 reservations=1 reclaim=off victims=2
cohort k0
team t0 cohort=k0
team t1 cohort=k0
team t2 cohort=k0
team t3 cohort=k0 quota=cpu:9
cluster c0 has=cpu:5,jobs:4 state=drained
cluster c1 has=cpu:7,jobs:5
cluster c2 has=cpu:2,jobs:1
queue second team=t1 asks=cpu:1 avoid=c0 age=1m
queue wide team=t2 asks=cpu:4 priority=-10 age=86m
queue first team=t0 asks=cpu:1 age=2m
running a team=t0 cluster=c0 asks=cpu:2 priority=-10
running b team=t0 cluster=c0 asks=cpu:1 priority=-10 ends=2h
running c team=t0 cluster=c0 asks=cpu:1 priority=-10
running d team=t1 cluster=c2 asks=cpu:2 priority=-10 ends=2h
running e team=t0 cluster=c1 asks=cpu:2 priority=-10 ends=2h
running f team=t0 cluster=c0 asks=cpu:1 priority=-10 leaving",
    );
}

/// Both clusters have room for t2's job in an hour. It stays on the one that it was promised.
#[test]
fn what_is_kept_stays_where_it_is_if_it_comes_no_sooner_elsewhere() {
    holds(
        "policy reservations=1 reclaim=off within_team=off
seed 9467
team t0
team t1
team t2
cluster c0 has=cpu:8,jobs:2 labels=zone:z0
cluster c1 has=cpu:7,jobs:2,A100:2 labels=zone:z1
cluster c2 has=cpu:8,jobs:5,A100:2 labels=zone:z0
queue wide team=t2 asks=cpu:8 avoid=c1 priority=-10 age=1m
queue long team=t0 asks=cpu:1 run=2h expected=1h age=2m
queue none team=t0 asks=cpu:0 only=c0 age=3m
queue east team=t0 asks=cpu:1 labels=zone:z1 age=4m
queue slow team=t0 asks=cpu:1 labels=zone:z1 run=2h expected=1h age=5m
queue low team=t0 asks=cpu:1 priority=-10 age=6m
running a team=t0 cluster=c2 asks=cpu:1 priority=-10 expected=0s
running b team=t0 cluster=c0 asks=cpu:1 priority=-10",
    );
}

/// t2 stays within its own quota whatever t0 borrows in their cohort. If it went before t0 only as long as t0's other jobs
/// are stopped, these would come back and be stopped again, over and over.
#[test]
fn an_owner_is_one_whatever_its_siblings_borrow() {
    holds(
        "policy placements=1000 reservations=1 reclaim=off half_life=24h
seed 140492
cohort k0 weight=2
cohort k1 parent=k0
team t0 cohort=k1
team t1
team t2 cohort=k1 quota=jobs:4
cluster c0 has=cpu:10,jobs:17,A100:2
cluster c1 has=cpu:6,gpu:2,jobs:8,A100:1
queue two team=t2 asks=cpu:2,gpu:1 run=2h priority=10 age=29m
queue two team=t2 asks=cpu:2,gpu:1 run=2h priority=0 age=61m
queue head team=t0 asks=cpu:4,A100:1 run=4h priority=10 age=57m
running unlisted team=t0 cluster=c0 asks=cpu:3 priority=10 ends=9h
running a team=t0 cluster=c0 asks=cpu:1 priority=0 ends=5h expected=4h
running b team=t2 cluster=c1 asks=cpu:1 priority=10 since=4h ends=4h expected=1h
running c team=t0 cluster=c1 asks=cpu:2 priority=-10 since=1h ends=2h expected=1h
running d team=t0 cluster=c0 asks=cpu:1 priority=0 since=4h expected=0s
running e team=t1 cluster=c1 asks=cpu:2 priority=-10 since=4h ends=2h",
    );
}

/// t1's head is given room, but has its turn at once, because of what stops for t2 then: it keeps none in the end.
#[test]
fn a_head_that_has_its_turn_after_all_keeps_no_room() {
    holds(
        "policy placements=1 reservations=1 reclaim=off
team t0
team t1
team t2
cluster c0 has=cpu:6,jobs:4
cluster c1 has=cpu:2,jobs:1 state=drained
cluster c2 has=cpu:2,jobs:1 state=drained
queue one team=t1 asks=cpu:1 avoid=c1 age=55m
queue wide team=t0 asks=cpu:4 age=56m
queue two team=t2 asks=cpu:1 age=1m
running a team=t1 cluster=c0 asks=cpu:2 priority=-10 ends=3h
running b team=t2 cluster=c0 asks=cpu:2 priority=-10
running c team=t0 cluster=c0 asks=cpu:1 priority=-10
running d team=t0 cluster=c0 asks=cpu:1 priority=-10 leaving",
    );
}

/// Room of t3's cluster is short, and its quota has room for one such job: that is no job that goes before it.
#[test]
fn nobody_is_held_by_room_that_is_kept_for_himself() {
    holds(
        "policy placements=1 reservations=1
team t0
team t3 quota=cpu:4
cluster c0 has=cpu:4,jobs:1
queue job team=t3 asks=cpu:3 run=2h expected=1h priority=-10 age=1m
running a team=t0 cluster=c0 asks=cpu:1 priority=-10 expected=0s",
    );
}
