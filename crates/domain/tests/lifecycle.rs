//! The state machine: random walks over every decision method, held to the table, to the document and to replay.

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use yard_domain::event::{Actor, Event, HistoryLine, ReleaseReason};
use yard_domain::lifecycle::{AttemptEnd, JobState, Lifecycle, TRANSITIONS, TransitionError};
use yard_domain::{
    AttemptNumber, Failure, FailureClass, JobId, LeaseToken, Request, RetryPolicy, RetryRules, StateName,
    TeamId, Timestamp,
};

const T0: Timestamp = Timestamp::from_micros(1_795_386_645_000_000);

fn fresh(max_retries: u32) -> Lifecycle {
    let queue_timeout = Duration::from_mins(1);
    Lifecycle {
        id: JobId::new(1, [1; 10]),
        team: "ads".parse().unwrap(),
        request: Request { cpu_milli: 1, jobs: 1, ..Request::default() },
        retry: RetryPolicy { max_retries },
        queue_timeout,
        run_timeout: Duration::from_mins(2),
        version: 1,
        state: JobState::Queued { not_before: None, deadline: T0.plus(queue_timeout) },
        stop_requested: false,
        preempt_requested: false,
        attempts: 0,
        counts: yard_domain::retry::RetryCounts::default(),
    }
}

fn end(kind: u8) -> AttemptEnd {
    match kind {
        0 => AttemptEnd::Succeeded,
        1 => AttemptEnd::Stopped,
        n => AttemptEnd::Failed(Failure::new(FailureClass::ALL[usize::from(n) % 8], Some(3), "boom")),
    }
}

/// One random call; `arg` chooses leases, attempts, ends.
fn call(job: &Lifecycle, what: u8, arg: u8, now: Timestamp) -> Result<Option<Event>, TransitionError> {
    let token = LeaseToken(i64::from(arg % 2) + 1);
    let attempt = AttemptNumber(job.attempts.saturating_sub(u32::from(arg.is_multiple_of(7))));
    let deadline = now.plus(Duration::from_secs(9));
    match what % 11 {
        0 | 1 => job.claim(token),
        2 => job.release(token, ReleaseReason::NoRoom),
        3 | 4 => job.place(token, "east".parse().unwrap(), deadline),
        5 => job.begin_launch(attempt, LeaseToken(5), deadline),
        6 => job.start(attempt, now),
        7 => job.finish_attempt(attempt, end(arg % 10), &RetryRules::default(), now, 0.5),
        8 => job.expire(now),
        9 => return Ok(job.request_preemption(attempt, "ml".parse().unwrap(), "ml wants its share back")),
        _ => return Ok(if arg < 20 { job.request_stop("why not") } else { job.stop_queued() }),
    }
    .map(Some)
}

/// Walks; returns the history.
fn walk(job: &mut Lifecycle, calls: &[(u8, u8, u64)]) -> Vec<HistoryLine> {
    let mut now = T0;
    let mut lines =
        vec![line(job, None, Event::Accepted { queue_deadline: job.state.deadline().unwrap() }, now)];
    for (what, arg, secs) in calls {
        now = now.plus(Duration::from_secs(*secs));
        let before = job.clone();
        match call(job, *what, *arg, now) {
            Ok(Some(event)) => {
                job.apply(&event).unwrap_or_else(|e| panic!("a decided event must apply: {e}"));
                lines.push(line(job, Some(before.state.name()), event, now));
            }
            Ok(None) | Err(_) => assert_eq!(*job, before),
        }
    }
    lines
}

fn line(job: &Lifecycle, from: Option<StateName>, event: Event, at: Timestamp) -> HistoryLine {
    let actor = Actor("test".into());
    HistoryLine { job: job.id, seq: job.version, at, actor, from, to: job.state.name(), event }
}

fn calls() -> impl Strategy<Value = Vec<(u8, u8, u64)>> {
    prop::collection::vec((any::<u8>(), any::<u8>(), 0u64..20), 0..80)
}

