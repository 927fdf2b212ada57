//! Reads the sections of a document: resources, clusters, retry, timeouts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value};
use yard_domain::resources::show_quantity;
use yard_domain::{ClusterId, ClusterSelector, Request};

use super::faults::{describe, join, quote};
use super::reader::{Reader, present, whole};
use crate::quantity::{parse_memory, parse_milli};

/// Longest name of a custom resource, or key or value of a cluster label, in bytes. Part of the format
/// (Kubernetes has the same bounds), not a limit to be configured.
const SHORT_NAME_MAX: usize = 63;

impl Reader<'_> {
    /// `None` if anything in the section is wrong.
    pub(super) fn request(&mut self, value: Option<&Value>) -> Option<Request> {
        let before = self.faults.count();
        let Some(value) = value else { return Some(Request { jobs: 1, ..self.request.clone() }) };
        let map = self.object("resources", value)?;
        let request = self.amounts("resources", map);
        self.unknown_fields("resources", map);
        (self.faults.count() == before).then_some(request)
    }

    /// The amounts in the section at `path`; what is left out takes its default.
    pub(super) fn amounts(&mut self, path: &str, map: &Map<String, Value>) -> Request {
        let default = self.request.clone();
        let cpu = self.units(&join(path, "cpu"), present(map, "cpu"));
        let gpu = self.units(&join(path, "gpu"), present(map, "gpu"));
        let memory = self.memory(&join(path, "memory"), present(map, "memory"));
        Request {
            cpu_milli: cpu.unwrap_or(default.cpu_milli),
            gpu_milli: gpu.unwrap_or(default.gpu_milli),
            memory_bytes: memory.unwrap_or(default.memory_bytes),
            jobs: 1,
            custom_milli: match present(map, "custom") {
                Some(custom) => self.custom(&join(path, "custom"), custom),
                None => default.custom_milli,
            },
        }
    }

    fn units(&mut self, path: &str, value: Option<&Value>) -> Option<u64> {
        let value = value?;
        let Value::Number(number) = value else {
            self.faults.push(
                path,
                "invalid",
                format!("must be a number without quotes, like 2 or 0.5, but is {}", describe(value)),
            );
            return None;
        };
        let max = self.limits.units_max;
        match parse_milli(number) {
            Ok(milli) if milli <= max.saturating_mul(1_000) => return Some(milli),
            Ok(_) => self.faults.push(path, "out_of_range", format!("is {number}; allowed is at most {max}")),
            Err(e) => self.faults.push(path, "out_of_range", format!("is {number}: it {e}")),
        }
        None
    }

    fn memory(&mut self, path: &str, value: Option<&Value>) -> Option<u64> {
        let value = value?;
        let read = match value {
            Value::Number(number) => match whole(value).and_then(|bytes| u64::try_from(bytes).ok()) {
                Some(bytes) => Ok(bytes),
                None => Err(format!(
                    "is {number}: a number must be whole, in bytes; or write a text like \"8GiB\""
                )),
            },
            Value::String(text) => parse_memory(text).map_err(|e| format!("{} {e}", quote(text))),
            other => {
                Err(format!("must be a text like \"8GiB\" or a number of bytes, but is {}", describe(other)))
            }
        };
        let max = self.limits.memory_bytes_max;
        match read {
            Ok(0) => self.faults.push(
                path,
                "out_of_range",
                "is zero: leave it out if the job needs no memory of its own",
            ),
            Ok(bytes) if bytes > max => {
                let message =
                    format!("is {bytes} bytes; allowed is at most {}", show_quantity("memory", max));
                self.faults.push(path, "out_of_range", message);
            }
            Ok(bytes) => return Some(bytes),
            Err(message) => self.faults.push(path, "invalid", message),
        }
        None
    }

    fn custom(&mut self, path: &str, value: &Value) -> BTreeMap<String, u64> {
        let Some(map) = self.object(path, value) else { return BTreeMap::new() };
        self.at_most(path, map.len(), self.limits.list_entries_max, "entries");
        let mut custom = BTreeMap::new();
        for (name, value) in map {
            let path = join(path, name);
            if let Some(problem) = custom_name_problem(name) {
                self.faults.push(&path, "invalid", problem);
            }
            match self.units(&path, Some(value)) {
                Some(0) => self.faults.push(&path, "out_of_range", "is zero: leave it out"),
                Some(milli) => {
                    custom.insert(name.clone(), milli);
                }
                None => {}
            }
        }
        custom
    }

    /// `None` if anything in the section is wrong; `named` gets the sound names in `only` all the same.
    pub(super) fn clusters(
        &mut self,
        value: Option<&Value>,
        named: &mut BTreeSet<ClusterId>,
    ) -> Option<ClusterSelector> {
        let mut selector = ClusterSelector::default();
        let before = self.faults.count();
        let Some(value) = value else { return Some(selector) };
        let map = self.object("clusters", value)?;
        if let Some(only) = present(map, "only") {
            selector.only = self.cluster_names("clusters.only", only);
        }
        if let Some(avoid) = present(map, "avoid") {
            selector.avoid = self.cluster_names("clusters.avoid", avoid);
        }
        selector.labels = self.labels("clusters.labels", present(map, "labels"));
        selector.prefer = self.labels("clusters.prefer", present(map, "prefer"));
        if let Some(both) = selector.only.intersection(&selector.avoid).next() {
            let message =
                format!("has {:?}, which is in clusters.only too: keep it in one of the two", both.as_str());
            self.faults.push("clusters.avoid", "invalid", message);
        }
        self.unknown_fields("clusters", map);
        named.clone_from(&selector.only);
        (self.faults.count() == before).then_some(selector)
    }

    fn labels(&mut self, section: &str, value: Option<&Value>) -> BTreeMap<String, String> {
        let mut read = BTreeMap::new();
        let Some(labels) = value.and_then(|v| self.object(section, v)) else { return read };
        self.at_most(section, labels.len(), self.limits.list_entries_max, "entries");
        for (label, value) in labels {
            let path = join(section, label);
            self.short_text(&path, label, "the label");
            let Some(text) = self.text(&path, value) else { continue };
            self.short_text(&path, text, "the value");
            read.insert(label.clone(), text.to_owned());
        }
        read
    }

    fn cluster_names(&mut self, section: &str, value: &Value) -> BTreeSet<ClusterId> {
        let mut names = BTreeSet::new();
        let Value::Array(items) = value else {
            let message =
                format!("must be a list of cluster names, like [\"east\"], but is {}", describe(value));
            self.faults.push(section, "invalid", message);
            return names;
        };
        self.at_most(section, items.len(), self.limits.list_entries_max, "entries");
        for (i, item) in items.iter().enumerate() {
            let path = format!("{section}[{i}]");
            let Some(name) = self.text(&path, item) else { continue };
            match name.parse() {
                Ok(id) => _ = names.insert(id),
                Err(e) => self.faults.push(path, "invalid", e),
            }
        }
        names
    }

    fn short_text(&mut self, path: &str, text: &str, what: &str) {
        if text.len() > SHORT_NAME_MAX || text.chars().any(char::is_control) {
            let message =
                format!("{what} must have at most {SHORT_NAME_MAX} bytes and no control characters");
            self.faults.push(path, "invalid", message);
        }
    }

    pub(super) fn max_retries(&mut self, value: Option<&Value>) -> u32 {
        let default = self.defaults.max_retries;
        let Some(map) = value.and_then(|v| self.object("retry", v)) else { return default };
        let max = i64::from(self.limits.max_retries_max);
        let given = present(map, "max_retries").and_then(|v| self.integer("retry.max_retries", v, 0..=max));
        self.unknown_fields("retry", map);
        given.and_then(|n| u32::try_from(n).ok()).unwrap_or(default)
    }

    /// Queue timeout, run timeout.
    pub(super) fn timeouts(&mut self, value: Option<&Value>) -> (Duration, Duration) {
        let defaults = (self.defaults.queue_timeout, self.defaults.run_timeout);
        let Some(map) = value.and_then(|v| self.object("timeouts", v)) else { return defaults };
        let queue = (self.limits.queue_timeout_min, self.limits.queue_timeout_max);
        let run = (self.limits.run_timeout_min, self.limits.run_timeout_max);
        let queue = self.seconds("timeouts.queue_s", present(map, "queue_s"), queue).unwrap_or(defaults.0);
        let run = self.seconds("timeouts.run_s", present(map, "run_s"), run).unwrap_or(defaults.1);
        self.unknown_fields("timeouts", map);
        (queue, run)
    }

    fn seconds(
        &mut self,
        path: &str,
        value: Option<&Value>,
        (min, max): (Duration, Duration),
    ) -> Option<Duration> {
        let secs = |d: Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
        let number = self.integer(path, value?, secs(min)..=secs(max))?;
        u64::try_from(number).ok().map(Duration::from_secs)
    }
}

/// Names that Ray or the ledger use for something else can't be custom resources.
fn custom_name_problem(name: &str) -> Option<String> {
    let reserved = ["cpu", "gpu", "memory", "jobs", "object_store_memory"];
    let lower = name.to_ascii_lowercase();
    if matches!(lower.as_str(), "cpu" | "gpu" | "memory") {
        return Some(format!("{name:?} can't be a custom resource: use resources.{lower}"));
    }
    if reserved.contains(&lower.as_str()) {
        return Some(format!("{name:?} can't be a custom resource: the name is taken"));
    }
    let sound = |b: u8| b.is_ascii_alphanumeric() || b"_-.:/".contains(&b);
    (name.is_empty() || name.len() > SHORT_NAME_MAX || !name.bytes().all(sound)).then(|| {
        format!("{} is no name: use 1 to {SHORT_NAME_MAX} of letters, digits and _ - . : /", quote(name))
    })
}
