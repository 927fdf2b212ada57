use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;
use yard_domain::event::{Actor, ReleaseReason};
use yard_domain::job::QueueOrder;
use yard_domain::ledger::Drift;
use yard_domain::lifecycle::OpenAttempt;
use yard_domain::retry::{Budget, RetryCounts};
use yard_domain::{
    Account, AccountOwner, AttemptNumber, Capacity, Catalog, Cluster, ClusterHealth, ClusterSwitch, Event,
    Failure, FailureClass, FieldError, HistoryLine, JobId, JobState, LeaseToken, Lifecycle, Limits, Outcome,
    Priority, Receipt, Request, RetryPolicy, Shape, StateName, SubmissionKey, Team, Timestamp, Verdict,
};
use yard_ports::store::{self, QueueStats, WaitNote};

use super::*;

const NOW: Timestamp = Timestamp::from_micros(1_795_386_645_000_123);

fn job(state: JobState, waiting: Option<WaitNote>) -> store::JobView {
    let lifecycle = Lifecycle {
        id: JobId(Uuid::nil()),
        team: "ads".parse().unwrap(),
        request: Request { cpu_milli: 1_500, memory_bytes: 8 << 30, jobs: 1, ..Request::default() },
        retry: RetryPolicy { max_retries: 2 },
        queue_timeout: Duration::from_mins(1),
        run_timeout: Duration::from_mins(2),
        version: 5,
        state,
        stop_requested: false,
        preempt_requested: false,
        attempts: 1,
        counts: RetryCounts { own: 1, infra: 0, preempted: 0 },
    };
    let attempt = store::AttemptView {
        number: AttemptNumber(1),
        cluster: "east".parse().unwrap(),
        placed_at: NOW,
        launched_at: Some(NOW),
        started_at: None,
        ended_at: Some(NOW),
        end: Some("lost".to_owned()),
        message: Some(String::new()),
        exit_code: None,
    };
    store::JobView {
        lifecycle,
        key: "k".to_owned(),
        document: r#"{"v":1,"name":"train","entrypoint":"x"}"#.to_owned(),
        shape: Shape(1),
        order: QueueOrder::new(Priority::new(7).unwrap(), NOW.as_micros()),
        created_at: NOW,
        since: NOW,
        ended_at: None,
        attempts: vec![attempt],
        waiting,
        read_at: NOW,
    }
}

fn note() -> WaitNote {
    WaitNote {
        team: "ads".parse().unwrap(),
        shape: Shape(1),
        code: "full".to_owned(),
        message: "no cluster has room".to_owned(),
        clusters: [("east".parse().unwrap(), "cpu: asks 1.5, 1 free".to_owned())].into(),
        expected_start: None,
    }
}

#[test]
fn a_queued_job_says_why_it_waits() {
    let queued = |not_before| JobState::Queued { not_before, deadline: NOW.plus(Duration::from_mins(1)) };
    let waiting = |state, note| JobView::new(&job(state, note)).unwrap().waiting.map(|w| w.code);
    assert_eq!(waiting(queued(None), Some(note())).as_deref(), Some("full"));
    assert_eq!(waiting(queued(None), None).as_deref(), Some("not_looked_at"));
    assert_eq!(waiting(queued(Some(NOW)), None).as_deref(), Some("not_looked_at"));
    let later = Some(NOW.plus(Duration::from_secs(1)));
    assert_eq!(waiting(queued(later), Some(note())).as_deref(), Some("backoff"));
    assert_eq!(waiting(JobState::Ended(Outcome::Stopped), Some(note())), None);
    let view = JobView::new(&job(queued(None), Some(note()))).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&view).unwrap());
}

