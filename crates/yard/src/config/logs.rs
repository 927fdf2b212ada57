//! `[logs]`: how the logs of jobs are kept and handed out.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::de::DeValue;
use yard_domain::TeamId;
use yard_engine::settings::LogSettings;
use yard_server::LogLimits;

use super::reader::Table;
use super::service::{secs, to_usize};

const DAY: Duration = Duration::from_hours(24);
/// Most days that logs may be kept.
const KEEP_DAYS_MAX: u64 = 3_650;

/// How the logs of jobs are kept and handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogsConfig {
    /// How they are kept; `None` if they stay on their clusters only.
    pub keeping: Option<LogSettings>,
    /// How much is handed out at once.
    pub limits: LogLimits,
}

/// Reads `[logs]`.
pub(super) fn logs(root: &mut Table<'_, '_>) -> LogsConfig {
    let (default, most) = (LogSettings::default(), LogLimits::default());
    let mut t = root.table("logs");
    let archive = t.switch_or("archive", true);
    let settings = LogSettings {
        chunk_interval: t.span_or("chunk_interval_s", default.chunk_interval, secs(1, 3_600)),
        chunk_bytes: to_usize(t.integer_or("chunk_bytes", default.chunk_bytes as u64, 4 << 10..=64 << 20)),
        readers_max: to_usize(t.integer_or("readers_max", default.readers_max as u64, 1..=1_000)),
        attempt_bytes_max: t.integer_or("attempt_bytes_max", default.attempt_bytes_max, 64 << 10..=1 << 40),
        end_wait: t.span_or("end_wait_s", default.end_wait, secs(1, 604_800)),
        keep: t.span_or("keep_days", default.keep, DAY..DAY * 3_650),
        keep_by_team: keep_by_team(&mut t),
        sweep_interval: t.span_or("sweep_interval_s", default.sweep_interval, secs(1, 86_400)),
        sweep_batch: to_usize(t.integer_or("sweep_batch_max", default.sweep_batch as u64, 1..=100_000)),
    };
    let limits = LogLimits {
        response_bytes_max: t.integer_or("response_bytes_max", most.response_bytes_max, 64 << 10..=1 << 40),
        buffer_bytes_max: to_usize(t.integer_or(
            "buffer_bytes_max",
            most.buffer_bytes_max as u64,
            4 << 10..=1 << 30,
        )),
        ..most
    };
    if (settings.chunk_bytes as u64).saturating_mul(4) > settings.attempt_bytes_max {
        t.complain(
            "attempt_bytes_max",
            "must be at least four times chunk_bytes: only whole chunks are kept",
        );
    }
    t.finish();
    LogsConfig { keeping: archive.then_some(settings), limits }
}

fn keep_by_team(t: &mut Table<'_, '_>) -> BTreeMap<TeamId, Duration> {
    let mut keep = BTreeMap::new();
    for (name, (_, value)) in t.free_table("keep_days_by_team") {
        let days = value.as_integer().and_then(|n| n.as_str().parse::<u64>().ok());
        match (name.parse::<TeamId>(), days.filter(|days| (1..=KEEP_DAYS_MAX).contains(days))) {
            (Ok(team), Some(days)) => _ = keep.insert(team, DAY * u32::try_from(days).unwrap_or(u32::MAX)),
            (Err(error), _) => t.complain("keep_days_by_team", error.to_string()),
            (Ok(_), None) => t.complain(
                "keep_days_by_team",
                format!("{name} = {} must be a number of days, 1 to {KEEP_DAYS_MAX}", shown(value)),
            ),
        }
    }
    keep
}

fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Integer(number) => number.as_str().to_owned(),
        DeValue::String(text) => format!("{text:?}"),
        _ => "…".to_owned(),
    }
}
