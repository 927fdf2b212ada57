//! What became of the demo, counted from the clusters and the store.

use std::collections::BTreeMap;
use std::fmt;

use yard_domain::{AttemptNumber, JobId, StateName, Verdict};
use yard_inbox_sqs::QueueDepth;

use super::board::Standing;
use super::clusters::{RemoteRun, doubled};
use super::jobs::{DemoJob, Door, Expected, Witness};

/// Everything that is counted from.
pub struct Evidence<'a> {
    /// What was sent.
    pub jobs: &'a [DemoJob],
    /// What the store says of it, in the same order.
    pub standings: &'a [Standing],
    /// What the clusters say ran on them, this demo's or not.
    pub runs: &'a [RemoteRun],
    /// What the jobs themselves have left.
    pub witness: Witness<'a>,
    /// The queue afterwards, if there is one, and how many messages the dead-letter queue has got.
    pub queue: Option<(QueueDepth, u64)>,
    /// Quota or capacity that does not add up, by the store's own audit.
    pub drift: Vec<String>,
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Summary {
    submissions: usize,
    through_queue: usize,
    states: BTreeMap<&'static str, usize>,
    attempts: usize,
    runs: usize,
    retried: usize,
    held_by_quota: Vec<String>,
    /// Submissions without a verdict, jobs without an end, successes without an effect.
    pub lost: Vec<String>,
    /// Runs that must not be: twice, side by side, or unknown to the store.
    pub doubled: Vec<String>,
    /// Everything else that is not as it should be.
    pub unexpected: Vec<String>,
}

impl Summary {
    /// Whether all is as it should be.
    pub fn is_good(&self) -> bool {
        self.lost.is_empty() && self.doubled.is_empty() && self.unexpected.is_empty()
    }
}

/// Counts.
pub fn judge(evidence: &Evidence<'_>) -> Summary {
    let jobs = evidence.jobs;
    let mut summary = Summary {
        submissions: jobs.len(),
        through_queue: jobs.iter().filter(|job| job.door == Door::Sqs).count(),
        ..Summary::default()
    };
    let mut known: BTreeMap<(JobId, AttemptNumber), String> = BTreeMap::new();
    for (job, standing) in jobs.iter().zip(evidence.standings) {
        judge_one(&mut summary, job, standing, evidence);
        for attempt in
            standing.job.iter().flat_map(|view| view.attempts.iter().map(move |a| (view.lifecycle.id, a)))
        {
            known.insert((attempt.0, attempt.1.number), attempt.1.cluster.to_string());
        }
    }
    let ours = |run: &&RemoteRun| {
        evidence.standings.iter().filter_map(|s| s.job.as_ref()).any(|j| j.lifecycle.id == run.job)
    };
    let runs: Vec<RemoteRun> = evidence.runs.iter().filter(ours).cloned().collect();
    summary.runs = runs.len();
    summary.doubled.extend(doubled(&runs));
    for run in &runs {
        if known.get(&(run.job, run.attempt)) != Some(&run.cluster) {
            summary.doubled.push(format!(
                "{} shows a run of {} that the store does not know there",
                run.cluster, run.job
            ));
        }
    }
    for ((job, attempt), cluster) in &known {
        if !runs.iter().any(|run| run.job == *job && run.attempt == *attempt) {
            summary.lost.push(format!("attempt {attempt} of {job} is not on {cluster}"));
        }
    }
    judge_surroundings(&mut summary, evidence);
    summary
}

