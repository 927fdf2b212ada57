//! The limits and times of the loops. All of them are configuration; the defaults suit one installation
//! with a handful of clusters.

use std::collections::BTreeMap;
use std::time::Duration;

use yard_domain::lease::LeaseTerms;
use yard_domain::{RetryRules, TeamId};
use yard_ports::store::QueueView;

use crate::history::HistoryBounds;

/// Intake of one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntakeSettings {
    /// Receivers that wait on the queue side by side.
    pub receivers: u32,
    /// Most messages committed in one transaction.
    pub batch_max: usize,
    /// Longest that the first message of a batch waits for others.
    pub linger: Duration,
    /// First wait after a failed call; doubles up to `backoff_max`, with jitter.
    pub backoff_initial: Duration,
    /// Longest wait after a failed call.
    pub backoff_max: Duration,
}

impl Default for IntakeSettings {
    fn default() -> Self {
        Self {
            receivers: 2,
            batch_max: 256,
            linger: Duration::from_millis(5),
            backoff_initial: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
        }
    }
}

/// The scheduler's loops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedulerSettings {
    /// Longest pause between passes; a nudge ends it early.
    pub pass_interval: Duration,
    /// How much of the queue one pass looks at.
    pub view: QueueView,
    /// Most placements in one pass.
    pub placements_max: u32,
    /// Most open attempts looked at to find out when there will be room and who could make it: those placed last.
    pub holdings_max: u32,
    /// How much is remembered of how long jobs run.
    pub history: HistoryBounds,
    /// Pause between looks at what has ended.
    pub history_interval: Duration,
    /// Most placements committed in one transaction.
    pub commit_batch: usize,
    /// The scheduler's lease.
    pub lease: LeaseTerms,
    /// Pause between sweeps of the clocks.
    pub sweep_interval: Duration,
    /// Most jobs moved in one sweep transaction.
    pub sweep_batch: u32,
    /// Jobs that ended longer ago are deleted (their receipts stay).
    pub keep_ended: Duration,
    /// Lines of the audit log that are older are deleted, and tokens that ended so long ago.
    pub keep_audit: Duration,
    /// How long events can be read on from where a reader left off.
    pub keep_events: Duration,
    /// Pause between purges.
    pub purge_interval: Duration,
    /// Pause between audits of the ledger.
    pub audit_interval: Duration,
}

impl Default for SchedulerSettings {
    fn default() -> Self {
        Self {
            pass_interval: Duration::from_millis(250),
            view: QueueView { groups: 1_000, depth: 200 },
            placements_max: 1_000,
            holdings_max: 20_000,
            history: HistoryBounds::default(),
            history_interval: Duration::from_secs(10),
            commit_batch: 200,
            lease: LeaseTerms { ttl: Duration::from_secs(5), margin: Duration::from_secs(1) },
            sweep_interval: Duration::from_millis(500),
            sweep_batch: 200,
            keep_ended: Duration::from_hours(24 * 30),
            keep_audit: Duration::from_hours(24 * 400),
            keep_events: Duration::from_hours(24 * 3),
            purge_interval: Duration::from_mins(1),
            audit_interval: Duration::from_mins(1),
        }
    }
}

/// Explanations of why jobs wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExplainSettings {
    /// How much one may cost, in plans.
    pub bounds: yard_planner::Bounds,
    /// Most made at once; others wait for their turn.
    pub at_once: usize,
}

impl Default for ExplainSettings {
    fn default() -> Self {
        Self { bounds: yard_planner::Bounds::default(), at_once: 2 }
    }
}

/// The dispatchers, one per cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DispatcherSettings {
    /// A dispatcher's lease.
    pub lease: LeaseTerms,
    /// Longest pause between looks for placed jobs; a nudge ends it early.
    pub poll_interval: Duration,
    /// Pause between looks at who dispatches what.
    pub election_interval: Duration,
    /// Longest a reported start or end waits for others before it is committed.
    pub linger: Duration,
    /// Most starts or ends committed in one transaction.
    pub batch_max: usize,
    /// How long a cluster may be silent before its health says so.
    pub unreachable_after: Duration,
    /// How long a cluster may be silent before its jobs count as lost.
    pub lost_grace: Duration,
    /// How long what has ended stays on the cluster (with its log).
    pub keep_remote: Duration,
    /// Pause between reports of health and capacity to the store.
    pub report_interval: Duration,
    /// First wait before a launch call is repeated; doubles up to `launch_backoff_max`, with jitter.
    pub launch_backoff_initial: Duration,
    /// Longest wait before a launch call is repeated.
    pub launch_backoff_max: Duration,
    /// Launch calls that must fail in a row before the breaker holds back further launches.
    pub breaker_threshold: u32,
    /// How long an open breaker holds launches back before it lets one try.
    pub breaker_pause: Duration,
    /// After this long, a launch that failed counts half in the choice of clusters.
    pub failures_half_life: Duration,
    /// When failed attempts are tried again.
    pub retry: RetryRules,
}

