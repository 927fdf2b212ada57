//! Tables and texts for people.

mod explain;

use std::fmt::Write;
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use yard_domain::Timestamp;
use yard_domain::resources::show_quantity;
use yard_wire::views::{
    Amounts, AuditLog, AuditView, CatalogAnswer, CatalogVersionList, ClusterList, ClusterView, DeliveryList,
    GpuBlocksView, JobList, JobView, LineView, Quota, ReceiptView, StopAnswerView, TeamList, TokenList,
    parse_time,
};

pub use explain::{explanation, team_explanation};

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    table
}

/// Control characters in what came from outside must not reach the terminal.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// How long ago that was.
fn age(from: &str, now: Option<Timestamp>) -> String {
    let (Some(from), Some(now)) = (parse_time(from), now) else { return "?".to_owned() };
    span(now.since(from))
}

/// `3s`, `5m`, `2h`, `4d`.
fn span(span: Duration) -> String {
    let s = span.as_secs();
    match s {
        0..120 => format!("{s}s"),
        120..7_200 => format!("{}m", s / 60),
        7_200..172_800 => format!("{}h", s / 3_600),
        _ => format!("{}d", s / 86_400),
    }
}

/// A page of jobs.
pub fn jobs(list: &JobList) -> String {
    let now = parse_time(&list.now);
    let mut t = table(&["ID", "TEAM", "NAME", "STATE", "SINCE", "AGE", "CLUSTER", "ATTEMPT"]);
    for j in &list.jobs {
        let state = if j.stop_requested && !j.has_ended() {
            format!("{} (stopping)", j.state)
        } else {
            j.state.clone()
        };
        t.add_row([
            j.id.clone(),
            j.team.clone(),
            clean(&j.name).chars().take(40).collect(),
            state,
            age(&j.since, now),
            age(&j.created_at, now),
            j.cluster.clone().unwrap_or_else(|| "-".to_owned()),
            j.attempt.to_string(),
        ]);
    }
    if list.jobs.is_empty() { "no jobs".to_owned() } else { t.trim_fmt() }
}

/// One job, whole.
pub fn job(view: &JobView) -> String {
    let j = &view.summary;
    let mut out = String::new();
    let mut line = |name: &str, value: &str| _ = writeln!(out, "{name:<10} {}", clean(value));
    line("id", &j.id);
    line("team", &j.team);
    line("key", &j.key);
    line("name", &j.name);
    line("state", &format!("{} since {}", j.state, j.since));
    if let Some(failure) = &j.failure {
        let code = failure.exit_code.map(|c| format!(" (exit {c})")).unwrap_or_default();
        line("failure", &format!("{}{code}: {}", failure.class, failure.message));
    }
    if j.stop_requested && !j.has_ended() {
        line("stop", "requested");
    }
    if let Some(clock) = &view.clock {
        line("clock", &format!("{} at {}", clock.kind, clock.at));
    }
    line("resources", &amounts(&j.resources));
    line("priority", &view.priority.to_string());
    line("accepted", &j.created_at);
    let r = &view.retries;
    line(
        "retries",
        &format!("{} of {} own, {} infrastructure, {} preempted", r.own, r.own_max, r.infra, r.preempted),
    );
    if let Some(waiting) = &view.waiting {
        line("waiting", &format!("{} ({})", waiting.message, waiting.code));
        if let Some(at) = &waiting.expected_start {
            line("", &format!("the first job of its shape is expected to start at {at}"));
        }
        line("", &format!("what would change it: yard explain {}", j.id));
        for (cluster, why) in &waiting.clusters {
            line("", &format!("{cluster}: {why}"));
        }
    }
    if let Some(entrypoint) = view.spec["entrypoint"].as_str() {
        line("command", entrypoint);
    }
    if !view.attempts.is_empty() {
        let mut t = table(&["ATTEMPT", "CLUSTER", "PLACED", "STARTED", "ENDED", "END", "MESSAGE"]);
        for a in &view.attempts {
            let dash = |v: &Option<String>| v.clone().unwrap_or_else(|| "-".to_owned());
            t.add_row([
                a.number.to_string(),
                a.cluster.clone(),
                a.placed_at.clone(),
                dash(&a.started_at),
                dash(&a.ended_at),
                dash(&a.end),
                clean(a.message.as_deref().unwrap_or("-")).chars().take(100).collect(),
            ]);
        }
        _ = write!(out, "\n{}", t.trim_fmt());
    }
    out.trim_end().to_owned()
}

/// One line on a job that has ended.
pub fn ended(view: &JobView) -> String {
    let j = &view.summary;
    let why =
        j.failure.as_ref().map(|f| format!(" ({}: {})", f.class, clean(&f.message))).unwrap_or_default();
    format!("{} {}{why}", j.id, j.state)
}