fn judge_one(summary: &mut Summary, job: &DemoJob, standing: &Standing, evidence: &Evidence<'_>) {
    let name = format!("{}/{}", job.team, job.name);
    let Some(verdict) = &standing.verdict else {
        return summary.lost.push(format!("{name} has no receipt"));
    };
    let (starts, ends) = evidence.witness.counts(job.name);
    let Some(view) = &standing.job else {
        *summary.states.entry("rejected").or_default() += 1;
        if job.expected != Expected::IsRejected || !matches!(verdict, Verdict::Rejected(_)) {
            summary.unexpected.push(format!("{name} is no job"));
        }
        if starts > 0 {
            summary.doubled.push(format!("{name} was rejected, but ran"));
        }
        return;
    };
    let (state, attempts) = (view.lifecycle.state.name(), view.attempts.len());
    *summary.states.entry(state.code()).or_default() += 1;
    summary.attempts += attempts;
    summary.retried += attempts.saturating_sub(1);
    if standing.held_by_quota {
        let waited = view.attempts.first().map(|a| a.placed_at.since(view.created_at)).unwrap_or_default();
        summary.held_by_quota.push(format!("{name} for {:.1} s", waited.as_secs_f64()));
    }
    if !state.is_end() {
        summary.lost.push(format!("{name} has not ended: it is {}", state.code()));
    }
    if state == StateName::Succeeded && ends == 0 {
        summary.lost.push(format!("{name} succeeded, but left no trace"));
    }
    if starts > attempts {
        summary.doubled.push(format!("{name} started {starts} times in {attempts} attempts"));
    }
    let as_expected = match job.expected {
        Expected::Succeeds(n) => state == StateName::Succeeded && attempts == n,
        Expected::Fails(n) => state == StateName::Failed && attempts == n,
        Expected::IsStopped => state == StateName::Stopped && attempts == 1,
        Expected::IsRejected => false,
    };
    if !as_expected && state.is_end() {
        summary.unexpected.push(format!(
            "{name} {} after {attempts} attempts, not {:?}",
            state.code(),
            job.expected
        ));
    }
}

