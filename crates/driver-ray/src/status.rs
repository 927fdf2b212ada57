//! What a job's fields say about how it stands, or why it failed.

use yard_domain::{Failure, FailureClass};
use yard_ports::RemoteStatus;

use crate::wire::JobDetails;

/// How the job stands.
pub(crate) fn status(job: &JobDetails) -> RemoteStatus {
    match job.status.as_str() {
        "PENDING" => RemoteStatus::Pending,
        "RUNNING" => RemoteStatus::Running,
        "SUCCEEDED" => RemoteStatus::Succeeded,
        "STOPPED" => RemoteStatus::Stopped,
        "FAILED" => RemoteStatus::Failed(failure(job)),
        other => {
            tracing::warn!(status = other, "a job status that is not known; taken for pending");
            RemoteStatus::Pending
        }
    }
}

/// Whether this is the end of a job whose processes may live on for a moment, see [`crate::RayConfig::lost_settle`].
pub(crate) fn is_lost(status: &RemoteStatus) -> bool {
    matches!(status, RemoteStatus::Failed(Failure { class: FailureClass::Lost, .. }))
}

fn failure(job: &JobDetails) -> Failure {
    let said = job.message.as_deref().unwrap_or_default();
    Failure::new(class(job, said), job.driver_exit_code, message(said))
}

fn class(job: &JobDetails, said: &str) -> FailureClass {
    match job.error_type.as_deref() {
        Some("JOB_ENTRYPOINT_COMMAND_ERROR") => FailureClass::User,
        Some("RUNTIME_ENV_SETUP_FAILURE") => FailureClass::RuntimeEnv,
        // Raised before anything was started, by a check of what was asked for.
        Some("JOB_SUPERVISOR_ACTOR_START_FAILURE") if said.contains("runtime_env") => {
            FailureClass::RuntimeEnv
        }
        Some(
            "JOB_SUPERVISOR_ACTOR_START_FAILURE"
            | "JOB_SUPERVISOR_ACTOR_START_TIMEOUT"
            | "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE"
            | "JOB_ENTRYPOINT_COMMAND_START_ERROR",
        ) => FailureClass::Launch,
        Some("JOB_SUPERVISOR_ACTOR_DIED" | "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE") => FailureClass::Lost,
        Some(_) | None => class_by_text(job, said),
    }
}

/// For Ray before 2.44, which has no error types, and for types yet to come.
fn class_by_text(job: &JobDetails, said: &str) -> FailureClass {
    let says = |part: &str| said.contains(part);
    if says("runtime_env") || says("Runtime env") {
        FailureClass::RuntimeEnv
    } else if job.driver_exit_code.is_some_and(|code| code != 0) || says("failed with exit code") {
        FailureClass::User
    } else if says("failed to start within")
        || says("max time to start")
        || says("Failed to start supervisor actor")
    {
        FailureClass::Launch
    } else {
        // It ran, as far as one knows, and ended without the command having failed: not the job's own fault.
        FailureClass::Lost
    }
}

/// Ray's message without a traceback, and of a long log its end: the reason is at the bottom.
fn message(said: &str) -> String {
    let said = said.split_once(". Full traceback:").map_or(said, |(head, _)| head).trim();
    if said.len() <= Failure::MESSAGE_MAX {
        return said.to_owned();
    }
    let first = said.lines().next().unwrap_or_default();
    let first = if first.len() < Failure::MESSAGE_MAX / 4 { first } else { "" };
    let from = said.len() - (Failure::MESSAGE_MAX - first.len() - 8);
    let from = (from..said.len()).find(|i| said.is_char_boundary(*i)).unwrap_or(said.len());
    format!("{first}\n[…]\n{}", &said[from..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(error_type: Option<&str>, message: &str, code: Option<i32>) -> Failure {
        let job = JobDetails {
            status: "FAILED".to_owned(),
            message: Some(message.to_owned()),
            error_type: error_type.map(str::to_owned),
            driver_exit_code: code,
            ..JobDetails::default()
        };
        match status(&job) {
            RemoteStatus::Failed(failure) => failure,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_cause_has_its_class() {
        use FailureClass::{Launch, Lost, RuntimeEnv, User};
        let exit = "Job entrypoint command failed with exit code 1, last available logs: x";
        let start = "Failed to start supervisor actor x: 'nonsense is not a valid path.'. Full traceback:\n runtime_env";
        for (error_type, message, code, class) in [
            (Some("JOB_ENTRYPOINT_COMMAND_ERROR"), exit, Some(1), User),
            (Some("JOB_ENTRYPOINT_COMMAND_ERROR"), "exit code 137: runtime_env setup", Some(137), User),
            (Some("RUNTIME_ENV_SETUP_FAILURE"), "runtime_env setup failed: no pip", None, RuntimeEnv),
            (Some("JOB_SUPERVISOR_ACTOR_START_FAILURE"), start, None, RuntimeEnv),
            (
                Some("JOB_SUPERVISOR_ACTOR_START_FAILURE"),
                "Failed to start supervisor actor x: 'no'",
                None,
                Launch,
            ),
            (
                Some("JOB_SUPERVISOR_ACTOR_START_TIMEOUT"),
                "Job supervisor actor failed to start within 900 s",
                None,
                Launch,
            ),
            (Some("JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE"), "unschedulable", None, Launch),
            (Some("JOB_SUPERVISOR_ACTOR_DIED"), "Unexpected error occurred: The actor died", None, Lost),
            (Some("SOMETHING_NEW"), "the head said so", None, Lost),
            (None, exit, None, User),
            (None, "runtime_env setup failed: no pip", None, RuntimeEnv),
            (None, "Unexpected error occurred: The actor died because its node has died", None, Lost),
        ] {
            assert_eq!(failed(error_type, message, code).class, class, "{error_type:?} {message}");
        }
        assert_eq!(failed(Some("JOB_ENTRYPOINT_COMMAND_ERROR"), exit, Some(3)).exit_code, Some(3));
    }

    #[test]
    fn messages_keep_what_tells_the_reason() {
        let start = failed(None, "Failed to start supervisor actor x: 'no'. Full traceback:\nmuch", None);
        assert_eq!(start.message, "Failed to start supervisor actor x: 'no'");
        let long = format!(
            "Job entrypoint command failed with exit code 1, last logs:\n{}\nValueError: ä",
            "x\n".repeat(9_000)
        );
        let message = failed(None, &long, Some(1)).message;
        assert!(
            message.starts_with("Job entrypoint command failed") && message.ends_with("ValueError: ä"),
            "{message}"
        );
        assert!(message.len() <= Failure::MESSAGE_MAX);
    }
}
