//! The board: one table of situations, and a random walk held to what must never happen.

use std::time::Duration;

use yard_domain::{InstanceId, JobId};

use super::*;

const T0: Timestamp = Timestamp::from_micros(1_000_000_000);
const LATER: Timestamp = Timestamp::from_micros(2_000_000_000);
const AGAIN: Duration = Duration::from_secs(30);

fn r(n: u8) -> AttemptRef {
    AttemptRef { job: JobId::new(1, [n; 10]), attempt: AttemptNumber(1) }
}

fn remote(r: AttemptRef, status: RemoteStatus) -> RemoteJob {
    let instance = Some(InstanceId(r.job.0));
    RemoteJob { name: RemoteName::new(r.job, r.attempt), instance, status }
}

fn found(r: AttemptRef, state: StateName, stop_requested: bool) -> ActiveAttempt {
    let team = "ads".parse().unwrap();
    ActiveAttempt {
        job: r.job,
        attempt: r.attempt,
        team,
        state,
        deadline: LATER,
        stopping: stop_requested.then_some(StopCause::Requested),
    }
}

fn class(actions: &[Action]) -> FailureClass {
    match actions {
        [Action::RecordEnd(_, AttemptEnd::Failed(f))] => f.class,
        other => panic!("one failed end expected: {other:?}"),
    }
}

#[test]
fn a_launch_runs_to_its_end_and_is_recorded_once() {
    let mut board = Board::default();
    board.launch_begun(r(1), LATER);
    assert_eq!(board.calls_in_flight(), 1);
    assert!(board.observe_all(vec![]).is_empty(), "a call that is out may not be in the list yet");
    assert!(board.launch_answered(r(1), Some(Ok(None))).is_empty());
    assert_eq!(board.calls_in_flight(), 0);
    assert_eq!(board.observe(remote(r(1), RemoteStatus::Running)), [Action::RecordStart(r(1))]);
    assert!(board.observe(remote(r(1), RemoteStatus::Running)).is_empty());
    let ended = board.observe(remote(r(1), RemoteStatus::Succeeded));
    assert_eq!(ended, [Action::RecordEnd(r(1), AttemptEnd::Succeeded)]);
    assert!(board.observe(remote(r(1), RemoteStatus::Succeeded)).is_empty(), "an end is reported once");
    board.settled(r(1));
    assert!(board.is_empty());
}

#[test]
fn an_observation_may_overtake_the_answer_of_the_call() {
    let mut board = Board::default();
    board.launch_begun(r(1), LATER);
    assert_eq!(board.observe(remote(r(1), RemoteStatus::Succeeded)).len(), 1);
    assert_eq!(board.calls_in_flight(), 1, "the call has not come back");
    assert!(board.launch_answered(r(1), Some(Ok(None))).is_empty());
    assert_eq!(board.calls_in_flight(), 0);
}

#[test]
fn what_runs_and_vanishes_is_lost_and_what_was_just_launched_has_a_few_lists_time() {
    let mut board = Board::default();
    board.adopt(&found(r(1), StateName::Running, false));
    assert_eq!(class(&board.observe_all(vec![])), FailureClass::Lost);
    board.launch_begun(r(2), LATER);
    board.launch_answered(r(2), Some(Ok(None)));
    assert!(board.observe_all(vec![]).is_empty());
    assert!(board.observe_all(vec![]).is_empty());
    assert_eq!(class(&board.observe_all(vec![])), FailureClass::Lost);
}

#[test]
fn taken_over_launches_are_called_again_unless_they_are_there() {
    let mut board = Board::default();
    board.adopt(&found(r(1), StateName::Launching, false));
    board.adopt(&found(r(2), StateName::Launching, false));
    board.adopt(&found(r(3), StateName::Launching, true));
    let mut actions = board.observe_all(vec![remote(r(1), RemoteStatus::Running)]);
    actions.sort_by_key(|a| format!("{a:?}"));
    assert_eq!(actions, [Action::RecordStart(r(1)), Action::Relaunch(r(2)), Action::Stop(r(3))]);
    board.relaunched(r(2));
    assert_eq!(board.calls_in_flight(), 1);
    let stopped = board.stop_answered(r(3), &Err(DriverError::NotFound), T0);
    assert_eq!(stopped, [Action::RecordEnd(r(3), AttemptEnd::Stopped)]);
}

#[test]
fn taken_over_launches_that_were_made_but_are_not_under_way_are_called_again_once() {
    let mut board = Board::default();
    board.adopt(&found(r(1), StateName::Launching, false));
    board.adopt(&found(r(2), StateName::Launching, true));
    let pending = |n| remote(r(n), RemoteStatus::Pending);
    let mut actions = board.observe_all(vec![pending(1), pending(2)]);
    actions.sort_by_key(|a| format!("{a:?}"));
    assert_eq!(actions, [Action::Relaunch(r(1)), Action::Stop(r(2))]);
    assert!(board.owes_call(r(1)) && !board.owes_call(r(2)));
    board.relaunched(r(1));
    assert!(!board.owes_call(r(1)) && board.observe(pending(1)).is_empty());
    assert!(board.launch_answered(r(1), Some(Ok(Some(RemoteStatus::Pending)))).is_empty());
    assert!(!board.owes_call(r(1)) && board.observe(pending(1)).is_empty(), "the cluster has its word");
}

