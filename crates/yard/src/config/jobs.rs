//! `[defaults]` and `[limits]`: what submissions may leave out, and what they may ask for.

use std::ops::RangeInclusive;
use std::time::Duration;

use yard_domain::Request;
use yard_wire::{Defaults, Limits};

use super::quantity::{bytes, milli};
use super::reader::Table;
use super::service::{secs, to_u32, to_usize};

const WEEK: Duration = Duration::from_hours(7 * 24);
const YEAR_S: u64 = 366 * 86_400;

/// Reads `[limits]`.
pub(super) fn limits(root: &mut Table<'_, '_>) -> Limits {
    let d = Limits::default();
    let mut t = root.table("limits");
    let mut size =
        |key, default: usize, range: RangeInclusive<u64>| to_usize(t.integer_or(key, default as u64, range));
    let mut limits = Limits {
        body_bytes_max: size("body_bytes_max", d.body_bytes_max, 1_024..=16 << 20),
        bulk_max: size("bulk_max", d.bulk_max, 1..=10_000),
        bulk_body_bytes_max: size("bulk_body_bytes_max", d.bulk_body_bytes_max, 1_024..=256 << 20),
        key_bytes_max: size("key_bytes_max", d.key_bytes_max, 1..=200),
        name_chars_max: size("name_chars_max", d.name_chars_max, 1..=200),
        entrypoint_bytes_max: size("entrypoint_bytes_max", d.entrypoint_bytes_max, 1..=1 << 20),
        runtime_env_bytes_max: size("runtime_env_bytes_max", d.runtime_env_bytes_max, 2..=4 << 20),
        metadata_entries_max: size("metadata_entries_max", d.metadata_entries_max, 0..=1_000),
        metadata_key_bytes_max: size("metadata_key_bytes_max", d.metadata_key_bytes_max, 1..=1_024),
        metadata_value_bytes_max: size("metadata_value_bytes_max", d.metadata_value_bytes_max, 1..=65_536),
        list_entries_max: size("list_entries_max", d.list_entries_max, 1..=1_000),
        errors_max: size("errors_max", d.errors_max, 1..=1_000),
        ..d
    };
    limits.ray_workers_max =
        to_u32(t.integer_or("ray_workers_max", u64::from(limits.ray_workers_max), 1..=100_000));
    limits.units_max = t.integer_or("units_max", limits.units_max, 1..=1_000_000_000);
    limits.memory_bytes_max = t.integer_or("memory_bytes_max", limits.memory_bytes_max, 1..=1 << 60);
    limits.max_retries_max =
        to_u32(t.integer_or("max_retries_max", u64::from(limits.max_retries_max), 0..=10_000));
    limits.queue_timeout_min = t.span_or("queue_timeout_min_s", limits.queue_timeout_min, secs(1, YEAR_S));
    limits.queue_timeout_max = t.span_or("queue_timeout_max_s", limits.queue_timeout_max, secs(1, YEAR_S));
    limits.run_timeout_min = t.span_or("run_timeout_min_s", limits.run_timeout_min, secs(1, YEAR_S));
    limits.run_timeout_max = t.span_or("run_timeout_max_s", limits.run_timeout_max, secs(1, YEAR_S));
    if limits.queue_timeout_min > limits.queue_timeout_max {
        t.complain("queue_timeout_min_s", "must not be above queue_timeout_max_s");
    }
    if limits.run_timeout_min > limits.run_timeout_max {
        t.complain("run_timeout_min_s", "must not be above run_timeout_max_s");
    }
    t.finish();
    limits
}

/// Reads `[defaults]`, which must themselves keep `limits`.
pub(super) fn defaults(root: &mut Table<'_, '_>, limits: &Limits) -> Defaults {
    let mut t = root.table("defaults");
    let defaults = Defaults {
        queue_timeout: t.span_or("queue_timeout_s", WEEK, secs(1, YEAR_S)),
        run_timeout: t.span_or("run_timeout_s", WEEK, secs(1, YEAR_S)),
        max_retries: to_u32(t.integer_or("max_retries", 0, 0..=10_000)),
        request: Request {
            cpu_milli: t.quantity_or("cpu", "1", milli).unwrap_or(1_000),
            gpu_milli: t.quantity_or("gpu", "0", milli).unwrap_or(0),
            memory_bytes: t.quantity_or("memory", "0", bytes).unwrap_or(0),
            jobs: 1,
            ..Request::default()
        },
    };
    let queue = limits.queue_timeout_min..=limits.queue_timeout_max;
    let run = limits.run_timeout_min..=limits.run_timeout_max;
    for (key, within) in [
        ("queue_timeout_s", queue.contains(&defaults.queue_timeout)),
        ("run_timeout_s", run.contains(&defaults.run_timeout)),
        ("max_retries", defaults.max_retries <= limits.max_retries_max),
        ("cpu", defaults.request.cpu_milli / 1_000 <= limits.units_max),
        ("gpu", defaults.request.gpu_milli / 1_000 <= limits.units_max),
        ("memory", defaults.request.memory_bytes <= limits.memory_bytes_max),
    ] {
        if !within {
            t.complain(key, "is outside of what [limits] allows");
        }
    }
    t.finish();
    defaults
}