/// What happened to a job.
pub fn history(lines: &[LineView]) -> String {
    let mut t = table(&["SEQ", "AT", "FROM", "TO", "EVENT", "WHO", "WHAT"]);
    for l in lines {
        t.add_row([
            l.seq.to_string(),
            l.at.clone(),
            l.from.clone().unwrap_or_else(|| "-".to_owned()),
            l.to.clone(),
            l.event.clone(),
            clean(&l.actor),
            clean(&l.message).chars().take(120).collect(),
        ]);
    }
    t.trim_fmt()
}

/// What a stop request met.
pub fn stop_answer(view: &StopAnswerView) -> String {
    match (view.answer.as_str(), &view.state) {
        ("stopped", _) => "stopped".to_owned(),
        ("requested", _) => "stop requested".to_owned(),
        (_, Some(state)) => format!("had already ended: {state}"),
        (other, None) => other.to_owned(),
    }
}

/// What became of a submission.
pub fn receipt(view: &ReceiptView) -> String {
    let mut out = format!(
        "{}/{}: {} at {} through {}",
        view.team,
        clean(&view.key),
        view.verdict,
        view.at,
        view.source
    );
    if let Some(job) = &view.job {
        _ = write!(out, "\njob {job}");
    }
    for e in &view.errors {
        let place = if e.field.is_empty() { "the document" } else { &e.field };
        _ = write!(out, "\n  {}: {}", clean(place), clean(&e.message));
    }
    for c in &view.conflicts {
        _ = write!(
            out,
            "\nanother body under this key arrived at {} (message {})",
            c.at,
            clean(&c.message_id)
        );
    }
    out
}

/// Teams.
pub fn teams(list: &TeamList) -> String {
    let header = ["TEAM", "COHORT", "WEIGHT", "USED", "QUOTA", "MAX", "BORROWED", "LENT", "OPEN JOBS"];
    let mut t = table(&header);
    for team in &list.teams {
        let open: Vec<String> = team.open.iter().map(|(s, n)| format!("{n} {s}")).collect();
        let open = if open.is_empty() { "-".to_owned() } else { open.join(", ") };
        t.add_row([
            team.id.clone(),
            team.cohort.clone().unwrap_or_else(|| "-".to_owned()),
            team.weight.to_string(),
            amounts(&team.used),
            quota(&team.quota),
            quota(&team.max),
            some_amounts(&team.borrowed),
            some_amounts(&team.lent),
            open,
        ]);
    }
    t.trim_fmt()
}

/// Clusters.
pub fn clusters(list: &ClusterList) -> String {
    let header = [
        "CLUSTER", "DRIVER", "HEALTH", "SWITCH", "USED", "CAPACITY", "COST/H", "FAILED", "LABELS", "MESSAGE",
    ];
    let mut t = table(&header);
    for c in &list.clusters {
        let labels: Vec<String> = c.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let failed = match (c.recent_failures, c.breaker_open) {
            (n, true) => format!("{n} (launches held back)"),
            (0, false) => "-".to_owned(),
            (n, false) => n.to_string(),
        };
        t.add_row([
            c.id.clone(),
            c.driver.clone(),
            c.health.clone(),
            c.switch.clone(),
            amounts(&c.used),
            capacity(c) + &scattered(c),
            c.cost_per_hour.map_or_else(|| "-".to_owned(), |cost| cost.to_string()),
            failed,
            labels.join(","),
            clean(c.message.as_deref().unwrap_or("")),
        ]);
    }
    t.trim_fmt()
}

/// What a cluster has; of one that grows, what is there now and up to what.
fn capacity(c: &ClusterView) -> String {
    let known = |a: &Option<Amounts>| a.as_ref().map_or_else(|| "not known yet".to_owned(), amounts);
    match &c.elastic {
        Some(elastic) => format!("{}; grows to {}", known(&elastic.present), known(&c.capacity)),
        None => known(&c.capacity),
    }
}

/// How its GPUs lie on nodes, by kind.
fn scattered(c: &ClusterView) -> String {
    let one = |gpus: &GpuBlocksView| {
        let kind = if gpus.kind.is_empty() { String::new() } else { format!(" {}", clean(&gpus.kind)) };
        format!("; free {} gpu{kind}, largest block {}", gpus.free, gpus.largest_free)
    };
    c.gpus.iter().map(one).collect()
}

