//! Of jobs, their events and receipts.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use yard_wire::Submission;
use yard_wire::submission::{Memory, Resources, Retry, Timeouts};
use yard_wire::views::{
    AheadView, Amounts, AttemptView, BulkAnswer, BulkRequest, BulkVerdict, ChangeView, Clock,
    ClusterAnswerView, EndingView, EventView, ExpectedStartView, ExplanationView, FieldProblem, HistoryView,
    JobList, JobSummary, JobView, LineView, PositionView, ReceiptView, RetriesView, SearchView,
    StopAnswerView, StopRequest, Submitted, Waiting,
};

use super::{CLUSTER, Example, JOB, KEY, LATER, NOW, TEAM, TEXT, json_of, text_of};

/// Of what is sent.
pub(super) fn bodies(operation: &str) -> Vec<Example> {
    let least = Submission { key: Some("hello-1".to_owned()), ..Submission::new(TEAM, "echo hello") };
    match operation {
        "submit_job" => vec![
            json_of("The least that makes sense", &least),
            json_of("With resources, retries and clocks", &submission()),
        ],
        "submit_jobs" => vec![json_of("Two jobs", &BulkRequest { jobs: vec![least, submission()] })],
        "stop_job" => vec![json_of("With a reason", &StopRequest { reason: "wrong input data".to_owned() })],
        _ => Vec::new(),
    }
}

/// Of what is answered.
pub(super) fn answers(operation: &str, status: &str) -> Vec<Example> {
    match (operation, status) {
        ("submit_job", "201") => vec![json_of("A new job", &submitted(true, false))],
        ("submit_job", "200") => vec![json_of("It came before", &submitted(false, false))],
        ("submit_job", "202") => vec![json_of("Kept until the database is back", &submitted(true, true))],
        ("submit_jobs", "200") => vec![json_of("One accepted, one rejected", &bulk())],
        ("submit_jobs", "202") => vec![json_of("Kept until the database is back", &kept_bulk())],
        ("list_jobs", "200") => vec![json_of("A page that is not the last", &list())],
        ("get_job", "200") => {
            vec![json_of("It waits", &waiting_job()), json_of("It runs", &running_job())]
        }
        ("explain_job", "200") => vec![json_of("Held by a full cluster", &explanation())],
        ("job_history", "200") => {
            let history = HistoryView { id: JOB.to_owned(), lines: lines(), next: None };
            vec![json_of("Accepted and placed", &history)]
        }
        ("follow_events", "200") => vec![stream("Of two jobs", true)],
        ("follow_job_events", "200") => vec![stream("From its first line on", false)],
        ("job_logs", "200") => vec![text_of(TEXT, "A short log", "step 1\nstep 2\ndone\n")],
        ("job_logs", "206") => vec![text_of(TEXT, "The last bytes", "done\n")],
        ("stop_job", "200") => vec![json_of("It had not begun", &stopped("stopped", Some("stopped")))],
        ("stop_job", "202") => vec![json_of("It runs", &stopped("requested", None))],
        ("get_receipt", "200") => {
            vec![json_of("Accepted", &receipt(true)), json_of("Rejected", &receipt(false))]
        }
        _ => Vec::new(),
    }
}

fn submission() -> Submission {
    Submission {
        key: Some(KEY.to_owned()),
        name: Some("nightly training".to_owned()),
        resources: Some(Resources {
            cpu: Some(2.0),
            gpu: Some(1.0),
            memory: Some(Memory::Text("8GiB".to_owned())),
            custom: None,
        }),
        retry: Some(Retry { max_retries: Some(2) }),
        timeouts: Some(Timeouts { queue_s: Some(86_400), run_s: Some(21_600) }),
        metadata: Some([("dag".to_owned(), "nightly".to_owned())].into()),
        ..Submission::new(TEAM, "python train.py")
    }
}