#[test]
fn wishes_end_what_was_not_sent_and_stop_what_was() {
    let mut board = Board::default();
    assert_eq!(
        board.stop_wish(r(9), StopCause::Requested),
        [Action::RecordEnd(r(9), AttemptEnd::Stopped)],
        "placed, not launched"
    );
    board.launch_begun(r(1), LATER);
    assert_eq!(board.stop_wish(r(1), StopCause::Requested), [Action::CancelLaunch(r(1))]);
    assert_eq!(board.launch_answered(r(1), None), [Action::RecordEnd(r(1), AttemptEnd::Stopped)]);
    board.launch_begun(r(2), LATER);
    board.stop_wish(r(2), StopCause::Requested);
    assert_eq!(board.launch_answered(r(2), Some(Ok(None))), [Action::Stop(r(2))], "it had been sent");
    assert!(board.stop_answered(r(2), &Ok(()), T0).is_empty());
    let end = board.observe(remote(r(2), RemoteStatus::Stopped));
    assert_eq!(end, [Action::RecordEnd(r(2), AttemptEnd::Stopped)]);
    board.adopt(&found(r(3), StateName::Running, false));
    assert_eq!(board.stop_wish(r(3), StopCause::Requested), [Action::Stop(r(3))]);
    let end = board.observe(remote(r(3), RemoteStatus::Succeeded));
    assert_eq!(end, [Action::RecordEnd(r(3), AttemptEnd::Succeeded)], "it was faster than the stop");
}

#[test]
fn who_makes_room_ends_as_preempted_and_a_persons_wish_outranks_it() {
    let mut board = Board::default();
    let placed = board.stop_wish(r(9), StopCause::Preempted);
    assert_eq!(class(&placed), FailureClass::Preempted, "placed, not launched");
    board.adopt(&found(r(1), StateName::Running, false));
    assert_eq!(board.stop_wish(r(1), StopCause::Preempted), [Action::Stop(r(1))]);
    assert!(board.stop_answered(r(1), &Ok(()), T0).is_empty());
    assert!(board.stop_wish(r(1), StopCause::Preempted).is_empty(), "asked once");
    let end = board.observe(remote(r(1), RemoteStatus::Stopped));
    assert_eq!(class(&end), FailureClass::Preempted);
    board.launch_begun(r(2), LATER);
    assert_eq!(board.stop_wish(r(2), StopCause::Preempted), [Action::CancelLaunch(r(2))]);
    assert_eq!(class(&board.launch_answered(r(2), None)), FailureClass::Preempted);
    board.adopt(&ActiveAttempt {
        stopping: Some(StopCause::Preempted),
        ..found(r(3), StateName::Running, false)
    });
    board.stop_wish(r(3), StopCause::Requested);
    assert!(board.stop_wish(r(3), StopCause::Preempted).is_empty());
    let end = board.observe(remote(r(3), RemoteStatus::Stopped));
    assert_eq!(end, [Action::RecordEnd(r(3), AttemptEnd::Stopped)], "somebody wants it stopped for good");
}

#[test]
fn clocks_stop_the_attempt_before_it_counts_as_failed() {
    let mut board = Board::default();
    board.adopt(&found(r(1), StateName::Running, false));
    assert!(board.due(T0, AGAIN).is_empty());
    assert_eq!(board.due(LATER, AGAIN), [Action::Stop(r(1))]);
    board.stop_answered(r(1), &Ok(()), LATER);
    assert!(board.due(LATER, AGAIN).is_empty(), "asked already");
    assert_eq!(board.due(LATER.plus(AGAIN), AGAIN), [Action::Stop(r(1))], "asked in vain");
    assert_eq!(class(&board.observe(remote(r(1), RemoteStatus::Stopped))), FailureClass::RunTimeout);
    board.launch_begun(r(2), LATER);
    assert!(board.due(LATER, AGAIN).is_empty(), "its call is still out");
    board.launch_answered(r(2), Some(Err(DriverError::Unclear("cut".into()))));
    assert_eq!(board.due(LATER, AGAIN), [Action::Stop(r(2))]);
    let end = board.stop_answered(r(2), &Err(DriverError::NotFound), LATER);
    assert_eq!(class(&end), FailureClass::Launch);
}