#[test]
fn each_state_has_its_clock_and_views_read_back() {
    let attempt = OpenAttempt { number: AttemptNumber(1), cluster: "east".parse().unwrap() };
    let failure = Failure::new(FailureClass::User, Some(3), "boom");
    let states = [
        (JobState::Claimed { lease: LeaseToken(1), queue_deadline: NOW }, Some("queue_timeout")),
        (JobState::Placed { attempt: attempt.clone(), deadline: NOW }, Some("place_deadline")),
        (JobState::Launching { attempt: attempt.clone(), deadline: NOW }, Some("launch_deadline")),
        (JobState::Running { attempt, deadline: NOW }, Some("run_timeout")),
        (JobState::Ended(Outcome::Failed(failure)), None),
    ];
    for (state, clock) in states {
        let view = JobView::new(&job(state, None)).unwrap();
        assert_eq!(view.clock.as_ref().map(|c| c.kind.as_str()), clock);
        assert_eq!(view.summary.has_ended(), clock.is_none());
        assert_eq!(view.summary.failure.is_some(), clock.is_none());
        let text = serde_json::to_string(&view).unwrap();
        assert_eq!(serde_json::from_str::<JobView>(&text).unwrap(), view);
    }
}

#[test]
fn history_is_readable() {
    let failure = Failure::new(FailureClass::User, Some(3), "boom");
    let events = [
        Event::Accepted { queue_deadline: NOW },
        Event::Claimed { lease: LeaseToken(7) },
        Event::Released { reason: ReleaseReason::NoRoom },
        Event::Placed { attempt: AttemptNumber(1), cluster: "east".parse().unwrap(), deadline: NOW },
        Event::LaunchBegun { lease: LeaseToken(8), deadline: NOW },
        Event::Started { deadline: NOW },
        Event::Retried {
            failure: failure.clone(),
            budget: Budget::Own,
            not_before: NOW,
            queue_deadline: NOW,
        },
        Event::StopRequested { reason: "wrong data".to_owned() },
        Event::Ended { outcome: Outcome::Failed(failure) },
    ];
    let line = |(i, event): (usize, Event)| {
        let line = HistoryLine {
            job: JobId(Uuid::nil()),
            seq: u32::try_from(i).unwrap() + 1,
            at: NOW,
            actor: Actor("intake".to_owned()),
            from: (i > 0).then_some(StateName::Queued),
            to: StateName::Queued,
            event,
        };
        let view = LineView::from(&line);
        format!("{}: {} {}\n", view.event, view.message, view.data)
    };
    insta::assert_snapshot!(events.into_iter().enumerate().map(line).collect::<String>());
}

#[test]
fn teams_and_clusters_show_what_is_used_and_free() {
    let ads = AccountOwner::Team("ads".parse().unwrap());
    let east = AccountOwner::Cluster("east".parse().unwrap());
    let used = Request { cpu_milli: 3_000, jobs: 2, ..Request::default() };
    let accounts = [
        Account { owner: east.clone(), used: used.clone(), past: None },
        Account { owner: ads, used: used.clone(), past: None },
    ];
    let quota = Limits { cpu_milli: Some(4_000), jobs: Some(3), ..Limits::default() };
    let team = Team { quota, weight: 2, ..Team::new("ads".parse().unwrap()) };
    let idle = Team::new("idle".parse().unwrap());
    let stats = QueueStats { open: [(("ads".parse().unwrap(), StateName::Queued), 5)].into() };
    let cluster = Cluster {
        elastic: Some(yard_domain::Elastic {
            present: Some(Capacity(Request { cpu_milli: 500, jobs: 10, ..Request::default() })),
            delay: std::time::Duration::from_mins(2),
        }),
        cost_per_hour_micro: Some(1_250_000),
        breaker_open: true,
        recent_failures: 3,
        id: "east".parse().unwrap(),
        driver: "ray".to_owned(),
        labels: [].into(),
        capacity: Some(Capacity(Request {
            cpu_milli: 2_000,
            gpu_milli: 1_000,
            jobs: 10,
            ..Request::default()
        })),
        switch: ClusterSwitch::Drained,
        health: ClusterHealth::Ready,
        last_seen: Some(NOW),
        configured: true,
        message: None,
        ray_profiles: None,
        gpu_blocks: Vec::new(),
    };
    let drift = [Drift { owner: east, stored: used, recomputed: Request::default() }];
    let all = json!([
        TeamList::new(&Catalog::of([team, idle], []), &accounts, &stats),
        ClusterList::new(&[cluster], &accounts),
        AuditView::from(&drift[..]),
        AuditView::from(&[][..]),
    ]);
    insta::assert_snapshot!(serde_json::to_string_pretty(&all).unwrap());
}