fn submitted(created: bool, pending: bool) -> Submitted {
    Submitted { id: JOB.to_owned(), team: TEAM.to_owned(), key: KEY.to_owned(), created, pending }
}

pub(super) fn never_fits() -> FieldProblem {
    FieldProblem {
        field: "resources.gpu".to_owned(),
        code: "never_fits".to_owned(),
        message: "asks for 64, and the largest cluster that it may run on has 8".to_owned(),
        line: None,
    }
}

fn bulk() -> BulkAnswer {
    let accepted = BulkVerdict {
        verdict: "accepted".to_owned(),
        team: TEAM.to_owned(),
        key: "hello-1".to_owned(),
        job: Some(JOB.to_owned()),
        errors: Vec::new(),
        retry_after_s: None,
    };
    let rejected = BulkVerdict {
        verdict: "rejected".to_owned(),
        key: KEY.to_owned(),
        job: None,
        errors: vec![never_fits()],
        ..accepted.clone()
    };
    BulkAnswer { verdicts: vec![accepted, rejected] }
}

fn kept_bulk() -> BulkAnswer {
    let kept = |verdict: BulkVerdict| BulkVerdict { verdict: "pending".to_owned(), ..verdict };
    BulkAnswer { verdicts: bulk().verdicts.into_iter().take(1).map(kept).collect() }
}

pub(super) fn amounts() -> Amounts {
    Amounts { cpu: 2.0, gpu: 1.0, memory_bytes: 8 << 30, jobs: 1, custom: BTreeMap::new() }
}

fn summary(state: &str) -> JobSummary {
    let runs = state == "running";
    JobSummary {
        id: JOB.to_owned(),
        team: TEAM.to_owned(),
        key: KEY.to_owned(),
        name: "nightly training".to_owned(),
        state: state.to_owned(),
        since: NOW.to_owned(),
        created_at: NOW.to_owned(),
        cluster: runs.then(|| CLUSTER.to_owned()),
        attempt: u32::from(runs),
        resources: amounts(),
        stop_requested: false,
        failure: None,
    }
}

fn list() -> JobList {
    JobList { now: NOW.to_owned(), jobs: vec![summary("running")], next: Some(JOB.to_owned()) }
}

fn waiting_job() -> JobView {
    JobView {
        summary: summary("queued"),
        priority: 0,
        ended_at: None,
        waiting: Some(Waiting {
            code: "no_cluster".to_owned(),
            message: "no cluster has room now".to_owned(),
            clusters: [(CLUSTER.to_owned(), "full: 2 cpu asked, 1 free".to_owned())].into(),
            expected_start: Some(LATER.to_owned()),
        }),
        clock: Some(Clock { kind: "queue_timeout".to_owned(), at: LATER.to_owned() }),
        retries: RetriesView { own: 0, own_max: 2, infra: 0, preempted: 0 },
        attempts: Vec::new(),
        spec: json!(submission()),
    }
}

fn running_job() -> JobView {
    let attempt = AttemptView {
        number: 1,
        cluster: CLUSTER.to_owned(),
        remote_name: format!("yard-{}-1", JOB.replace('-', "")),
        placed_at: NOW.to_owned(),
        launched_at: Some(NOW.to_owned()),
        started_at: Some(NOW.to_owned()),
        ended_at: None,
        end: None,
        message: None,
        exit_code: None,
    };
    JobView {
        summary: summary("running"),
        waiting: None,
        clock: Some(Clock { kind: "run_timeout".to_owned(), at: LATER.to_owned() }),
        attempts: vec![attempt],
        ..waiting_job()
    }
}

pub(super) fn full() -> ClusterAnswerView {
    ClusterAnswerView {
        cluster: CLUSTER.to_owned(),
        code: "full".to_owned(),
        message: "full: 2 cpu asked, 1 free".to_owned(),
    }
}

