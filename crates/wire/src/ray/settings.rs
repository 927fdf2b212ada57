//! What Ray's submission has no field for: metadata keys `yard.…`, or headers `X-Yard-…`, one table for both.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// What the metadata keys of Switchyard begin with.
pub const METADATA_PREFIX: &str = "yard.";
/// What the headers of Switchyard begin with, in lower case.
pub const HEADER_PREFIX: &str = "x-yard-";

/// How a setting's text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Whole,
    /// Names with commas between.
    Names,
    /// `label=value` with commas between.
    Labels,
}

/// A setting of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Its name: `yard.NAME` in metadata; as a header `X-Yard-NAME` with `-` for `_`.
    pub name: &'static str,
    /// Where it stands in a submission document: section ("" is the top) and field.
    pub field: (&'static str, &'static str),
    kind: Kind,
}

const fn setting(name: &'static str, field: (&'static str, &'static str), kind: Kind) -> Setting {
    Setting { name, field, kind }
}

/// Every setting there is; others are refused.
pub const SETTINGS: &[Setting] = &[
    setting("team", ("", "team"), Kind::Text),
    setting("name", ("", "name"), Kind::Text),
    setting("priority", ("", "priority"), Kind::Whole),
    setting("priority_class", ("", "priority_class"), Kind::Text),
    setting("queue_timeout_s", ("timeouts", "queue_s"), Kind::Whole),
    setting("run_timeout_s", ("timeouts", "run_s"), Kind::Whole),
    setting("max_retries", ("retry", "max_retries"), Kind::Whole),
    setting("clusters", ("clusters", "only"), Kind::Names),
    setting("avoid_clusters", ("clusters", "avoid"), Kind::Names),
    setting("cluster_labels", ("clusters", "labels"), Kind::Labels),
    setting("prefer_labels", ("clusters", "prefer"), Kind::Labels),
];

impl Setting {
    /// Its key in metadata.
    pub fn metadata_key(&self) -> String {
        format!("{METADATA_PREFIX}{}", self.name)
    }

    fn named(name: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|s| s.name == name)
    }

    /// Its text as the document has it. What can't be read goes on as it is: the document's reader says what is wrong.
    fn read(&self, text: &str) -> Value {
        let parts = || text.split(',').map(str::trim).filter(|part| !part.is_empty());
        match self.kind {
            Kind::Text => json!(text),
            Kind::Whole => text.trim().parse::<i64>().map_or_else(|_| json!(text), Value::from),
            Kind::Names => parts().collect(),
            Kind::Labels => {
                let pair = |part: &str| {
                    let (label, value) = part.split_once('=').unwrap_or((part, ""));
                    (label.trim().to_owned(), json!(value.trim()))
                };
                Value::Object(parts().map(pair).collect())
            }
        }
    }
}

/// Takes the settings out of `metadata` and adds those of `headers`; what is wrong goes to `problems`.
pub(super) fn take(
    metadata: &mut BTreeMap<String, String>,
    headers: &[(String, String)],
    problems: &mut Vec<String>,
) -> Vec<(&'static Setting, Value)> {
    let known = || SETTINGS.iter().map(Setting::metadata_key).collect::<Vec<_>>().join(", ");
    let mut found: BTreeMap<&'static str, (String, &'static Setting, String)> = BTreeMap::new();
    let keys: Vec<String> = metadata.keys().filter(|k| k.starts_with(METADATA_PREFIX)).cloned().collect();
    for key in keys {
        let text = metadata.remove(&key).unwrap_or_default();
        match Setting::named(key.trim_start_matches(METADATA_PREFIX)) {
            Some(setting) => _ = found.insert(setting.name, (format!("metadata.{key}"), setting, text)),
            None => problems.push(format!("metadata.{key}: there is no such setting; known are {}", known())),
        }
    }
    for (header, text) in headers {
        let Some(name) = header.strip_prefix(HEADER_PREFIX) else { continue };
        let Some(setting) = Setting::named(&name.replace('-', "_")) else {
            problems.push(format!(
                "header {header}: there is no such setting; known are {} (as X-Yard-… headers)",
                known()
            ));
            continue;
        };
        match found.get(setting.name) {
            Some((key, _, other)) if other != text => problems
                .push(format!("header {header}: differs from {key}: give one of them, or the same in both")),
            _ => _ = found.insert(setting.name, (header.clone(), setting, text.clone())),
        }
    }
    found.into_values().map(|(_, setting, text)| (setting, setting.read(&text))).collect()
}

/// Puts a value where it stands in a document.
pub(super) fn place(document: &mut Map<String, Value>, (section, field): (&str, &str), value: Value) {
    if section.is_empty() {
        document.insert(field.to_owned(), value);
        return;
    }
    let below = document.entry(section).or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(below) = below {
        below.insert(field.to_owned(), value);
    }
}
