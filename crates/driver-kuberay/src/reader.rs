//! Reads YAML tables key by key, and goes on after every mistake.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::schema::Problem;

/// A table of a document.
pub(crate) struct Section<'a> {
    path: String,
    map: &'a Map<String, Value>,
    asked: BTreeSet<&'static str>,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Section<'a> {
    /// The whole document; `None`, and said so, if it is no table.
    pub(crate) fn root(document: &'a Value, problems: &'a mut Vec<Problem>) -> Option<Self> {
        let Some(map) = document.as_object() else {
            problems.push(Problem { path: String::new(), message: "must be a table".to_owned() });
            return None;
        };
        Some(Self { path: String::new(), map, asked: BTreeSet::new(), problems })
    }

    /// A key's path.
    pub(crate) fn path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Notes a mistake.
    pub(crate) fn complain(&mut self, key: &str, message: impl Into<String>) {
        let path = self.path(key);
        self.problems.push(Problem { path, message: message.into() });
    }

    /// Notes that a key is not there; if it is there and wrong, that has been said.
    pub(crate) fn complain_if_absent(&mut self, key: &str, message: &str) {
        if self.map.get(key).is_none_or(Value::is_null) {
            self.complain(key, message);
        }
    }

    /// Notes mistakes that were found elsewhere.
    pub(crate) fn add(&mut self, found: Vec<Problem>) {
        self.problems.extend(found);
    }

    fn look(&mut self, key: &'static str) -> Option<&'a Value> {
        self.asked.insert(key);
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// A text that is not empty.
    pub(crate) fn text(&mut self, key: &'static str) -> Option<&'a str> {
        let text = self.look(key)?.as_str().filter(|text| !text.is_empty());
        if text.is_none() {
            self.complain(key, "must be a text, and not empty (put numbers into quotes)");
        }
        text
    }

    /// One of the names that there are.
    pub(crate) fn choice<T: Copy>(&mut self, key: &'static str, known: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let found = known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        if found.is_none() {
            self.complain(key, format!("is {text:?}; known are {}", names(known)));
        }
        found
    }

    /// A list of names that there are.
    pub(crate) fn choices<T: Copy + Ord>(&mut self, key: &'static str, known: &[(&str, T)]) -> BTreeSet<T> {
        let mut chosen = BTreeSet::new();
        let Some(value) = self.look(key) else { return chosen };
        let Some(list) = value.as_array() else {
            self.complain(key, "must be a list");
            return chosen;
        };
        for (i, item) in list.iter().enumerate() {
            match known.iter().find(|(name, _)| Some(*name) == item.as_str()) {
                Some((_, value)) => _ = chosen.insert(*value),
                None => self.complain(&format!("{key}[{i}]"), format!("known are {}", names(known))),
            }
        }
        chosen
    }

    /// Whole seconds.
    pub(crate) fn seconds(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Duration {
        let Some(value) = self.look(key) else { return Duration::from_secs(default) };
        let Some(seconds) = value.as_u64().filter(|n| range.contains(n)) else {
            self.complain(key, format!("must be a whole number from {} to {}", range.start(), range.end()));
            return Duration::from_secs(default);
        };
        Duration::from_secs(seconds)
    }

    /// An amount as Kubernetes writes it.
    pub(crate) fn quantity(&mut self, key: &'static str, read: fn(&str) -> Option<u64>) -> Option<u64> {
        let value = self.look(key)?;
        let text = value.as_str().map(str::to_owned).or_else(|| value.as_number().map(ToString::to_string));
        let amount = text.and_then(|text| read(&text));
        if amount.is_none() {
            self.complain(key, "must be a quantity such as 500m or 2Gi");
        }
        amount
    }

    /// A table as it is.
    pub(crate) fn map(&mut self, key: &'static str) -> Option<&'a Map<String, Value>> {
        let map = self.look(key)?.as_object();
        if map.is_none() {
            self.complain(key, "must be a table");
        }
        map
    }

    /// A table of texts.
    pub(crate) fn texts(&mut self, key: &'static str) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        for (name, value) in self.map(key).into_iter().flatten() {
            match value.as_str() {
                Some(text) => _ = texts.insert(name.clone(), text.to_owned()),
                None => self.complain(&format!("{key}.{name}"), "must be a text (put numbers into quotes)"),
            }
        }
        texts
    }

    /// A table that has keys of its own.
    pub(crate) fn section(&mut self, key: &'static str) -> Option<Section<'_>> {
        let map = self.map(key)?;
        let path = self.path(key);
        Some(Section { path, map, asked: BTreeSet::new(), problems: self.problems })
    }

    /// One of the tables in a table.
    pub(crate) fn element<'b>(&'b mut self, key: &str, name: &str, value: &'b Value) -> Option<Section<'b>> {
        let path = format!("{}.{name}", self.path(key));
        let Some(map) = value.as_object() else {
            self.problems.push(Problem { path, message: "must be a table".to_owned() });
            return None;
        };
        Some(Section { path, map, asked: BTreeSet::new(), problems: self.problems })
    }

    /// Complains about every key that nobody asked for.
    pub(crate) fn finish(self) {
        for key in self.map.keys().filter(|key| !self.asked.contains(key.as_str())) {
            let known: Vec<_> = self.asked.iter().copied().collect();
            let path = self.path(key);
            self.problems
                .push(Problem { path, message: format!("no such key; known are {}", known.join(", ")) });
        }
    }
}

fn names<T>(known: &[(&str, T)]) -> String {
    known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}