pub(super) fn job_ends() -> ChangeView {
    ChangeView {
        code: "job_ends".to_owned(),
        message: "once a job on east has ended".to_owned(),
        placed_on: Some(CLUSTER.to_owned()),
        expected: Some(LATER.to_owned()),
        jobs: vec![EndingView {
            job: "019ab3c4-0000-7000-8000-000000000001".to_owned(),
            team: TEAM.to_owned(),
            cluster: CLUSTER.to_owned(),
            expected: LATER.to_owned(),
            by: LATER.to_owned(),
        }],
        ..ChangeView::default()
    }
}

pub(super) fn older() -> AheadView {
    AheadView {
        team: TEAM.to_owned(),
        jobs: 1,
        code: "older".to_owned(),
        message: "came before it".to_owned(),
    }
}

fn explanation() -> ExplanationView {
    ExplanationView {
        now: NOW.to_owned(),
        job: JOB.to_owned(),
        team: TEAM.to_owned(),
        state: "queued".to_owned(),
        since: NOW.to_owned(),
        code: "no_cluster".to_owned(),
        message: "no cluster has room now".to_owned(),
        summary: "no cluster has room now; it would start once a job on east has ended".to_owned(),
        cluster: None,
        position: Some(PositionView { ahead: 1, ahead_same_shape: 1 }),
        changes: vec![job_ends()],
        clusters: vec![full()],
        ahead: vec![older()],
        expected_start: Some(ExpectedStartView {
            code: "forecast".to_owned(),
            message: format!("expected at {LATER} on {CLUSTER}"),
            at: Some(LATER.to_owned()),
            after: Some(LATER.to_owned()),
            cluster: Some(CLUSTER.to_owned()),
            past_error: None,
        }),
        reservation: None,
        making_room: Vec::new(),
        search: Some(SearchView { plans: 12, cut_short: false }),
    }
}

fn line(seq: u32, from: Option<&str>, to: &str, event: &str, message: &str, data: Value) -> LineView {
    LineView {
        seq,
        at: NOW.to_owned(),
        actor: if seq == 1 { "nightly batch (token 0f3a9c0d5e6b7182)" } else { "scheduler" }.to_owned(),
        from: from.map(str::to_owned),
        to: to.to_owned(),
        event: event.to_owned(),
        message: message.to_owned(),
        data,
    }
}

fn lines() -> Vec<LineView> {
    let accepted = format!("accepted; may wait until {LATER}");
    vec![
        line(1, None, "queued", "accepted", &accepted, json!({"queue_deadline": LATER})),
        line(
            2,
            Some("queued"),
            "claimed",
            "claimed",
            "a scheduler took it in hand (lease 7)",
            json!({"lease": 7}),
        ),
    ]
}

fn stream(shows: &'static str, of_all: bool) -> Example {
    let mut text = "retry: 1000\n\n".to_owned();
    for (line, pos) in lines().into_iter().zip(4711_u64..) {
        let id = if of_all { pos } else { line.seq.into() };
        let event = EventView { id: of_all.then_some(pos), job: JOB.to_owned(), team: TEAM.to_owned(), line };
        text.push_str(&String::from_utf8_lossy(&crate::feed::sse(&id.to_string(), &event)));
    }
    text_of("text/event-stream", shows, text)
}

fn stopped(answer: &str, state: Option<&str>) -> StopAnswerView {
    StopAnswerView { id: JOB.to_owned(), answer: answer.to_owned(), state: state.map(str::to_owned) }
}

fn receipt(accepted: bool) -> ReceiptView {
    ReceiptView {
        team: TEAM.to_owned(),
        key: KEY.to_owned(),
        verdict: if accepted { "accepted" } else { "rejected" }.to_owned(),
        job: accepted.then(|| JOB.to_owned()),
        errors: if accepted { Vec::new() } else { vec![never_fits()] },
        source: "http".to_owned(),
        message_id: "7b0f1d2e-3c4b-4a59-8d6e-9f0a1b2c3d4e".to_owned(),
        at: NOW.to_owned(),
        conflicts: Vec::new(),
    }
}