/// What is written on the job and changes no state.
fn is_fact(event: &Event) -> bool {
    matches!(event, Event::StopRequested { .. } | Event::PreemptRequested { .. })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever is called in whatever order: only transitions of the table happen; ends are for good; a state
    /// that is not an end has a clock; an attempt is open exactly in the three states that hold a charge;
    /// sequence numbers have no gap; and the history rebuilds the state, also after storing and reading it.
    #[test]
    fn walks_keep_to_the_rules(calls in calls(), retries in 0u32..3) {
        let mut job = fresh(retries);
        let lines = walk(&mut job, &calls);
        let mut ended = false;
        for (i, l) in lines.iter().enumerate() {
            prop_assert_eq!(l.seq as usize, i + 1);
            prop_assert!(!ended, "nothing happens after the end");
            ended = l.to.is_end();
            let same = is_fact(&l.event) && l.from == Some(l.to);
            prop_assert!(same || TRANSITIONS.contains(&(l.from, l.event.code(), l.to)), "{:?}", l);
            prop_assert_eq!(&Event::read(l.event.code(), &l.event.data()).unwrap(), &l.event);
        }
        let name = job.state.name();
        prop_assert_eq!(job.state.deadline().is_none(), name.is_end());
        let holds = matches!(name, StateName::Placed | StateName::Launching | StateName::Running);
        prop_assert_eq!(job.state.open_attempt().is_some(), holds);
        prop_assert!(holds || name.is_end() || !job.preempt_requested, "only an open attempt makes room");
        prop_assert_eq!(Lifecycle::replay(fresh(retries), &lines).unwrap(), job);
    }

    /// With a wish to stop, no new attempt is ever made.
    #[test]
    fn a_wish_to_stop_is_kept(calls in calls()) {
        let mut job = fresh(9);
        let lines = walk(&mut job, &calls);
        let wish = lines.iter().position(|l| l.event.code() == "stop_requested");
        if let Some(i) = wish {
            prop_assert!(!lines[i..].iter().any(|l| matches!(l.event.code(), "placed" | "launch_begun" | "retried")));
        }
    }
}

/// An attempt is asked once to make room; its job comes back to the queue and pays for nothing.
#[test]
fn who_makes_room_pays_nothing() {
    let mut job = fresh(0);
    let ml: TeamId = "ml".parse().unwrap();
    let token = LeaseToken(1);
    assert_eq!(job.request_preemption(AttemptNumber(0), ml.clone(), "why"), None, "nothing is open");
    for event in [
        job.claim(token).unwrap(),
        Event::Placed { attempt: AttemptNumber(1), cluster: "east".parse().unwrap(), deadline: T0 },
    ] {
        job.apply(&event).unwrap();
    }
    assert_eq!(job.request_preemption(AttemptNumber(2), ml.clone(), "why"), None, "another attempt");
    let asked = job.request_preemption(AttemptNumber(1), ml.clone(), "why").unwrap();
    job.apply(&asked).unwrap();
    assert_eq!(job.request_preemption(AttemptNumber(1), ml, "why"), None, "asked already");
    let failure = Failure::new(FailureClass::Preempted, None, "made room");
    let event = job
        .finish_attempt(AttemptNumber(1), AttemptEnd::Failed(failure), &RetryRules::default(), T0, 0.5)
        .unwrap();
    job.apply(&event).unwrap();
    assert!(matches!(job.state, JobState::Queued { not_before: Some(at), .. } if at == T0), "{job:?}");
    assert!(!job.preempt_requested);
    assert_eq!((job.counts.own, job.counts.infra, job.counts.preempted), (0, 0, 1));
}

/// Every row of the table can happen: none is there for show.
#[test]
fn every_transition_of_the_table_is_reachable() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut seen: BTreeSet<(Option<StateName>, &str, StateName)> = BTreeSet::new();
    for _ in 0..20_000 {
        let calls = calls().new_tree(&mut runner).unwrap().current();
        for l in walk(&mut fresh(1), &calls) {
            if !is_fact(&l.event) {
                seen.insert((l.from, l.event.code(), l.to));
            }
        }
    }
    let table: BTreeSet<_> = TRANSITIONS.iter().copied().collect();
    assert_eq!(seen, table);
}

/// docs/state-machine.md shows this table. `UPDATE_DOCS=1` writes it anew.
#[test]
fn the_document_shows_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/state-machine.md");
    let rows = TRANSITIONS.iter().map(|(from, event, to)| {
        format!("| {} | `{event}` | {} |\n", from.map_or("—", StateName::code), to.code())
    });
    let table = format!("| from | event | to |\n|---|---|---|\n{}", rows.collect::<String>());
    let text = std::fs::read_to_string(path).expect("docs/state-machine.md");
    let (begin, end) = ("<!-- transitions: begin -->\n", "<!-- transitions: end -->");
    let (head, rest) = text.split_once(begin).expect("the begin mark");
    let (old, tail) = rest.split_once(end).expect("the end mark");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{head}{begin}{table}{end}{tail}")).unwrap();
    } else {
        assert_eq!(old, table, "run this test with UPDATE_DOCS=1");
    }
}