fn judge_surroundings(summary: &mut Summary, evidence: &Evidence<'_>) {
    summary
        .unexpected
        .extend(evidence.drift.iter().map(|line| format!("the ledger does not add up: {line}")));
    if summary.held_by_quota.is_empty() {
        summary.unexpected.push("nothing had to wait for its team's quota".to_owned());
    }
    if let Some((depth, dead)) = evidence.queue {
        if depth != QueueDepth::default() {
            summary.lost.push(format!("{} messages are still in the queue", depth.waiting + depth.hidden));
        }
        let rejected = evidence
            .jobs
            .iter()
            .filter(|j| j.door == Door::Sqs && j.expected == Expected::IsRejected)
            .count();
        if dead != rejected as u64 {
            summary.unexpected.push(format!("the dead-letter queue got {dead} messages, not {rejected}"));
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let through_api = self.submissions - self.through_queue;
        let states: Vec<String> = self.states.iter().map(|(state, n)| format!("{n} {state}")).collect();
        writeln!(
            f,
            "{} submissions: {} through SQS, {through_api} through the API",
            self.submissions, self.through_queue
        )?;
        writeln!(f, "  ended     {}", states.join(", "))?;
        writeln!(f, "  retried   {} times", self.retried)?;
        writeln!(
            f,
            "  waited    {}",
            if self.held_by_quota.is_empty() { "none".to_owned() } else { self.held_by_quota.join(", ") }
        )?;
        writeln!(
            f,
            "  lost      {} (every submission needs a verdict, every job an end, every attempt its run)",
            self.lost.len()
        )?;
        let counts = format!("{} runs on the clusters, {} attempts in the store", self.runs, self.attempts);
        writeln!(f, "  doubled   {} ({counts}; none twice, none side by side)", self.doubled.len())?;
        for (what, lines) in
            [("lost", &self.lost), ("doubled", &self.doubled), ("unexpected", &self.unexpected)]
        {
            for line in lines {
                writeln!(f, "  ! {what}: {line}")?;
            }
        }
        let end = if self.is_good() { "All as it should be." } else { "Not as it should be." };
        f.write_str(end)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use yard_domain::retry::RetryCounts;
    use yard_domain::{JobState, Lifecycle, Outcome, Priority, Request, RetryPolicy, Shape, Timestamp};
    use yard_ports::store::{AttemptView, JobView};

    use super::super::jobs::jobs;
    use super::*;

    fn id(n: u8) -> JobId {
        JobId::new(1, [n; 10])
    }

    fn view(n: u8, outcome: Outcome, attempts: u32) -> JobView {
        let at = Timestamp::from_micros(0);
        let attempt = |number| AttemptView {
            number: AttemptNumber(number),
            cluster: "east".parse().unwrap(),
            placed_at: at,
            launched_at: Some(at),
            started_at: Some(at),
            ended_at: Some(at),
            end: None,
            message: None,
            exit_code: None,
        };
        JobView {
            lifecycle: Lifecycle {
                id: id(n),
                team: "ads".parse().unwrap(),
                request: Request::default(),
                retry: RetryPolicy { max_retries: 0 },
                queue_timeout: Duration::from_secs(1),
                run_timeout: Duration::from_secs(1),
                version: 1,
                state: JobState::Ended(outcome),
                stop_requested: false,
                preempt_requested: false,
                attempts,
                counts: RetryCounts::default(),
            },
            key: String::new(),
            document: String::new(),
            shape: Shape(0),
            order: yard_domain::job::QueueOrder::new(Priority::default(), 0),
            created_at: at,
            since: at,
            ended_at: Some(at),
            attempts: (1..=attempts).map(attempt).collect(),
            waiting: None,
            read_at: at,
        }
    }

    fn standing(n: u8, outcome: Outcome, attempts: u32) -> Standing {
        let verdict = Some(Verdict::Accepted { job: id(n), first: true });
        Standing { verdict, job: Some(view(n, outcome, attempts)), held_by_quota: true }
    }

    fn run(n: u8, attempt: u32, cluster: &str) -> RemoteRun {
        let start = u64::from(attempt) * 10;
        RemoteRun {
            cluster: cluster.to_owned(),
            job: id(n),
            attempt: AttemptNumber(attempt),
            span: (start, Some(start + 5)),
        }
    }

    /// Two submissions (one job that succeeds, one that is rejected), with traces of `starts` starts.
    fn judged(starts: usize, standings: &[Standing; 2], runs: &[RemoteRun], queue: (u64, u64)) -> Summary {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("clicks"), "start\nend\n".repeat(starts)).unwrap();
        let all = jobs("x", Witness(Path::new("/")), true);
        let jobs = [all.first().unwrap().clone(), all.last().unwrap().clone()];
        let depth = QueueDepth { waiting: queue.0, hidden: 0 };
        let queue = Some((depth, queue.1));
        let witness = Witness(place.path());
        judge(&Evidence { jobs: &jobs, standings, runs, witness, queue, drift: Vec::new() })
    }

    fn rejected() -> Standing {
        Standing { verdict: Some(Verdict::Rejected(Vec::new())), ..Standing::default() }
    }

    fn good() -> [Standing; 2] {
        [standing(1, Outcome::Succeeded, 1), rejected()]
    }

    #[test]
    fn what_is_as_it_should_be_is_good() {
        // A run of another demo is none of ours.
        let summary = judged(1, &good(), &[run(1, 1, "east"), run(9, 1, "east")], (0, 1));
        assert!(summary.is_good(), "{summary}");
        assert!(summary.to_string().contains("1 runs on the clusters, 1 attempts in the store"), "{summary}");
    }

    #[test]
    fn what_is_lost_is_counted() {
        let here = [run(1, 1, "east")];
        for (starts, standings, runs, queue) in [
            (1, [Standing::default(), rejected()], &here[..], (0, 1)),
            (0, good(), &here[..], (0, 1)),
            (1, good(), &[][..], (0, 1)),
            (1, good(), &here[..], (1, 1)),
        ] {
            let summary = judged(starts, &standings, runs, queue);
            assert_eq!(summary.lost.len(), 1, "{summary}");
        }
    }

    #[test]
    fn what_is_doubled_is_counted() {
        for (starts, runs) in [(2, vec![run(1, 1, "east")]), (1, vec![run(1, 1, "east"), run(1, 2, "west")])]
        {
            let summary = judged(starts, &good(), &runs, (0, 1));
            assert_eq!(summary.doubled.len(), 1, "{summary}");
        }
        // On both clusters: twice, and where the store does not know it.
        let summary = judged(1, &good(), &[run(1, 1, "east"), run(1, 1, "west")], (0, 1));
        assert_eq!(summary.doubled.len(), 2, "{summary}");
    }

    #[test]
    fn other_surprises_are_told() {
        let here = [run(1, 1, "east")];
        let failure = yard_domain::Failure::new(yard_domain::FailureClass::User, Some(1), "");
        let failed = [standing(1, Outcome::Failed(failure), 1), rejected()];
        let unhurried = [Standing { held_by_quota: false, ..standing(1, Outcome::Succeeded, 1) }, rejected()];
        for (standings, dead) in [(failed, 1), (unhurried, 1), (good(), 0)] {
            let summary = judged(1, &standings, &here, (0, dead));
            assert_eq!((summary.unexpected.len(), summary.is_good()), (1, false), "{summary}");
        }
    }
}