/// What a catalog changes, or has changed.
pub fn catalog_answer(answer: &CatalogAnswer) -> String {
    let mut out = String::new();
    for change in &answer.changes {
        _ = writeln!(out, "{}", clean(&change.sentence()));
    }
    let count = match answer.changes.len() {
        0 => "no change".to_owned(),
        1 => "1 change".to_owned(),
        n => format!("{n} changes"),
    };
    _ = match answer.answer.as_str() {
        "applied" => write!(out, "version {} is in force: {count}", answer.version),
        "unchanged" => write!(out, "version {} is this document: nothing to do", answer.version),
        _ => write!(out, "{count} to version {}; nothing has been written", answer.version),
    };
    out
}

/// Versions of the catalog.
pub fn catalog_versions(list: &CatalogVersionList) -> String {
    let mut t = table(&["VERSION", "AT", "BY", "SOURCE"]);
    for v in &list.versions {
        t.add_row([v.version.to_string(), v.at.clone(), clean(&v.by), v.source.clone()]);
    }
    if list.versions.is_empty() { "no catalog has been put in force yet".to_owned() } else { t.trim_fmt() }
}

/// Deliveries that have not arrived.
pub fn deliveries(list: &DeliveryList) -> String {
    let mut t = table(&["TEAM", "SUBSCRIPTION", "EVENT", "STATE", "ATTEMPTS", "SINCE", "WHAT", "LAST ERROR"]);
    for d in &list.deliveries {
        let text =
            |name: &str| d.body.get(name).and_then(serde_json::Value::as_str).unwrap_or("?").to_owned();
        t.add_row([
            d.team.clone(),
            d.subscription.clone(),
            d.id.to_string(),
            d.state.clone(),
            d.attempts.to_string(),
            d.created_at.clone(),
            clean(&format!("{} {}", text("key"), text("event"))),
            clean(d.last_error.as_deref().unwrap_or("-")),
        ]);
    }
    if list.deliveries.is_empty() { "everything has arrived".to_owned() } else { t.trim_fmt() }
}

/// Tokens, without their secrets.
pub fn tokens(list: &TokenList) -> String {
    let mut t = table(&["ID", "NAME", "ROLE", "TEAMS", "EXPIRES", "LAST USED", "REVOKED"]);
    for token in &list.tokens {
        let or = |time: &Option<String>, none: &str| time.clone().unwrap_or_else(|| none.to_owned());
        t.add_row([
            token.id.clone(),
            clean(&token.name),
            token.role.clone(),
            token.teams.join(","),
            or(&token.expires_at, "never"),
            or(&token.last_used_at, "-"),
            or(&token.revoked_at, "-"),
        ]);
    }
    if list.tokens.is_empty() { "there are no tokens".to_owned() } else { t.trim_fmt() }
}

/// Who changed what.
pub fn audit_log(log: &AuditLog) -> String {
    let mut t = table(&["LINE", "AT", "WHO", "FROM", "ACTION", "RESULT", "TARGET"]);
    for line in &log.lines {
        t.add_row([
            line.id.to_string(),
            line.at.clone(),
            clean(&line.actor),
            clean(&line.address),
            clean(&line.action),
            clean(&line.result),
            clean(&line.target),
        ]);
    }
    if log.lines.is_empty() { "nothing has been changed yet".to_owned() } else { t.trim_fmt() }
}

/// Accounts that are wrong.
pub fn drift(audit: &AuditView) -> String {
    let mut t = table(&["KIND", "ID", "STORED", "RECOMPUTED"]);
    for d in &audit.drift {
        t.add_row([d.kind.clone(), d.id.clone(), amounts(&d.stored), amounts(&d.recomputed)]);
    }
    format!("the ledger has drifted:\n{}", t.trim_fmt())
}

fn amounts(a: &Amounts) -> String {
    let custom = a.custom.iter().map(|(n, v)| (n.clone(), *v));
    let list = [("cpu", a.cpu), ("gpu", a.gpu)].into_iter().map(|(n, v)| (n.to_owned(), v)).chain(custom);
    let mut parts: Vec<String> = list.filter(|(_, v)| *v > 0.0).map(|(n, v)| format!("{n} {v}")).collect();
    if a.memory_bytes > 0 {
        parts.push(format!("memory {}", show_quantity("memory", a.memory_bytes)));
    }
    if a.jobs > 0 || parts.is_empty() {
        parts.push(format!("{} job{}", a.jobs, if a.jobs == 1 { "" } else { "s" }));
    }
    parts.join(", ")
}

/// As [`amounts`], where nothing is the normal case.
fn some_amounts(a: &Amounts) -> String {
    if *a == Amounts::default() { "-".to_owned() } else { amounts(a) }
}

