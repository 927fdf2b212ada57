//! What a RayJob's status says about how it stands or why it failed. Pure.

use yard_domain::{Failure, FailureClass};
use yard_ports::RemoteStatus;

use crate::facts::{RayJob, Status};

/// What the operator says of one that does not run yet.
const WAITING: [&str; 6] = ["", "Initializing", "Waiting", "Running", "Suspending", "Retrying"];

/// How the RayJob stands, by the facts: what has succeeded is what Ray says has, and nothing else.
pub(crate) fn status(job: &RayJob) -> RemoteStatus {
    let status = &job.status;
    // Final as soon as Ray says so, whatever the operator still waits for.
    match status.job_status.as_str() {
        "SUCCEEDED" => return RemoteStatus::Succeeded,
        "STOPPED" => return RemoteStatus::Stopped,
        "FAILED" => return RemoteStatus::Failed(failure(status)),
        _ => {}
    }
    match status.job_deployment_status.as_str() {
        // What suspends a RayJob here is the stop of its attempt.
        "Suspended" => RemoteStatus::Stopped,
        "Failed" | "ValidationFailed" => RemoteStatus::Failed(failure(status)),
        "Complete" => {
            let said = format!("the operator says Complete, Ray's last word was {:?}", status.job_status);
            RemoteStatus::Failed(Failure::new(FailureClass::Lost, None, said))
        }
        "Running" | "Suspending" if status.job_status == "RUNNING" => RemoteStatus::Running,
        other => {
            if !WAITING.contains(&other) {
                tracing::warn!(status = other, "a RayJob's status that is not known; taken for pending");
            }
            RemoteStatus::Pending
        }
    }
}

fn failure(status: &Status) -> Failure {
    let exit_code = exit_code(&status.message);
    Failure::new(class(status, exit_code), exit_code, message(status))
}

fn class(status: &Status, exit_code: Option<i32>) -> FailureClass {
    let says = |part: &str| status.message.contains(part);
    match status.reason.as_str() {
        "DeadlineExceeded" => FailureClass::RunTimeout,
        "SubmissionFailed" if says("runtime_env") || says("RuntimeEnv") => FailureClass::RuntimeEnv,
        "SubmissionFailed" | "PreRunningDeadlineExceeded" => FailureClass::Launch,
        _ if status.job_deployment_status == "ValidationFailed" => FailureClass::Refused,
        // AppFailed: what Ray's own job ended with. Its log is part of the message, so what the command says comes last.
        _ if exit_code.is_some() => FailureClass::User,
        _ if says("runtime_env") || says("Runtime env") || says("RuntimeEnv") => FailureClass::RuntimeEnv,
        _ if says("failed to start within") || says("Failed to start supervisor actor") => {
            FailureClass::Launch
        }
        // It ran, as far as one knows, and ended without its command having failed. So it is with the operator's own
        // JobDeploymentStatusTransitionGracePeriodExceeded and JobStatusCheckTimeoutExceeded.
        _ => FailureClass::Lost,
    }
}

/// `Job entrypoint command failed with exit code 3, last available logs …`
fn exit_code(message: &str) -> Option<i32> {
    let (_, rest) = message.split_once("failed with exit code ")?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// The operator's reason and the end of what was said: of a long log the reason is at the bottom.
fn message(status: &Status) -> String {
    let said = status.message.trim();
    let said = said.split_once(". Full traceback:").map_or(said, |(head, _)| head);
    let head = if status.reason.is_empty() || status.reason == "AppFailed" { "" } else { &status.reason };
    let room = Failure::MESSAGE_MAX.saturating_sub(head.len() + 8);
    let from = said.len().saturating_sub(room);
    let from = (from..=said.len()).find(|i| said.is_char_boundary(*i)).unwrap_or(said.len());
    let cut = if from > 0 { "[…]" } else { "" };
    match (head, said) {
        ("", _) => format!("{cut}{}", &said[from..]),
        (_, "") => head.to_owned(),
        _ => format!("{head}: {cut}{}", &said[from..]),
    }
}

/// Whether pods and events may know more about a failure than the RayJob does.
pub(crate) fn needs_evidence(failure: &Failure) -> bool {
    matches!(failure.class, FailureClass::Launch | FailureClass::Lost)
        || (failure.class == FailureClass::User && failure.exit_code == Some(137))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(deployment: &str, job_status: &str, reason: &str, message: &str) -> RayJob {
        let status = Status {
            job_status: job_status.to_owned(),
            job_deployment_status: deployment.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            ..Status::default()
        };
        RayJob { status, ..RayJob::default() }
    }

    #[test]
    fn it_stands_as_the_facts_say() {
        use RemoteStatus::{Pending, Running, Stopped, Succeeded};
        for (deployment, job_status, expected) in [
            ("", "", Pending),
            ("Initializing", "", Pending),
            ("Running", "", Pending),
            ("Running", "PENDING", Pending),
            ("Running", "RUNNING", Running),
            ("Suspending", "RUNNING", Running),
            ("Suspended", "", Stopped),
            ("Complete", "SUCCEEDED", Succeeded),
            ("Complete", "STOPPED", Stopped),
            ("Running", "SUCCEEDED", Succeeded),
            // The submitter was late, the job was not.
            ("Failed", "SUCCEEDED", Succeeded),
            ("SomethingNew", "", Pending),
        ] {
            assert_eq!(status(&job(deployment, job_status, "", "")), expected, "{deployment}/{job_status}");
        }
    }

    #[test]
    fn each_reason_has_its_class() {
        use FailureClass::{Launch, Lost, Refused, RunTimeout, RuntimeEnv, User};
        let exit = "Job entrypoint command failed with exit code 3, last available logs (truncated):\nboom";
        for (deployment, job_status, reason, message, class, code) in [
            ("Failed", "FAILED", "AppFailed", exit, User, Some(3)),
            ("Failed", "FAILED", "AppFailed", "runtime_env setup failed: no pip", RuntimeEnv, None),
            (
                "Failed",
                "FAILED",
                "AppFailed",
                "Job supervisor actor failed to start within 900 seconds",
                Launch,
                None,
            ),
            ("Failed", "FAILED", "AppFailed", "Job supervisor actor died", Lost, None),
            ("Failed", "RUNNING", "DeadlineExceeded", "too long", RunTimeout, None),
            ("Failed", "", "PreRunningDeadlineExceeded", "", Launch, None),
            ("Failed", "", "SubmissionFailed", "the submitter failed", Launch, None),
            ("Failed", "RUNNING", "JobStatusCheckTimeoutExceeded", "", Lost, None),
            ("Failed", "", "JobDeploymentStatusTransitionGracePeriodExceeded", "", Lost, None),
            ("ValidationFailed", "", "ValidationFailed", "spec.x", Refused, None),
            ("Complete", "RUNNING", "", "", Lost, None),
        ] {
            let RemoteStatus::Failed(failure) = status(&job(deployment, job_status, reason, message)) else {
                panic!("{reason}");
            };
            assert_eq!((failure.class, failure.exit_code), (class, code), "{reason} {message}");
        }
    }

    #[test]
    fn of_a_long_message_the_end_is_kept_with_the_reason() {
        let long = format!("{}the end", "ä".repeat(3_000));
        let RemoteStatus::Failed(failure) = status(&job("Failed", "", "SubmissionFailed", &long)) else {
            panic!()
        };
        assert!(failure.message.starts_with("SubmissionFailed: […]") && failure.message.ends_with("the end"));
        assert!(failure.message.len() <= Failure::MESSAGE_MAX);
    }
}
