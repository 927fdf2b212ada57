//! How attempts and jobs end.

use std::fmt;

/// Why an attempt did not succeed, by cause: retries are decided by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureClass {
    /// The entrypoint ended with an error of its own.
    User,
    /// The cluster refused the request as such (bad runtime_env, invalid field): the same again would fail the same.
    Refused,
    /// The runtime environment could not be prepared.
    RuntimeEnv,
    /// The launch did not take place in time or could not be carried out.
    Launch,
    /// The cluster, its head or the job on it vanished.
    Lost,
    /// The job was stopped to make room for another.
    Preempted,
    /// It ran longer than its run timeout.
    RunTimeout,
    /// Somebody stopped it at the cluster, past Switchyard.
    StoppedRemotely,
}

impl FailureClass {
    /// Every class.
    pub const ALL: [Self; 8] = [
        Self::User,
        Self::Refused,
        Self::RuntimeEnv,
        Self::Launch,
        Self::Lost,
        Self::Preempted,
        Self::RunTimeout,
        Self::StoppedRemotely,
    ];

    /// The stable code stored, shown and used as a metric label.
    pub fn code(self) -> &'static str {
        match self {
            Self::User => "user_error",
            Self::Refused => "refused_by_cluster",
            Self::RuntimeEnv => "runtime_env",
            Self::Launch => "launch_failed",
            Self::Lost => "lost",
            Self::Preempted => "preempted",
            Self::RunTimeout => "run_timeout",
            Self::StoppedRemotely => "stopped_at_cluster",
        }
    }

    /// Reads [`FailureClass::code`] back.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.code() == code)
    }
}

/// Why an attempt did not succeed, with the evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The cause.
    pub class: FailureClass,
    /// The entrypoint's exit code, where there was one.
    pub exit_code: Option<i32>,
    /// What the cluster said, for people; cut to [`Failure::MESSAGE_MAX`] bytes.
    pub message: String,
}

impl Failure {
    /// Longest message kept, in bytes.
    pub const MESSAGE_MAX: usize = 2_000;

    /// A failure of `class`; the message is cut at a character's edge.
    pub fn new(class: FailureClass, exit_code: Option<i32>, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > Self::MESSAGE_MAX {
            let edge = (0..=Self::MESSAGE_MAX).rev().find(|i| message.is_char_boundary(*i)).unwrap_or(0);
            message.truncate(edge);
        }
        Self { class, exit_code, message }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.class.code())?;
        if let Some(code) = self.exit_code {
            write!(f, " (exit {code})")?;
        }
        if self.message.is_empty() { Ok(()) } else { write!(f, ": {}", self.message) }
    }
}

/// How a job ended, for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// An attempt succeeded.
    Succeeded,
    /// The last attempt failed and no retry was left (or would help).
    Failed(Failure),
    /// Somebody asked for it to be stopped.
    Stopped,
    /// It waited longer than its queue timeout.
    Expired,
}