#[test]
fn what_is_borrowed_is_lent_by_those_who_have_it_to_spare() {
    let gpus = |gpu: u64| Limits { gpu_milli: Some(gpu * 1_000), ..Limits::default() };
    let team = |id: &str, quota: u64| Team {
        cohort: Some("all".parse().unwrap()),
        quota: gpus(quota),
        ..Team::new(id.parse().unwrap())
    };
    let mut catalog =
        Catalog::of([team("a", 4), team("b", 6), team("c", 2), Team::new("alone".parse().unwrap())], []);
    let all = yard_domain::Cohort::new("all".parse().unwrap());
    catalog.cohorts = vec![yard_domain::Cohort { quota: gpus(4), ..all }];
    let account = |id: &str, gpu: u64| Account {
        owner: AccountOwner::Team(id.parse().unwrap()),
        used: Request { gpu_milli: gpu * 1_000, jobs: gpu, ..Request::default() },
        past: None,
    };
    // a has 6 more than its 4; b could spare 6, c 2, the cohort itself 4.
    let accounts = [account("a", 10), account("alone", 3)];
    let list = TeamList::new(&catalog, &accounts, &QueueStats::default());
    let shown: Vec<_> = list.teams.iter().map(|t| (t.id.as_str(), t.borrowed.gpu, t.lent.gpu)).collect();
    assert_eq!(shown, [("a", 6.0, 0.0), ("b", 0.0, 3.0), ("c", 0.0, 1.0), ("alone", 0.0, 0.0)]);
    assert_eq!(list.teams[0].borrowed.jobs, 0, "nobody governs jobs there");
}

#[test]
fn receipts_and_problems_name_each_field() {
    let error = FieldError { field: "team".to_owned(), code: "missing", message: "must be there".to_owned() };
    let receipt = |verdict| Receipt {
        key: SubmissionKey { team: "ads".to_owned(), key: "k".to_owned() },
        verdict,
        source: "http".to_owned(),
        message_id: "r-1".to_owned(),
        at: NOW,
        conflicts: vec![(NOW, "r-2".to_owned())],
    };
    let mut problem = Problem::new(ProblemCode::Rejected, "1 error");
    problem.errors = vec![FieldProblem::from(&error)];
    let all = json!([
        ReceiptView::from(&receipt(Verdict::Rejected(vec![error]))),
        ReceiptView::from(&receipt(Verdict::Accepted { job: JobId(Uuid::nil()), first: true })),
        problem,
    ]);
    insta::assert_snapshot!(serde_json::to_string_pretty(&all).unwrap());
    for code in ProblemCode::ALL {
        assert_eq!(ProblemCode::from_code(code.parts().0), Some(code));
    }
}

proptest! {
    #[test]
    fn times_read_back(micros in -62_000_000_000_000_000i64..250_000_000_000_000_000) {
        let at = Timestamp::from_micros(micros);
        prop_assert_eq!(parse_time(&time_text(at)), Some(at));
    }

    #[test]
    fn no_text_is_a_time_by_accident(text in "[0-9TZ:.é-]{0,30}") {
        if let Some(at) = parse_time(&text) {
            prop_assert_eq!(time_text(at), text);
        }
    }
}

#[test]
fn no_impossible_day_is_a_time() {
    for bad in [
        "2026-02-30T00:00:00.000000Z",
        "2026-13-01T00:00:00.000000Z",
        "2026-01-01T24:00:00.000000Z",
        "2026-01-01",
    ] {
        assert_eq!(parse_time(bad), None, "{bad}");
    }
}