impl Default for DispatcherSettings {
    fn default() -> Self {
        Self {
            lease: LeaseTerms { ttl: Duration::from_secs(10), margin: Duration::from_secs(3) },
            poll_interval: Duration::from_millis(250),
            election_interval: Duration::from_secs(1),
            linger: Duration::from_millis(5),
            batch_max: 256,
            unreachable_after: Duration::from_secs(10),
            lost_grace: Duration::from_mins(10),
            keep_remote: Duration::from_hours(1),
            report_interval: Duration::from_secs(5),
            launch_backoff_initial: Duration::from_millis(200),
            launch_backoff_max: Duration::from_secs(10),
            breaker_threshold: 5,
            breaker_pause: Duration::from_secs(5),
            failures_half_life: Duration::from_mins(5),
            retry: RetryRules::default(),
        }
    }
}

/// Pushes to producers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PushSettings {
    /// Leases on subscriptions, and on making events into deliveries.
    pub lease: LeaseTerms,
    /// Pause between looks at who pushes what.
    pub election_interval: Duration,
    /// Longest pause between looks for new events, and for deliveries that are due.
    pub poll_interval: Duration,
    /// Most events made into deliveries in one transaction.
    pub page_max: u32,
    /// Most deliveries of one subscription that may wait; more are given up at once.
    pub pending_max: u32,
    /// Deliveries that were given up longer ago are deleted.
    pub keep_dead: Duration,
    /// Pause between looks for what is to be given up or deleted.
    pub upkeep_interval: Duration,
}

impl Default for PushSettings {
    fn default() -> Self {
        Self {
            lease: LeaseTerms { ttl: Duration::from_secs(10), margin: Duration::from_secs(3) },
            election_interval: Duration::from_secs(1),
            poll_interval: Duration::from_millis(500),
            page_max: 500,
            pending_max: 100_000,
            keep_dead: Duration::from_hours(24 * 14),
            upkeep_interval: Duration::from_secs(10),
        }
    }
}

/// How logs are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// Pause between two looks at the log of a running attempt: what a cluster that dies takes with it at most, unless
    /// there are more attempts than `readers_max` can read in that time.
    pub chunk_interval: Duration,
    /// Largest chunk, in bytes of the log.
    pub chunk_bytes: usize,
    /// Logs of one cluster that are read at once.
    pub readers_max: usize,
    /// Most bytes kept of an attempt: the first half of that, and as much of the newest.
    pub attempt_bytes_max: u64,
    /// How long the rest of an ended attempt's log is tried for; until then it stays on its cluster.
    pub end_wait: Duration,
    /// Logs whose last line is older are deleted, once their job has ended.
    pub keep: Duration,
    /// The same for teams for which it differs.
    pub keep_by_team: BTreeMap<TeamId, Duration>,
    /// Pause between looks for old logs.
    pub sweep_interval: Duration,
    /// Most chunks deleted before the lease is looked at again.
    pub sweep_batch: usize,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            chunk_interval: Duration::from_secs(10),
            chunk_bytes: 1 << 20,
            readers_max: 8,
            attempt_bytes_max: 64 << 20,
            end_wait: Duration::from_hours(6),
            keep: Duration::from_hours(24 * 30),
            keep_by_team: BTreeMap::new(),
            sweep_interval: Duration::from_hours(1),
            sweep_batch: 1_000,
        }
    }
}

/// How fast one cluster may be driven.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LaunchLimits {
    /// Launches per second, in the long run.
    pub rate_per_s: f64,
    /// Launches at once after a pause.
    pub burst: u32,
    /// Launches begun and not yet answered by the cluster, at most.
    pub in_flight_max: u32,
}

impl Default for LaunchLimits {
    fn default() -> Self {
        Self { rate_per_s: 10.0, burst: 20, in_flight_max: 16 }
    }
}
