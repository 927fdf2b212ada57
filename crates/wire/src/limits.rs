//! Bounds on what is accepted, and what is filled in where a submission says nothing. Both are configuration.

use std::time::Duration;

use yard_domain::Request;

/// Bounds on a submission. Every one is configuration; these are the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Longest document, in bytes as sent. Default 1 MiB, like an SQS message.
    pub body_bytes_max: usize,
    /// Most documents in one bulk submission. Default 1,000.
    pub bulk_max: usize,
    /// Longest body of a bulk submission, in bytes. Default 16 MiB.
    pub bulk_body_bytes_max: usize,
    /// Longest key, in bytes. Default 200.
    pub key_bytes_max: usize,
    /// Longest name, in characters. Default 200.
    pub name_chars_max: usize,
    /// Longest entrypoint, in bytes. Default 64 KiB.
    pub entrypoint_bytes_max: usize,
    /// Largest `runtime_env`, in bytes of compact JSON. Default 256 KiB.
    pub runtime_env_bytes_max: usize,
    /// Most metadata entries. Default 64.
    pub metadata_entries_max: usize,
    /// Longest metadata key, in bytes. Default 128.
    pub metadata_key_bytes_max: usize,
    /// Longest metadata value, in bytes. Default 4096.
    pub metadata_value_bytes_max: usize,
    /// Most custom resources, cluster names or cluster labels in one submission. Default 32.
    pub list_entries_max: usize,
    /// Most workers of a Ray cluster that a job wants to itself. Default 1,000.
    pub ray_workers_max: u32,
    /// Most of cpu, gpu or one custom resource, in whole units. Default 1,000,000.
    pub units_max: u64,
    /// Most memory, in bytes. Default 1 PiB.
    pub memory_bytes_max: u64,
    /// Most retries that a job may ask for. Default 100.
    pub max_retries_max: u32,
    /// Shortest queue timeout. Default 1 s.
    pub queue_timeout_min: Duration,
    /// Longest queue timeout. Default 90 days.
    pub queue_timeout_max: Duration,
    /// Shortest run timeout. Default 1 s.
    pub run_timeout_min: Duration,
    /// Longest run timeout. Default 30 days.
    pub run_timeout_max: Duration,
    /// Most errors reported of one submission; the rest is counted. Default 100.
    pub errors_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 1 << 20,
            bulk_max: 1_000,
            bulk_body_bytes_max: 16 << 20,
            key_bytes_max: 200,
            name_chars_max: 200,
            entrypoint_bytes_max: 64 << 10,
            runtime_env_bytes_max: 256 << 10,
            metadata_entries_max: 64,
            metadata_key_bytes_max: 128,
            metadata_value_bytes_max: 4_096,
            list_entries_max: 32,
            ray_workers_max: 1_000,
            units_max: 1_000_000,
            memory_bytes_max: 1 << 50,
            max_retries_max: 100,
            queue_timeout_min: Duration::from_secs(1),
            queue_timeout_max: Duration::from_hours(90 * 24),
            run_timeout_min: Duration::from_secs(1),
            run_timeout_max: Duration::from_hours(30 * 24),
            errors_max: 100,
        }
    }
}

/// What is filled in where a submission says nothing. Every one is configuration; these are the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// Longest wait in the queue. Default 24 h.
    pub queue_timeout: Duration,
    /// Longest run of one attempt. Default 24 h.
    pub run_timeout: Duration,
    /// Retries after failures of the job's own. Default 0.
    pub max_retries: u32,
    /// Each resource that is left out, and that its team has no default for, takes its amount from here (custom resources: all
    /// or none). Default 1 cpu.
    pub request: Request,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            queue_timeout: Duration::from_hours(24),
            run_timeout: Duration::from_hours(24),
            max_retries: 0,
            request: Request { cpu_milli: 1_000, jobs: 1, ..Request::default() },
        }
    }
}
