//! Reads a document field by field and goes on after every error.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value};
use yard_domain::{
    ClassId, ClusterId, ClusterSelector, PodDemand, Priority, RayClusterShape, Request, Team, TeamId,
};
use yard_ports::packages::package_uris;

use super::VERSION;
use super::faults::{Faults, describe, join, nearest, quote};
use crate::canonical::canonical_text;
use crate::limits::{Defaults, Limits};

/// Every field of the document by section, "" being the top: what the reader knows. A test holds it to the schema.
pub(crate) const FIELDS: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "v",
            "team",
            "key",
            "name",
            "entrypoint",
            "runtime_env",
            "resources",
            "ray_cluster",
            "priority",
            "priority_class",
            "clusters",
            "retry",
            "timeouts",
            "metadata",
        ],
    ),
    ("resources", &["cpu", "gpu", "memory", "custom"]),
    ("ray_cluster", &["profile", "image", "env", "head", "workers"]),
    ("ray_cluster.head", &["cpu", "gpu", "memory", "custom"]),
    ("ray_cluster.workers", &["count", "min", "max", "cpu", "gpu", "memory", "custom", "gpu_type"]),
    ("clusters", &["only", "avoid", "labels", "prefer"]),
    ("retry", &["max_retries"]),
    ("timeouts", &["queue_s", "run_s"]),
];

/// What could be read. Where an error was found, the value is `None` or the default; the caller makes a job
/// of it only if there was none at all.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) team: Option<TeamId>,
    pub(crate) key: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) entrypoint: String,
    pub(crate) runtime_env: Map<String, Value>,
    pub(crate) request: Option<Request>,
    pub(crate) ray_cluster: Option<RayClusterShape>,
    /// As given, or (with a class) as admission finds out.
    pub(crate) priority: Priority,
    pub(crate) priority_class: Option<String>,
    pub(crate) clusters: Option<ClusterSelector>,
    /// The sound names in `clusters.only`, whatever else is wrong.
    pub(crate) only: BTreeSet<ClusterId>,
    pub(crate) max_retries: u32,
    pub(crate) queue_timeout: Duration,
    pub(crate) run_timeout: Duration,
    pub(crate) metadata: BTreeMap<String, String>,
}

/// Reads the document. `None` if it is no document of this version at all (said in `faults`).
pub(crate) fn read(
    value: &Value,
    limits: &Limits,
    defaults: &Defaults,
    teams: &BTreeMap<TeamId, Team>,
    faults: &mut Faults,
) -> Option<Draft> {
    let mut reader = Reader { limits, defaults, request: defaults.request.clone(), faults };
    let Value::Object(map) = value else {
        reader.faults.push("", "invalid", format!("must be a JSON object, but is {}", describe(value)));
        return None;
    };
    if !reader.version(map.get("v")) {
        return None;
    }
    let team = reader.team(map.get("team"));
    if let Some(team) = team.as_ref().and_then(|team| teams.get(team)) {
        reader.request = default_request(team, &defaults.request);
    }
    let mut draft = Draft {
        team,
        key: reader.key(present(map, "key")),
        name: reader.name(present(map, "name")),
        entrypoint: reader.entrypoint(map.get("entrypoint")),
        runtime_env: reader.runtime_env(present(map, "runtime_env")),
        request: None,
        ray_cluster: None,
        priority: Priority::default(),
        priority_class: None,
        clusters: None,
        only: BTreeSet::new(),
        max_retries: 0,
        queue_timeout: defaults.queue_timeout,
        run_timeout: defaults.run_timeout,
        metadata: BTreeMap::new(),
    };
    (draft.request, draft.ray_cluster) = reader.charge(map);
    draft.priority = reader.priority(present(map, "priority"));
    draft.priority_class = reader.priority_class(map);
    draft.clusters = reader.clusters(present(map, "clusters"), &mut draft.only);
    if let Some(selector) = &mut draft.clusters {
        let (shape, uploads) = (draft.ray_cluster.as_ref(), !package_uris(&draft.runtime_env).is_empty());
        selector.driver = shape.and_then(RayClusterShape::driver).map(str::to_owned);
        selector.pods = PodDemand::of(shape, uploads).map(Box::new);
    }
    draft.max_retries = reader.max_retries(present(map, "retry"));
    (draft.queue_timeout, draft.run_timeout) = reader.timeouts(present(map, "timeouts"));
    draft.metadata = reader.metadata(present(map, "metadata"));
    reader.unknown_fields("", map);
    Some(draft)
}

