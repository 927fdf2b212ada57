//! Which queue, where, and with which waits and credentials.

use std::time::Duration;

/// How a queue is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueueAddress {
    /// By its URL.
    Url(String),
    /// By its name in the region and account of the credentials; looked up at the first call.
    Name(String),
}

/// Whose credentials sign the calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SqsCredentials {
    /// AWS's normal chain: environment, profile, SSO, credential process, web identity, container, instance.
    #[default]
    Chain,
    /// A fixed public pair that opens nothing at AWS: for a local server that takes any (`yard dev`).
    Local,
}

/// Where SQS is spoken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SqsEndpoint {
    /// AWS's region; `None` takes it from the environment, the profile or the instance (`us-east-1` if `url` is given).
    pub region: Option<String>,
    /// The base URL of an SQS-compatible server in place of AWS's.
    pub url: Option<String>,
    /// Whose credentials sign the calls.
    pub credentials: SqsCredentials,
}

/// Everything about one queue of submissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqsConfig {
    /// Its name with us: in receipts (`sqs:<name>`), logs and metric labels.
    pub name: String,
    /// How it is found.
    pub queue: QueueAddress,
    /// Where rejected messages go; `None` keeps them as receipts only.
    pub dead_letter_url: Option<String>,
    /// Where SQS is spoken.
    pub endpoint: SqsEndpoint,
    /// How long a receive waits for messages; at most [`SqsConfig::WAIT_MAX`].
    pub wait: Duration,
    /// How long a received message stays hidden; at most [`SqsConfig::VISIBILITY_MAX`].
    pub visibility: Duration,
    /// Most messages of one receive, 1 to [`SqsConfig::BATCH_MAX`].
    pub batch: u32,
    /// Whether the API puts submissions here while the database is away. What then stands beside a body is believed, so
    /// only servers of the installation may send to it.
    pub spill: bool,
    /// Longest duration of one call, the wait of a receive not counted.
    pub call_timeout: Duration,
}

impl SqsConfig {
    /// SQS's longest long poll.
    pub const WAIT_MAX: Duration = Duration::from_secs(20);
    /// SQS's longest visibility timeout.
    pub const VISIBILITY_MAX: Duration = Duration::from_hours(12);
    /// SQS's largest batch.
    pub const BATCH_MAX: u32 = 10;

    /// The queue at `queue`, called `name`, with the usual waits: long poll of 20 s, hidden for 60 s.
    pub fn new(name: impl Into<String>, queue: QueueAddress, endpoint: SqsEndpoint) -> Self {
        Self {
            name: name.into(),
            queue,
            dead_letter_url: None,
            spill: false,
            endpoint,
            wait: Self::WAIT_MAX,
            visibility: Duration::from_mins(1),
            batch: Self::BATCH_MAX,
            call_timeout: Duration::from_secs(10),
        }
    }
}
