//! `[scheduler]`, `[explain]`, `[dispatcher]`, `[retry]`, `[retention]`: the loops' limits and times.

use std::time::Duration;

use yard_domain::RetryRules;
use yard_domain::lease::LeaseTerms;
use yard_engine::history::HistoryBounds;
use yard_engine::settings::{DispatcherSettings, ExplainSettings, SchedulerSettings};
use yard_ports::store::{QueueView, StoreLimits};

use super::reader::Table;
use super::service::{millis, secs, to_u32, to_usize};

const DAY: Duration = Duration::from_hours(24);

/// Reads `[scheduler]`. Retention is filled in by [`retention`].
pub(super) fn scheduler(root: &mut Table<'_, '_>) -> (SchedulerSettings, StoreLimits) {
    let default = SchedulerSettings::default();
    let mut t = root.table("scheduler");
    if t.is_set("fit") {
        t.know_only("fit");
        t.complain(
            "fit",
            "has moved, to be changed without a restart: write it as fit = … under [policy.score]",
        );
    }
    let settings = SchedulerSettings {
        pass_interval: t.span_or("pass_interval_ms", default.pass_interval, millis(1, 60_000)),
        view: QueueView {
            groups: to_u32(t.integer_or("groups_max", u64::from(default.view.groups), 1..=100_000)),
            depth: to_u32(t.integer_or("depth_max", u64::from(default.view.depth), 1..=10_000)),
        },
        placements_max: to_u32(t.integer_or("claim_max", u64::from(default.placements_max), 1..=100_000)),
        holdings_max: to_u32(t.integer_or("holdings_max", u64::from(default.holdings_max), 1..=1_000_000)),
        history: HistoryBounds {
            lookback: t.span_or("history_lookback_s", default.history.lookback, secs(1, 31_536_000)),
            groups_max: to_usize(t.integer_or(
                "history_groups_max",
                default.history.groups_max as u64,
                1..=1_000_000,
            )),
            ..default.history
        },
        history_interval: t.span_or("history_interval_s", default.history_interval, secs(1, 3_600)),
        commit_batch: to_usize(t.integer_or("commit_batch_max", default.commit_batch as u64, 1..=5_000)),
        lease: lease(&mut t, default.lease),
        sweep_interval: t.span_or("sweep_interval_ms", default.sweep_interval, millis(10, 60_000)),
        sweep_batch: to_u32(t.integer_or("sweep_batch_max", u64::from(default.sweep_batch), 1..=10_000)),
        audit_interval: t.span_or("audit_interval_s", default.audit_interval, secs(1, 86_400)),
        ..default
    };
    let limits = StoreLimits {
        place_deadline: t.span_or("place_deadline_s", Duration::from_mins(5), secs(1, 86_400)),
        launch_deadline: t.span_or("launch_deadline_s", Duration::from_mins(15), secs(1, 86_400)),
    };
    t.finish();
    (settings, limits)
}

/// Reads `[explain]`.
pub(super) fn explain(root: &mut Table<'_, '_>) -> ExplainSettings {
    let default = ExplainSettings::default();
    let mut t = root.table("explain");
    let bounds = yard_planner::Bounds {
        plans_max: to_u32(t.integer_or("plans_max", u64::from(default.bounds.plans_max), 1..=10_000)),
        forecast_plans_max: to_u32(t.integer_or(
            "forecast_plans_max",
            u64::from(default.bounds.forecast_plans_max),
            1..=10_000,
        )),
        horizon: t.span_or("horizon_s", default.bounds.horizon, secs(60, 31_536_000)),
        entries_max: to_u32(t.integer_or("entries_max", u64::from(default.bounds.entries_max), 1..=1_000)),
        time_max: t.span_or("time_max_ms", default.bounds.time_max, millis(100, 20_000)),
    };
    let at_once = to_usize(t.integer_or("at_once_max", default.at_once as u64, 1..=64));
    t.finish();
    ExplainSettings { bounds, at_once }
}