/// What a team's submissions ask for where they say nothing.
fn default_request(team: &Team, installation: &Request) -> Request {
    let team = &team.request;
    let custom = if team.custom_milli.is_empty() { &installation.custom_milli } else { &team.custom_milli };
    Request {
        cpu_milli: team.cpu_milli.unwrap_or(installation.cpu_milli),
        gpu_milli: team.gpu_milli.unwrap_or(installation.gpu_milli),
        memory_bytes: team.memory_bytes.unwrap_or(installation.memory_bytes),
        jobs: 1,
        custom_milli: custom.clone(),
    }
}

/// Whether a text may be a key: visible ASCII, so that every store compares it byte for byte.
pub(crate) fn is_key(text: &str, limits: &Limits) -> bool {
    !text.is_empty() && text.len() <= limits.key_bytes_max && text.bytes().all(|b| b.is_ascii_graphic())
}

/// The field, unless it is left out or null.
pub(super) fn present<'d>(map: &'d Map<String, Value>, name: &str) -> Option<&'d Value> {
    map.get(name).filter(|v| !v.is_null())
}

pub(super) struct Reader<'a> {
    pub(super) limits: &'a Limits,
    pub(super) defaults: &'a Defaults,
    /// The default of each resource, for this team.
    pub(super) request: Request,
    pub(super) faults: &'a mut Faults,
}

