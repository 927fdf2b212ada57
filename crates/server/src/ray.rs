//! What the routes of the Ray Jobs API work with.

use std::time::Duration;

use yard_domain::TeamId;
use yard_packages::Shelf;

/// The bounds of the Ray Jobs API. Every one is configuration; these are the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RayApiConfig {
    /// The team of submissions that name none, of callers who have not just one.
    pub default_team: Option<TeamId>,
    /// The Ray version that clients are told; they refuse what is too old for what they want. Default 2.60.0.
    pub ray_version: String,
    /// Most jobs in a list: the newest. Default 1,000.
    pub list_max: u32,
    /// Most of a log in one answer: its end. Default 64 MiB. A log that is tailed has no bound.
    pub log_bytes_max: usize,
    /// How often a log that is tailed looks whether its job has started, moved or ended. Default 500 ms.
    pub tail_poll: Duration,
    /// Longest time for one upload. Default 10 min.
    pub upload_timeout: Duration,
    /// Most uploads at once; more are told to come back. Default 32.
    pub uploads_max: usize,
}

impl Default for RayApiConfig {
    fn default() -> Self {
        Self {
            default_team: None,
            ray_version: "2.60.0".to_owned(),
            list_max: 1_000,
            log_bytes_max: 64 << 20,
            tail_poll: Duration::from_millis(500),
            upload_timeout: Duration::from_mins(10),
            uploads_max: 32,
        }
    }
}

/// The Ray Jobs API of this process.
#[derive(Clone)]
pub struct RayApi {
    /// Uploaded packages.
    pub packages: Shelf,
    /// Its bounds.
    pub config: RayApiConfig,
}
