//! What the demo submits, and what is to become of it.

use std::path::Path;

use serde_json::{Value, json};

/// Which way a submission comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// A message on the queue.
    Sqs,
    /// `POST /v1/jobs`.
    Http,
}

impl Door {
    /// As shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqs => "sqs",
            Self::Http => "http",
        }
    }
}

/// What is to become of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// A job that succeeds, with so many attempts.
    Succeeds(usize),
    /// A job that fails for good, after so many attempts.
    Fails(usize),
    /// A job that is stopped while it runs.
    IsStopped,
    /// No job: a rejected receipt.
    IsRejected,
}

/// One submission.
#[derive(Debug, Clone)]
pub struct DemoJob {
    /// Its name, also of its witness.
    pub name: &'static str,
    /// Who is charged.
    pub team: &'static str,
    /// Its key.
    pub key: String,
    /// Which way it comes in.
    pub door: Door,
    /// How often it is sent: more than once is what a queue may do at any time.
    pub copies: usize,
    /// The document.
    pub document: Value,
    /// What is to become of it.
    pub expected: Expected,
}

/// Where the demo's jobs leave their traces: a line for each start and each end.
#[derive(Debug, Clone, Copy)]
pub struct Witness<'a>(pub &'a Path);

impl Witness<'_> {
    /// A command that does `body` between two lines in the file called `name`, however it ends.
    fn command(self, name: &str, body: &str) -> String {
        let file = self.0.join(name).display().to_string().replace('\'', r"'\''");
        format!(
            "w='{file}'; echo start >> \"$w\"; trap 'echo end >> \"$w\"' EXIT; trap 'exit 143' TERM; {body}"
        )
    }

    /// How often the job called `name` has started and ended.
    pub fn counts(self, name: &str) -> (usize, usize) {
        let text = std::fs::read_to_string(self.0.join(name)).unwrap_or_default();
        let count = |word| text.lines().filter(|line| *line == word).count();
        (count("start"), count("end"))
    }
}

/// One line of the table below.
struct Plan(&'static str, &'static str, Door, Expected, &'static str, Value);

/// Fourteen jobs and one submission that can't be a job. Keys carry `run`, so that each demo's are new.
pub fn jobs(run: &str, witness: Witness<'_>, has_queue: bool) -> Vec<DemoJob> {
    let make = |Plan(team, name, door, expected, body, fields): Plan| {
        let key = format!("demo-{run}-{name}");
        let mut document = json!({"v": 1, "team": team, "key": key, "name": name, "entrypoint": witness.command(name, body)});
        if let (Some(document), Value::Object(fields)) = (document.as_object_mut(), fields) {
            document.extend(fields);
        }
        let door = if has_queue { door } else { Door::Http };
        let copies = if name == "clicks" { 2 } else { 1 };
        DemoJob { name, team, key, door, copies, document, expected }
    };
    plans().into_iter().map(make).collect()
}

fn plans() -> Vec<Plan> {
    use Door::{Http, Sqs};
    use Expected::{Fails, IsRejected, IsStopped, Succeeds};
    let fails_once =
        "sleep 1; test \"$(grep -c start \"$w\")\" -ge 2 || { echo 'not this time' >&2; exit 1; }";
    let east = json!({"resources": {"cpu": 2}, "clusters": {"only": ["east"]}});
    let licence = json!({"resources": {"cpu": 1, "custom": {"licence": 1}}});
    let too_much = json!({"resources": {"cpu": 64, "gpus": 8}, "timeouts": {"run_s": 0}});
    let labelled = |region: &str| json!({"clusters": {"labels": {"region": region}}});
    vec![
        Plan("ads", "clicks", Sqs, Succeeds(1), "sleep 2", json!({})),
        Plan("ads", "budgets", Http, Succeeds(1), "sleep 3", json!({"priority": 10})),
        Plan("ads", "train", Sqs, Succeeds(1), "sleep 4", east),
        Plan("ads", "flaky", Http, Succeeds(2), fails_once, json!({"retry": {"max_retries": 2}})),
        Plan(
            "ads",
            "broken",
            Sqs,
            Fails(2),
            "echo 'no such table' >&2; exit 7",
            json!({"retry": {"max_retries": 1}}),
        ),
        Plan("search", "crawl", Http, IsStopped, "sleep 600", json!({"resources": {"cpu": 0.5}})),
        Plan("search", "index-west", Sqs, Succeeds(1), "sleep 3", labelled("us-west-2")),
        Plan("search", "index-east", Http, Succeeds(1), "sleep 3", labelled("us-east-1")),
        Plan("search", "licensed", Sqs, Succeeds(1), "sleep 2", licence),
        Plan("search", "queries", Http, Succeeds(1), "sleep 1", json!({"resources": {"cpu": 0.5}})),
        Plan("research", "paper", Http, Succeeds(1), "sleep 6", json!({"priority": 5})),
        Plan("research", "patient", Sqs, Succeeds(1), "sleep 2", json!({})),
        Plan("research", "notes", Sqs, Succeeds(1), "sleep 1", json!({"resources": {"cpu": 0.5}})),
        Plan(
            "research",
            "plots",
            Http,
            Succeeds(1),
            "sleep 1",
            json!({"resources": {"cpu": 0.5, "memory": "1GiB"}}),
        ),
        Plan("research", "moonshot", Sqs, IsRejected, "true", too_much),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_mix_is_what_it_claims_to_be() {
        let place = tempfile::tempdir().unwrap();
        let all = jobs("x", Witness(place.path()), true);
        let valid: Vec<_> = all.iter().filter(|job| job.expected != Expected::IsRejected).collect();
        assert!(valid.len() >= 12 && all.len() - valid.len() == 1);
        assert_eq!(valid.iter().map(|job| job.team).collect::<BTreeSet<_>>().len(), 3);
        let queued = valid.iter().filter(|job| job.door == Door::Sqs).count();
        assert_eq!(queued * 2, valid.len(), "half through the queue");
        assert!(jobs("x", Witness(place.path()), false).iter().all(|job| job.door == Door::Http));
        assert_eq!(all.iter().map(|job| &job.key).collect::<BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn every_run_leaves_a_start_and_an_end_however_it_ends() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("it's here");
        std::fs::create_dir(&folder).unwrap();
        let witness = Witness(&folder);
        for (body, code) in [("true", 0), ("exit 7", 7), ("kill -TERM $$; sleep 1", 143)] {
            let status = std::process::Command::new("sh")
                .args(["-c", &witness.command("job", body)])
                .status()
                .unwrap();
            assert_eq!(status.code(), Some(code), "{body}");
        }
        assert_eq!(witness.counts("job"), (3, 3));
        assert_eq!(witness.counts("other"), (0, 0));
    }
}