impl Reader<'_> {
    /// Whether to read on: what names no version was most likely meant to be of the only one.
    fn version(&mut self, value: Option<&Value>) -> bool {
        let known = format!("the only version is {VERSION}: write \"v\": {VERSION}");
        match value {
            Some(v) if whole(v) == Some(i128::from(VERSION)) => true,
            None | Some(Value::Null) => {
                self.faults.push("v", "missing", format!("must be there; {known}"));
                true
            }
            Some(other) => {
                self.faults.push(
                    "v",
                    "invalid",
                    format!("is {}, which is not supported; {known}", describe(other)),
                );
                false
            }
        }
    }

    fn team(&mut self, value: Option<&Value>) -> Option<TeamId> {
        let text = self.required_text("team", value, "the team that is charged")?;
        text.parse().map_err(|e| self.faults.push("team", "invalid", e)).ok()
    }

    fn key(&mut self, value: Option<&Value>) -> Option<String> {
        let text = self.text("key", value?)?;
        if is_key(text, self.limits) {
            return Some(text.to_owned());
        }
        let max = self.limits.key_bytes_max;
        if text.len() > max {
            self.faults.push(
                "key",
                "too_large",
                format!("has {} bytes; at most {max} are allowed", text.len()),
            );
        } else {
            let message =
                format!("{} is no key: use 1 to {max} visible ASCII characters, no spaces", quote(text));
            self.faults.push("key", "invalid", message);
        }
        None
    }

    fn name(&mut self, value: Option<&Value>) -> Option<String> {
        let text = self.text("name", value?)?;
        let max = self.limits.name_chars_max;
        let chars = text.chars().count();
        if chars > max {
            self.faults.push(
                "name",
                "too_large",
                format!("has {chars} characters; at most {max} are allowed"),
            );
        } else if text.trim().is_empty() || text.chars().any(char::is_control) {
            let message =
                format!("{} must have visible characters and no line breaks; or leave it out", quote(text));
            self.faults.push("name", "invalid", message);
        } else {
            return Some(text.to_owned());
        }
        None
    }

    fn entrypoint(&mut self, value: Option<&Value>) -> String {
        let Some(text) = self.required_text("entrypoint", value, "the shell command to run") else {
            return String::new();
        };
        let max = self.limits.entrypoint_bytes_max;
        if text.len() > max {
            self.faults.push(
                "entrypoint",
                "too_large",
                format!("has {} bytes; at most {max} are allowed", text.len()),
            );
        } else if text.trim().is_empty() {
            self.faults.push("entrypoint", "invalid", "is empty; give the shell command to run");
        } else if text.contains('\0') {
            self.faults.push("entrypoint", "invalid", "has a NUL character, which no shell can take");
        }
        text.to_owned()
    }

    fn runtime_env(&mut self, value: Option<&Value>) -> Map<String, Value> {
        let Some(map) = value.and_then(|v| self.object("runtime_env", v)) else { return Map::new() };
        let max = self.limits.runtime_env_bytes_max;
        let size = value.map_or(0, |v| canonical_text(v).len());
        if size > max {
            let message =
                format!("has {size} bytes; at most {max} are allowed: put files in working_dir instead");
            self.faults.push("runtime_env", "too_large", message);
        }
        map.clone()
    }

    fn priority(&mut self, value: Option<&Value>) -> Priority {
        let Some(value) = value else { return Priority::default() };
        let max = Priority::MAX;
        let Some(number) = self.integer("priority", value, -i64::from(max)..=i64::from(max)) else {
            return Priority::default();
        };
        Priority::new(number).unwrap_or_default()
    }

    fn priority_class(&mut self, map: &Map<String, Value>) -> Option<String> {
        let text = self.text("priority_class", present(map, "priority_class")?)?;
        if present(map, "priority").is_some() {
            let message = "stands beside \"priority\", which the class sets: keep one of the two";
            self.faults.push("priority_class", "invalid", message);
            return None;
        }
        text.parse::<ClassId>().map_err(|e| self.faults.push("priority_class", "invalid", e)).ok()?;
        Some(text.to_owned())
    }

    fn metadata(&mut self, value: Option<&Value>) -> BTreeMap<String, String> {
        let Limits { metadata_entries_max, metadata_key_bytes_max, metadata_value_bytes_max, .. } =
            *self.limits;
        let Some(map) = value.and_then(|v| self.object("metadata", v)) else { return BTreeMap::new() };
        self.at_most("metadata", map.len(), metadata_entries_max, "entries");
        let mut metadata = BTreeMap::new();
        for (key, value) in map {
            let path = join("metadata", key);
            if key.is_empty() || key.len() > metadata_key_bytes_max {
                let message =
                    format!("the key must have 1 to {metadata_key_bytes_max} bytes, but has {}", key.len());
                self.faults.push(&path, "too_large", message);
            } else if key.starts_with("yard.") {
                self.faults.push(&path, "invalid", "keys that begin with \"yard.\" are Switchyard's own");
            }
            let Some(text) = self.text(&path, value) else { continue };
            self.at_most(&path, text.len(), metadata_value_bytes_max, "bytes");
            metadata.insert(key.clone(), text.to_owned());
        }
        metadata
    }

    // --- what all fields share ---

    pub(super) fn text<'d>(&mut self, path: &str, value: &'d Value) -> Option<&'d str> {
        let text = value.as_str();
        if text.is_none() {
            self.faults.push(
                path,
                "invalid",
                format!("must be a text in quotes, but is {}", describe(value)),
            );
        }
        text
    }

    fn required_text<'d>(&mut self, path: &str, value: Option<&'d Value>, what: &str) -> Option<&'d str> {
        match value {
            None | Some(Value::Null) => {
                self.faults.push(path, "missing", format!("must be there: {what}"));
                None
            }
            Some(value) => self.text(path, value),
        }
    }

    pub(super) fn object<'d>(&mut self, path: &str, value: &'d Value) -> Option<&'d Map<String, Value>> {
        let map = value.as_object();
        if map.is_none() {
            self.faults.push(path, "invalid", format!("must be an object {{…}}, but is {}", describe(value)));
        }
        map
    }

    pub(super) fn integer(
        &mut self,
        path: &str,
        value: &Value,
        range: std::ops::RangeInclusive<i64>,
    ) -> Option<i64> {
        let bounds = format!("{} to {}", range.start(), range.end());
        let Some(number) = whole(value) else {
            self.faults.push(
                path,
                "invalid",
                format!("must be a whole number, {bounds}, but is {}", describe(value)),
            );
            return None;
        };
        if let Some(number) = i64::try_from(number).ok().filter(|n| range.contains(n)) {
            return Some(number);
        }
        self.faults.push(path, "out_of_range", format!("is {number}; allowed is {bounds}"));
        None
    }

    pub(super) fn at_most(&mut self, path: &str, count: usize, max: usize, what: &str) {
        if count > max {
            self.faults.push(path, "too_large", format!("has {count} {what}; at most {max} are allowed"));
        }
    }

    /// Reports every field of `section` that is not in [`FIELDS`], with the name that was probably meant.
    pub(super) fn unknown_fields(&mut self, section: &str, map: &Map<String, Value>) {
        let known = FIELDS.iter().find(|(s, _)| *s == section).map_or(&[][..], |(_, fields)| fields);
        for name in map.keys().filter(|name| !known.contains(&name.as_str())) {
            self.faults.push(join(section, name), "unknown_field", advice(section, name, known));
        }
    }
}

/// A whole number, however it is spelt: 2.0 is 2, as it is for the document's hash.
pub(super) fn whole(value: &Value) -> Option<i128> {
    let exact = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
    exact.or_else(|| {
        let float = value.as_f64().filter(|f| f.fract() == 0.0 && f.abs() < 9e15)?;
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53, as just checked")]
        Some(float as i128)
    })
}

fn advice(section: &str, name: &str, known: &[&str]) -> String {
    if let Some(meant) = nearest(name, known.iter().copied()) {
        return format!("there is no such field; did you mean {:?}?", join(section, meant));
    }
    let elsewhere = FIELDS.iter().find(|(s, fields)| *s != section && fields.contains(&name));
    if let Some((home, _)) = elsewhere {
        return format!("there is no such field here; did you mean {:?}?", join(home, name));
    }
    format!("there is no such field; known are {}", known.join(", "))
}
