//! `[ray_api]`: the Ray Jobs API and the packages that its clients upload.

use std::time::Duration;

use yard_domain::TeamId;
use yard_packages::PackageLimits;
use yard_server::RayApiConfig;

use super::reader::Table;
use super::service::{millis, secs, to_u32, to_usize};

const DAY: Duration = Duration::from_hours(24);

/// Reads `[ray_api]`.
pub(super) fn ray_api(root: &mut Table<'_, '_>) -> (RayApiConfig, PackageLimits) {
    let (api, packages) = (RayApiConfig::default(), PackageLimits::default());
    let mut t = root.table("ray_api");
    let config = RayApiConfig {
        default_team: t.parsed("default_team", str::parse::<TeamId>),
        ray_version: t.parsed_or("ray_version", "2.60.0", version).unwrap_or(api.ray_version),
        list_max: to_u32(t.integer_or("list_max", u64::from(api.list_max), 1..=100_000)),
        log_bytes_max: to_usize(t.integer_or("log_bytes_max", api.log_bytes_max as u64, 1_024..=1 << 30)),
        tail_poll: t.span_or("tail_poll_ms", api.tail_poll, millis(10, 60_000)),
        upload_timeout: t.span_or("upload_timeout_s", api.upload_timeout, secs(1, 86_400)),
        uploads_max: to_usize(t.integer_or("uploads_max", api.uploads_max as u64, 1..=10_000)),
    };
    let limits = PackageLimits {
        bytes_max: t.integer_or("package_bytes_max", packages.bytes_max, 1_024..=1 << 40),
        keep: t.span_or("package_keep_days", packages.keep, DAY..DAY * 3_650),
        collect_interval: t.span_or("collect_interval_s", packages.collect_interval, secs(1, 86_400)),
    };
    t.finish();
    (config, limits)
}

/// Numbers with points between, as Ray's clients compare them.
fn version(text: &str) -> Result<String, String> {
    let sound = text.split('.').count() >= 2 && text.split('.').all(|part| part.parse::<u32>().is_ok());
    if sound {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not a version of Ray: use one like 2.60.0"))
    }
}