fn quota(q: &Quota) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(q.cpu.map(|v| format!("cpu {v}")));
    parts.extend(q.gpu.map(|v| format!("gpu {v}")));
    parts.extend(q.memory_bytes.map(|v| format!("memory {}", show_quantity("memory", v))));
    parts.extend(q.jobs.map(|v| format!("{v} jobs")));
    parts.extend(q.custom.iter().map(|(n, v)| format!("{n} {v}")));
    if parts.is_empty() { "-".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_like_a_person_says_them() {
        let now = parse_time("2026-11-22T12:00:00.000000Z");
        for (from, expected) in [
            ("2026-11-22T11:59:30.000000Z", "30s"),
            ("2026-11-22T11:30:00.000000Z", "30m"),
            ("2026-11-22T02:00:00.000000Z", "10h"),
            ("2026-11-12T12:00:00.000000Z", "10d"),
            ("nonsense", "?"),
        ] {
            assert_eq!(age(from, now), expected);
        }
    }

    #[test]
    fn what_came_from_outside_can_not_drive_the_terminal() {
        assert_eq!(clean("a\u{1b}[31mb\nc"), "a [31mb c");
    }

    fn read<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn summary(state: &str) -> serde_json::Value {
        serde_json::json!({
            "id": "01900000-0000-7000-8000-000000000001", "team": "ads", "key": "nightly", "name": "train\u{1b}[2J",
            "state": state, "since": "2026-11-22T11:59:30.000000Z", "created_at": "2026-11-22T11:30:00.000000Z",
            "attempt": 1, "resources": {"cpu": 1.5, "gpu": 0.0, "memory_bytes": 8_589_934_592u64, "jobs": 1},
            "stop_requested": false,
        })
    }

    #[test]
    fn tables_are_for_people() {
        use serde_json::json;
        let now = "2026-11-22T12:00:00.000000Z";
        let mut running = summary("running");
        running["cluster"] = json!("east");
        running["stop_requested"] = json!(true);
        let mut whole = summary("queued");
        let more = json!({
            "priority": 3, "clock": {"kind": "queue_timeout", "at": now},
            "waiting": {"code": "full", "message": "no cluster has room", "clusters": {"east": "cpu: asks 1.5, 1 free"}},
            "retries": {"own": 1, "own_max": 2, "infra": 0, "preempted": 0}, "spec": {"entrypoint": "python x.py"},
            "attempts": [{"number": 1, "cluster": "east", "remote_name": "r", "placed_at": now, "ended_at": now,
                "end": "user_error", "message": "boom", "exit_code": 3}],
        });
        for (key, value) in more.as_object().unwrap() {
            whole[key] = value.clone();
        }
        let used = json!({"cpu": 1.5, "gpu": 0.0, "memory_bytes": 0, "jobs": 1, "custom": {"A100": 1.0}});
        let cluster = json!({"id": "east", "driver": "ray", "labels": {"region": "us"}, "switch": "drained",
            "health": "ready", "takes_jobs": false, "configured": true, "used": used.clone(), "capacity": used.clone(),
            "elastic": {"delay_s": 60}, "cost_per_hour": 1.25, "breaker_open": true, "recent_failures": 2,
            "gpus": [{"kind": "A10", "capacity": 16, "free": 12, "largest_free": 4, "largest": 8}]});
        let team = json!({"id": "ads", "weight": 1, "quota": {"cpu": 1.0}, "used": used.clone(), "open": {"queued": 2},
            "cohort": "all", "max": {"cpu": 2.0}, "borrowed": {"cpu": 0.5, "gpu": 0.0, "memory_bytes": 0, "jobs": 0}});
        let answer = json!({"answer": "dry_run", "version": 3, "changes": [
            {"what": "team", "id": "ads", "change": "changed", "field": "quota.gpu", "from": "8", "to": "10"},
            {"what": "cluster", "id": "west", "change": "removed", "note": "has 3 open jobs: stays until they end"}]});
        let versions =
            json!({"versions": [{"version": 3, "at": now, "by": "user:anonymous", "source": "applied"}]});
        let all = [
            jobs(&read(json!({"now": now, "jobs": [running, summary("succeeded")]}))),
            jobs(&read(json!({"now": now, "jobs": []}))),
            job(&read(whole)),
            teams(&read(json!({"teams": [team]}))),
            clusters(&read(json!({"clusters": [cluster]}))),
            catalog_answer(&read(answer)),
            catalog_versions(&read(versions)),
            drift(&read(json!({"exact": false, "drift": [
                {"kind": "team", "id": "ads", "stored": used, "recomputed": {"cpu": 0.0, "gpu": 0.0, "memory_bytes": 0, "jobs": 0}},
            ]}))),
            receipt(&read(
                json!({"team": "ads", "key": "k", "verdict": "rejected", "source": "http", "message_id": "m",
                "at": now, "errors": [{"field": "team", "code": "missing", "message": "must be there"}]}),
            )),
        ];
        insta::assert_snapshot!(all.join("\n\n"));
    }
}
