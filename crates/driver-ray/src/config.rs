//! What can be set, with defaults.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

/// A cluster's bearer token. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token as the cluster knows it; white space around it (a file's last line) is taken off.
    pub fn new(token: &str) -> Self {
        Self(token.trim().to_owned())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

/// Everything that can be set about one [`crate::RayDriver`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RayConfig {
    /// The dashboard's base address, `http` or `https`; may have a path.
    pub address: String,
    /// For clusters with token authentication.
    pub token: Option<Token>,
    /// Further certificate authorities to trust (PEM), beside the host's own.
    pub ca_file: Option<PathBuf>,
    /// Whether Ray sets the request's resources aside for the entrypoint, for as long as it runs. Without,
    /// Ray starts any number of entrypoints on the head node, whatever they ask for. With it, Ray holds
    /// what Switchyard charged, and a job is placed where there is room; but tasks and actors that the
    /// entrypoint starts ask for resources *on top*. Turn it off for clusters whose jobs do their work in
    /// tasks and actors.
    pub reserve_entrypoint: bool,
    /// From one listing of the jobs to the next; spread by a tenth either way.
    pub poll_interval: Duration,
    /// From one full observation to the next; in between only changes are reported, or that there are none.
    pub resync_interval: Duration,
    /// How long a job whose supervisor died is still shown as running: Ray kills its processes up to a
    /// second later, and a job must not be tried again beside them.
    pub lost_settle: Duration,
    /// Longest until a connection stands.
    pub connect_timeout: Duration,
    /// Longest for a submission. Ray itself waits 10 s for an agent before it says so.
    pub submit_timeout: Duration,
    /// Longest for bringing one package.
    pub package_timeout: Duration,
    /// Longest for the list of jobs or nodes.
    pub list_timeout: Duration,
    /// Longest for a log.
    pub logs_timeout: Duration,
    /// Longest for any other call.
    pub call_timeout: Duration,
    /// Shortest pause between reads of a followed log. Ray has no call for a part of a log, so the pause
    /// is also at least ten times as long as the last read took.
    pub log_poll: Duration,
    /// How long a followed log may be unreadable before its reader is told.
    pub log_patience: Duration,
    /// Longest answer that is read, in bytes: a log or list beyond it is refused instead of filling the memory.
    pub answer_bytes_max: usize,
}

impl RayConfig {
    /// The defaults, for the cluster at `address`.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            token: None,
            ca_file: None,
            reserve_entrypoint: true,
            poll_interval: Duration::from_secs(1),
            resync_interval: Duration::from_secs(30),
            lost_settle: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(5),
            submit_timeout: Duration::from_secs(30),
            package_timeout: Duration::from_mins(10),
            list_timeout: Duration::from_secs(30),
            logs_timeout: Duration::from_mins(1),
            call_timeout: Duration::from_secs(15),
            log_poll: Duration::from_secs(1),
            log_patience: Duration::from_secs(30),
            answer_bytes_max: 256 << 20,
        }
    }
}

/// Why no driver can be made of a [`RayConfig`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RayConfigError {
    /// The address can't be used.
    #[error("{address:?} is not the address of a Ray cluster: {problem}")]
    Address {
        /// As given.
        address: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The token holds characters that no header can carry.
    #[error("the token holds characters that can't be sent")]
    Token,
    /// The file of certificate authorities can't be used.
    #[error("{path} can't be used as a list of certificate authorities: {problem}", path = path.display())]
    CaFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// TLS can't be set up on this host.
    #[error("TLS can't be set up: {0}")]
    Tls(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_shown() {
        let config = RayConfig { token: Some(Token::new("s3cret\n")), ..RayConfig::new("http://h") };
        assert!(!format!("{config:?}").contains("s3cret"));
        assert_eq!(config.token.unwrap().reveal(), "s3cret");
    }
}