#[test]
fn stopped_by_somebody_else_is_told_apart() {
    let mut board = Board::default();
    board.adopt(&found(r(1), StateName::Running, false));
    assert_eq!(class(&board.observe(remote(r(1), RemoteStatus::Stopped))), FailureClass::StoppedRemotely);
}

#[test]
fn a_refusal_ends_it_and_unclear_answers_wait_for_the_deadline() {
    let mut board = Board::default();
    board.launch_begun(r(1), LATER);
    let refused = board.launch_answered(r(1), Some(Err(DriverError::Refused("bad".into()))));
    assert_eq!(class(&refused), FailureClass::Refused);
    board.launch_begun(r(2), LATER);
    assert!(board.launch_answered(r(2), Some(Err(DriverError::Unreachable("no".into())))).is_empty());
}

#[test]
fn silence_beyond_the_grace_loses_what_is_open_but_not_calls_that_are_out() {
    let mut board = Board::default();
    board.adopt(&found(r(1), StateName::Running, false));
    board.adopt(&found(r(2), StateName::Running, true));
    board.launch_begun(r(3), LATER);
    let mut actions = board.lose(10);
    actions.sort_by_key(|a| format!("{a:?}"));
    assert_eq!(actions.len(), 2);
    assert!(actions.contains(&Action::RecordEnd(r(2), AttemptEnd::Stopped)));
    assert!(board.lose(10).is_empty());
}

#[test]
fn strangers_are_checked_against_the_store() {
    let mut board = Board::default();
    let stranger = remote(r(1), RemoteStatus::Running);
    assert_eq!(board.observe(stranger.clone()), [Action::CheckOrphan(stranger)]);
    let old = remote(AttemptRef { attempt: AttemptNumber(1), ..r(2) }, RemoteStatus::Running);
    board.adopt(&ActiveAttempt { attempt: AttemptNumber(2), ..found(r(2), StateName::Running, false) });
    assert_eq!(
        board.observe(old.clone()),
        [Action::CheckOrphan(old)],
        "an earlier attempt is not the current one"
    );
}

#[test]
fn the_full_comparison_repairs_both_ways_and_spares_what_is_under_way() {
    let mut board = Board::default();
    board.adopt(&found(r(1), StateName::Running, false));
    board.adopt(&found(r(2), StateName::Running, false));
    board.launch_begun(r(3), LATER);
    let open = [found(r(4), StateName::Running, false)];
    let repaired = board.compare(&open, |x| x == r(2));
    assert_eq!(repaired, 2);
    assert!(!board.has(r(1)) && board.has(r(2)) && board.has(r(3)) && board.has(r(4)));
}

proptest::proptest! {
    /// Whatever happens in whatever order: an attempt's end is reported at most once, nothing is reported or
    /// stopped for it afterwards, and the count of calls in flight stays true.
    #[test]
    fn ends_are_reported_once(steps in proptest::collection::vec((0u8..10, 0u8..3, 0u8..5), 0..120)) {
        let mut board = Board::default();
        let mut ended = std::collections::HashSet::new();
        let mut out = std::collections::HashSet::new();
        for (what, n, kind) in steps {
            let who = r(n);
            let status = match kind {
                0 => RemoteStatus::Pending,
                1 => RemoteStatus::Running,
                2 => RemoteStatus::Succeeded,
                3 => RemoteStatus::Stopped,
                _ => RemoteStatus::Failed(Failure::new(FailureClass::User, Some(1), "")),
            };
            let actions = match what {
                0 if !board.has(who) && !ended.contains(&who) => { board.launch_begun(who, LATER); out.insert(who); vec![] }
                1 if out.remove(&who) => board.launch_answered(who, (kind > 0).then_some(Ok(None))),
                2 if out.remove(&who) => board.launch_answered(who, Some(Err(DriverError::Unclear(String::new())))),
                3 if !board.has(who) && !ended.contains(&who) => { board.adopt(&found(who, StateName::Launching, kind == 0)); vec![] }
                4 => board.observe(remote(who, status)),
                5 => board.observe_all(if kind == 0 { vec![] } else { vec![remote(who, status)] }),
                6 if board.has(who) => board.stop_wish(who, StopCause::Requested),
                7 => board.due(if kind > 2 { LATER } else { T0 }, AGAIN),
                8 => board.stop_answered(who, &if kind > 1 { Ok(()) } else { Err(DriverError::NotFound) }, T0),
                9 => board.lose(usize::from(kind)),
                _ => vec![],
            };
            for action in actions {
                match action {
                    Action::RecordEnd(x, _) => proptest::prop_assert!(ended.insert(x), "reported twice"),
                    Action::RecordStart(x) | Action::Stop(x) | Action::Relaunch(x) => proptest::prop_assert!(!ended.contains(&x)),
                    Action::CancelLaunch(_) | Action::CheckOrphan(_) => {}
                }
            }
            proptest::prop_assert_eq!(board.calls_in_flight(), out.len());
        }
    }
}
