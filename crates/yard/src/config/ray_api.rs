//! `[ray_api]`: the Ray Jobs API and the packages that its clients upload.

use std::time::Duration;

use yard_domain::TeamId;
use yard_packages::{LinkKey, Links, PackageLimits};
use yard_server::RayApiConfig;

use super::intake::http_url;
use super::reader::Table;
use super::secret;
use super::service::{millis, secs, to_u32, to_usize};

const DAY: Duration = Duration::from_hours(24);

/// Reads `[ray_api]`.
pub(super) fn ray_api(root: &mut Table<'_, '_>) -> (RayApiConfig, PackageLimits, Option<Links>) {
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
    let links = links(&mut t);
    t.finish();
    (config, limits, links)
}

/// How clusters fetch packages that can't be brought to them; `None` if they don't.
fn links(t: &mut Table<'_, '_>) -> Option<Links> {
    let base = t.parsed("link_url", http_url);
    let key = link_key(t, ["link_key", "link_key_file", "link_key_env"]);
    let second = link_key(t, ["second_link_key", "second_link_key_file", "second_link_key_env"]);
    let keys = ["link_key_file", "link_key_env", "second_link_key_file", "second_link_key_env"];
    if t.is_set("link_url") {
        if !t.is_set("link_key_file") && !t.is_set("link_key_env") {
            t.missing(
                "link_key_env",
                "name the variable (or with link_key_file the file) with the key of all processes",
            );
        }
    } else if let Some(key) = keys.into_iter().find(|key| t.is_set(key)) {
        t.complain(key, "has no use without link_url: add the URL at which clusters reach this API");
    }
    Some(Links::new(&base?, key?, second))
}

fn link_key(t: &mut Table<'_, '_>, names: [&'static str; 3]) -> Option<LinkKey> {
    let parse = |text: &str| LinkKey::parse(text).map_err(|e| e.to_string());
    let source = secret::declared(t, names, |text| parse(text).map(drop))?;
    // What is wrong with it has been said.
    source.read(t.sources().environment()).and_then(|key| parse(key.expose())).ok()
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