/// Reads `[retention]` into the scheduler's settings.
pub(super) fn retention(root: &mut Table<'_, '_>, scheduler: &mut SchedulerSettings) {
    let mut t = root.table("retention");
    scheduler.keep_ended = t.span_or("keep_days", scheduler.keep_ended, DAY..DAY * 3_650);
    scheduler.keep_audit = t.span_or("audit_keep_days", scheduler.keep_audit, DAY..DAY * 3_650);
    scheduler.keep_events = t.span_or("events_keep_s", scheduler.keep_events, secs(60, 366 * 86_400));
    scheduler.purge_interval = t.span_or("interval_s", scheduler.purge_interval, secs(1, 86_400));
    t.finish();
}

/// Reads `[dispatcher]` and `[retry]`.
pub(super) fn dispatcher(root: &mut Table<'_, '_>) -> DispatcherSettings {
    let default = DispatcherSettings::default();
    let retry = retry(root, default.retry);
    let mut t = root.table("dispatcher");
    let settings = DispatcherSettings {
        lease: lease(&mut t, default.lease),
        poll_interval: t.span_or("poll_interval_ms", default.poll_interval, millis(1, 60_000)),
        election_interval: t.span_or("election_interval_ms", default.election_interval, millis(10, 60_000)),
        linger: t.span_or("linger_ms", default.linger, millis(0, 10_000)),
        batch_max: to_usize(t.integer_or("batch_max", default.batch_max as u64, 1..=5_000)),
        unreachable_after: t.span_or("unreachable_after_s", default.unreachable_after, secs(1, 3_600)),
        lost_grace: t.span_or("cluster_lost_grace_s", default.lost_grace, secs(1, 604_800)),
        keep_remote: t.span_or("keep_remote_s", default.keep_remote, secs(0, 2_592_000)),
        report_interval: t.span_or("report_interval_s", default.report_interval, secs(1, 3_600)),
        launch_backoff_initial: t.span_or(
            "launch_backoff_initial_ms",
            default.launch_backoff_initial,
            millis(1, 60_000),
        ),
        launch_backoff_max: t.span_or("launch_backoff_max_s", default.launch_backoff_max, secs(1, 3_600)),
        breaker_threshold: to_u32(t.integer_or(
            "breaker_threshold",
            u64::from(default.breaker_threshold),
            1..=1_000,
        )),
        breaker_pause: t.span_or("breaker_pause_s", default.breaker_pause, secs(1, 3_600)),
        failures_half_life: t.span_or("failures_half_life_s", default.failures_half_life, secs(1, 86_400)),
        retry,
    };
    if settings.lost_grace <= settings.unreachable_after {
        t.complain("cluster_lost_grace_s", "must be more than unreachable_after_s: unreachable is not lost");
    }
    if settings.launch_backoff_max < settings.launch_backoff_initial {
        t.complain("launch_backoff_max_s", "must not be below launch_backoff_initial_ms");
    }
    t.finish();
    settings
}

fn retry(root: &mut Table<'_, '_>, default: RetryRules) -> RetryRules {
    let mut t = root.table("retry");
    let rules = RetryRules {
        max_infra_retries: to_u32(t.integer_or(
            "max_infra_retries",
            u64::from(default.max_infra_retries),
            0..=1_000,
        )),
        backoff_initial: t.span_or("backoff_initial_ms", default.backoff_initial, millis(1, 3_600_000)),
        backoff_max: t.span_or("backoff_max_s", default.backoff_max, secs(1, 86_400)),
    };
    if rules.backoff_max < rules.backoff_initial {
        t.complain("backoff_max_s", "must not be below backoff_initial_ms");
    }
    t.finish();
    rules
}

/// Reads `lease_ttl_ms` and `lease_margin_ms`, whose difference is how long a holder may act.
pub(super) fn lease(t: &mut Table<'_, '_>, default: LeaseTerms) -> LeaseTerms {
    let terms = LeaseTerms {
        ttl: t.span_or("lease_ttl_ms", default.ttl, millis(500, 600_000)),
        margin: t.span_or("lease_margin_ms", default.margin, millis(50, 300_000)),
    };
    // Renewal happens at a third of the time: less than that and a holder would stop between two renewals.
    if terms.margin > terms.ttl / 2 {
        let most = (terms.ttl / 2).as_millis();
        t.complain("lease_margin_ms", format!("must be at most half of lease_ttl_ms: set at most {most}"));
    }
    terms
}
