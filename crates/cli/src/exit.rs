//! Exit codes: the same meaning in every command (docs/cli.md).

use serde_json::{Value, json};
use yard_wire::views::{Problem, ProblemCode};

/// It worked; for `wait` and `submit --wait`: every job succeeded.
pub const OK: i32 = 0;
/// The job failed.
pub const JOB_FAILED: i32 = 1;
/// The command line is wrong, or the server refuses the request as such.
pub const USAGE: i32 = 2;
/// The submission was rejected, or its key belongs to another job; the catalog is wrong, or another version is in force.
pub const REJECTED: i32 = 3;
/// There is no such job, receipt or cluster.
pub const NOT_FOUND: i32 = 4;
/// The server can't be reached or can't answer now.
pub const UNAVAILABLE: i32 = 5;
/// The job was stopped or expired.
pub const NOT_RUN: i32 = 6;
/// `wait --timeout` is over and the job has not ended.
pub const TIMED_OUT: i32 = 7;
/// `audit` found that the ledger has drifted.
pub const DRIFT: i32 = 8;
/// The server does not let you: there is no token, it is not good, or it is not good for this.
pub const DENIED: i32 = 9;

/// For `--help`.
pub const EXIT_CODES_HELP: &str = "Exit codes:
  0  it worked; wait: every job succeeded
  1  the job failed
  2  wrong command line, configuration or request
  3  the submission was rejected, or its key belongs to another job;
     apply: the catalog is wrong, or another version is in force
  4  no such job, receipt, cluster or version
  5  the server can't be reached or can't answer now
  6  the job was stopped or expired
  7  wait --timeout is over
  8  audit: the ledger has drifted
  9  not allowed: no token, or not one for this";

/// Why a command did not work: one line for people, and its exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// See the constants.
    pub code: i32,
    /// What is wrong and how to mend it.
    pub message: String,
    /// What the server called it, if it was the server that said no.
    pub problem: Option<ProblemCode>,
    /// Everything that the server said of it.
    pub document: Option<Box<Problem>>,
}

impl Failure {
    /// A failure with this code.
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), problem: None, document: None }
    }

    /// Tells it on standard error: a line for people, or as JSON a problem document on one line.
    pub fn tell(&self, as_json: bool) {
        if as_json {
            eprintln!("{}", self.to_json());
        } else {
            eprintln!("yard: {}", self.message);
        }
    }

    /// A problem document (RFC 9457): the server's own, or one of the same form (without `status`, which is HTTP's). The
    /// exit code stands beside it.
    pub fn to_json(&self) -> Value {
        let own = || {
            let (code, title) = kind(self.code);
            json!({"type": format!("urn:yard:problem:{code}"), "title": title, "code": code, "detail": self.message})
        };
        let said = self.document.as_ref().and_then(|problem| serde_json::to_value(problem).ok());
        let mut document = said.unwrap_or_else(own);
        document["exit_code"] = self.code.into();
        document
    }
}

/// The stable code and the title of what the command itself found.
fn kind(code: i32) -> (&'static str, &'static str) {
    match code {
        USAGE => ("usage", "The command can't be carried out as it was given"),
        REJECTED => ("rejected", "It was rejected"),
        NOT_FOUND => ("not_found", "Not found"),
        UNAVAILABLE => ("unreachable", "The server can't be reached or can't answer now"),
        TIMED_OUT => ("timed_out", "The time is over"),
        _ => ("failed", "It did not work"),
    }
}

/// The exit code for a job in this state; `None` if it has not ended.
pub fn of_state(state: &str) -> Option<i32> {
    match state {
        "succeeded" => Some(OK),
        "failed" => Some(JOB_FAILED),
        "stopped" | "expired" => Some(NOT_RUN),
        _ => None,
    }
}

/// The exit code of several jobs: the first bad one's, in the order of badness 1, 6.
pub fn of_states<'a>(states: impl Iterator<Item = &'a str>) -> i32 {
    let codes: Vec<i32> = states.filter_map(of_state).collect();
    [JOB_FAILED, NOT_RUN].into_iter().find(|c| codes.contains(c)).unwrap_or(OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_and_the_handbook_name_every_code() {
        let handbook = include_str!("../../../docs/cli.md");
        for code in
            [OK, JOB_FAILED, USAGE, REJECTED, NOT_FOUND, UNAVAILABLE, NOT_RUN, TIMED_OUT, DRIFT, DENIED]
        {
            assert!(EXIT_CODES_HELP.contains(&format!("\n  {code}  ")), "{code}");
            assert!(handbook.contains(&format!("\n| {code} | ")), "{code}");
        }
    }

    #[test]
    fn the_handbook_names_every_command() {
        use clap::Subcommand;
        let handbook = include_str!("../../../docs/cli.md");
        let commands = crate::Command::augment_subcommands(clap::Command::new("yard"));
        for command in commands.get_subcommands() {
            let name = format!("`yard {}", command.get_name());
            assert!(handbook.contains(&name), "{name} is not in docs/cli.md");
        }
    }

    #[test]
    fn failures_are_problem_documents_with_their_exit_code() {
        let own = Failure::new(UNAVAILABLE, "can't reach it").to_json();
        assert_eq!((&own["code"], &own["exit_code"]), (&"unreachable".into(), &UNAVAILABLE.into()));
        assert_eq!(
            (&own["type"], &own["detail"]),
            (&"urn:yard:problem:unreachable".into(), &"can't reach it".into())
        );
        let said = Problem::new(ProblemCode::NotFound, "there is no job x");
        let failure =
            Failure { document: Some(Box::new(said.clone())), ..Failure::new(NOT_FOUND, "for people") };
        let told = failure.to_json();
        assert_eq!((&told["detail"], &told["status"]), (&"there is no job x".into(), &404.into()));
        assert_eq!(
            serde_json::from_value::<Problem>(told).unwrap(),
            said,
            "a reader of the API's can read it"
        );
    }

    #[test]
    fn the_worst_job_decides() {
        assert_eq!(of_states(["succeeded", "succeeded"].into_iter()), OK);
        assert_eq!(of_states(["succeeded", "expired"].into_iter()), NOT_RUN);
        assert_eq!(of_states(["stopped", "failed"].into_iter()), JOB_FAILED);
        assert_eq!(of_state("running"), None);
    }
}
