//! The server's limits.

use std::time::Duration;

/// How much of a log is handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// Longest answer, in bytes; it breaks off there and is taken up with an offset. Default 256 MiB.
    pub response_bytes_max: u64,
    /// Longest range or tail, in bytes: these are held in memory. Default 8 MiB.
    pub buffer_bytes_max: usize,
    /// Pause between looks for news of a job, or of a log that is followed in the archive. Default 1 s.
    pub look_interval: Duration,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            response_bytes_max: 256 << 20,
            buffer_bytes_max: 8 << 20,
            look_interval: Duration::from_secs(1),
        }
    }
}

/// The server's limits. Every one is configuration; these are the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Largest request body, in bytes. Default 1 MiB.
    pub body_max_bytes: usize,
    /// Longest time until a request is answered. A log that is followed may go on for longer: this covers
    /// the time to its first byte. Default 30 s.
    pub request_timeout: Duration,
    /// Most requests answered at once; beyond it they are told to come back. Health checks and metrics are
    /// not counted. Default 512.
    pub concurrency_max: usize,
    /// Most streams (logs, workloads) open at once. Default 256.
    pub log_streams_max: usize,
    /// How much of a log is handed out.
    pub logs: LogLimits,
    /// Most streams of events open at once. Default 4,096.
    pub event_streams_max: usize,
    /// Pause between looks for events that other processes have committed, while somebody listens. Default 100 ms.
    pub events_poll: Duration,
    /// Most requests that wait for a change of a job at once. Default 256.
    pub waits_max: usize,
    /// Most entries on one page of a list. Default 500.
    pub page_max: u32,
    /// Most jobs that one call of a list looks at. Default 20,000.
    pub list_scan_max: u32,
    /// How long open requests may go on after the server was told to stop. Default 10 s.
    pub drain_timeout: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            body_max_bytes: 1 << 20,
            request_timeout: Duration::from_secs(30),
            concurrency_max: 512,
            log_streams_max: 256,
            logs: LogLimits::default(),
            event_streams_max: 4_096,
            events_poll: Duration::from_millis(100),
            waits_max: 256,
            page_max: 500,
            list_scan_max: 20_000,
            drain_timeout: Duration::from_secs(10),
        }
    }
}
