//! Reads typed values out of a table of the file, with the environment's overrides on top. Every reader
//! method notes what is wrong and goes on with a stand-in, so that one run finds all mistakes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Place;
use super::sources::{ENV_PREFIX, Sources, nearest};
use super::value::{Found, Raw, scalar_text, unit_of};

/// A table under a fixed name, or one element of an array of tables.
pub(super) struct Table<'s, 'a> {
    sources: &'s Sources<'a>,
    /// As shown: `server`, `cluster east`.
    shown: String,
    /// As documented: `server`, `cluster`.
    pattern: String,
    /// What its variables begin with; `None` where the environment has no say.
    variables: Option<String>,
    entries: Option<&'s DeTable<'s>>,
    place: Place,
    asked: BTreeSet<&'static str>,
}

impl<'s, 'a: 's> Table<'s, 'a> {
    /// The file as a whole.
    pub(super) fn root(sources: &'s Sources<'a>, entries: &'s DeTable<'s>) -> Self {
        Self {
            sources,
            shown: String::new(),
            pattern: String::new(),
            variables: sources.must_be_there().then(|| ENV_PREFIX.to_owned()),
            entries: Some(entries),
            place: Place::File,
            asked: BTreeSet::new(),
        }
    }

    /// The sources behind it.
    pub(super) fn sources(&self) -> &'s Sources<'a> {
        self.sources
    }

    /// Its name as shown in messages.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// Gives up on the table: no further key in it is complained about.
    pub(super) fn forgive<T>(&mut self) -> Option<T> {
        self.entries = None;
        None
    }

    /// `key` is complained about elsewhere: not as an unknown one.
    pub(super) fn know_only(&mut self, key: &'static str) {
        self.asked.insert(key);
    }

    /// Whether it stands in the file at all.
    pub(super) fn is_present(&self) -> bool {
        self.entries.is_some()
    }

    /// Whether `key` stands in the file itself, whatever the environment says.
    pub(super) fn stands_in_file(&self, key: &str) -> bool {
        self.entries.is_some_and(|entries| entries.contains_key(key))
    }

    /// Whether `key` has a value, right or wrong.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.look(key).is_some()
    }

    /// The value of `key`, from the environment if it is there, else from the file.
    pub(super) fn find(&mut self, key: &'static str, default: Option<String>) -> Option<Found<'s>> {
        self.asked.insert(key);
        self.sources.know(join(&self.pattern, key), default);
        self.look(key)
    }

    /// Where `key` stands, or else the table's beginning: for complaints about several keys together.
    pub(super) fn place_of(&self, key: &str) -> Place {
        self.look(key).map_or_else(|| self.place.clone(), |found| found.place)
    }

    /// Notes that something is wrong with `key`.
    pub(super) fn complain(&self, key: &str, message: impl Into<String>) {
        self.sources.problem(self.place_of(key), join(&self.shown, key), message);
    }

    /// A required table is missing.
    pub(super) fn missing_table(&self, key: &str, fix: &str) {
        self.sources.problem(self.place.clone(), join(&self.shown, key), format!("missing: {fix}"));
    }

    /// A required value is missing.
    pub(super) fn missing(&self, key: &str, fix: &str) {
        let name = self.variable(key).map_or_else(String::new, |name| format!(" (or set {name})"));
        self.sources.problem(self.place.clone(), join(&self.shown, key), format!("missing: {fix}{name}"));
    }

    /// A text, if it is there.
    pub(super) fn text(&mut self, key: &'static str) -> Option<&'s str> {
        self.text_with(key, None)
    }

    /// A text with a default.
    pub(super) fn text_or(&mut self, key: &'static str, default: &'s str) -> &'s str {
        self.text_with(key, Some(format!("{default:?}"))).unwrap_or(default)
    }

    /// A text that `parse` understands; `None` if it is not there or wrong (which is then noted).
    pub(super) fn parsed<T, E: Display>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(key)?;
        parse(text).map_err(|e| self.complain(key, e.to_string())).ok()
    }

    /// A text that `parse` understands, with a default.
    pub(super) fn parsed_or<T, E: Display>(
        &mut self,
        key: &'static str,
        default: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text_or(key, default);
        parse(text).map_err(|e| self.complain(key, e.to_string())).ok()
    }

    /// One of a few words, with a default (the first of them).
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&'s str, T)]) -> Option<T> {
        let (default, _) = choices.first()?;
        let text = self.text_or(key, default);
        let found = choices.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let words: Vec<_> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
            self.complain(key, format!("{text:?} is not one of {}", words.join(", ")));
        }
        found.map(|(_, value)| *value)
    }

    /// A switch with a default.
    pub(super) fn switch_or(&mut self, key: &'static str, default: bool) -> bool {
        let Some(found) = self.find(key, Some(default.to_string())) else { return default };
        let value = match found.raw {
            Raw::Toml(value) => value.as_bool(),
            Raw::Text(text) => text.parse().ok(),
        };
        if value.is_none() {
            self.complain(key, "must be true or false");
        }
        value.unwrap_or(default)
    }

    /// A whole number with a default.
    pub(super) fn integer_or(&mut self, key: &'static str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let Some(found) = self.find(key, Some(default.to_string())) else { return default };
        self.whole(key, &found.raw, &range).unwrap_or(default)
    }

    /// A whole number, if it is there and right.
    pub(super) fn integer(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let found = self.find(key, None)?;
        self.whole(key, &found.raw, &range)
    }

    /// A whole number that may be negative, if it is there and right.
    pub(super) fn signed(&mut self, key: &'static str, range: RangeInclusive<i64>) -> Option<i64> {
        let found = self.find(key, None)?;
        self.whole(key, &found.raw, &range)
    }

    /// A number with a default.
    pub(super) fn number_or(&mut self, key: &'static str, default: f64, range: RangeInclusive<f64>) -> f64 {
        let Some(found) = self.find(key, Some(default.to_string())) else { return default };
        let number = scalar_text(&found.raw).and_then(|text| text.parse::<f64>().ok());
        if let Some(number) = number.filter(|n| range.contains(n)) {
            return number;
        }
        self.complain(key, format!("must be a number from {} to {}", range.start(), range.end()));
        default
    }

    /// A span of time with a default. The key's ending says the unit: `_ms`, `_s` or `_days`.
    pub(super) fn span_or(
        &mut self,
        key: &'static str,
        default: Duration,
        range: Range<Duration>,
    ) -> Duration {
        let unit = unit_of(key);
        let whole = |span: Duration| u64::try_from(span.as_millis() / unit.as_millis()).unwrap_or(u64::MAX);
        let range = whole(range.start)..=whole(range.end);
        let count = self.integer_or(key, whole(default), range);
        unit.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// A quantity: a number, or a text such as `"64GiB"`, that `parse` understands.
    pub(super) fn quantity<T, E: Display>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        self.quantity_with(key, None, parse)
    }

    /// A quantity, if it is there; the caller fills in `default`, which is only documented here.
    pub(super) fn quantity_or<T, E: Display>(
        &mut self,
        key: &'static str,
        default: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        self.quantity_with(key, Some(default.to_owned()), parse)
    }

    fn quantity_with<T, E: Display>(
        &mut self,
        key: &'static str,
        default: Option<String>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let found = self.find(key, default)?;
        let parsed = match scalar_text(&found.raw) {
            Some(text) => parse(text).map_err(|e| e.to_string()),
            None => Err("must be a number or a text".to_owned()),
        };
        parsed.map_err(|message| self.complain(key, message)).ok()
    }

    /// A list of texts, each understood by `parse`; comma-separated in the environment. `None` if it is not there.
    pub(super) fn list<T, E: Display>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Option<Vec<T>> {
        let found = self.find(key, None)?;
        let texts: Option<Vec<&str>> = match found.raw {
            Raw::Toml(value) => {
                value.as_array().and_then(|a| a.iter().map(|v| v.get_ref().as_str()).collect())
            }
            Raw::Text(text) => Some(text.split(',').map(str::trim).filter(|t| !t.is_empty()).collect()),
        };
        let Some(texts) = texts else {
            self.complain(key, "must be a list of texts, such as [\"a\", \"b\"]");
            return Some(Vec::new());
        };
        Some(
            texts
                .into_iter()
                .filter_map(|t| parse(t).map_err(|e| self.complain(key, e.to_string())).ok())
                .collect(),
        )
    }

    /// A table whose keys are free, with the values as texts or numbers. Not for the environment: variables
    /// don't keep upper and lower case apart.
    pub(super) fn free_table(&mut self, key: &'static str) -> BTreeMap<&'s str, (Place, &'s DeValue<'s>)> {
        self.asked.insert(key);
        self.sources.know(join(&self.pattern, key), None);
        let Some(value) = self.entries.and_then(|t| t.get(key)) else { return BTreeMap::new() };
        let Some(table) = value.get_ref().as_table() else {
            self.complain(key, "must be a table, such as { name = \"value\" }");
            return BTreeMap::new();
        };
        let entry = |(k, v): (&'s Spanned<_>, &'s Spanned<DeValue<'s>>)| {
            let name: &'s std::borrow::Cow<'s, str> = k.get_ref();
            (name.as_ref(), (self.sources.line(&k.span()), v.get_ref()))
        };
        table.iter().map(entry).collect()
    }

    /// The table called `key`; empty if it is not there.
    pub(super) fn table(&mut self, key: &'static str) -> Self {
        self.asked.insert(key);
        let value = self.entries.and_then(|t| t.get(key));
        let entries = value.and_then(|v| v.get_ref().as_table());
        if value.is_some() && entries.is_none() {
            self.complain(key, format!("must be a table: [{}]", join(&self.pattern, key)));
        }
        Self {
            sources: self.sources,
            shown: join(&self.shown, key),
            pattern: join(&self.pattern, key),
            variables: self.variable(key).map(|name| name + "__"),
            entries,
            place: value.map_or_else(|| self.place.clone(), |v| self.sources.line(&v.span())),
            asked: BTreeSet::new(),
        }
    }

    /// The tables `[[key]]`. Each is known by its `id_key`, also in the environment: `YARD__CLUSTER__EAST__ADDRESS`.
    pub(super) fn tables(&mut self, key: &'static str, id_key: &'static str) -> Vec<Self> {
        self.asked.insert(key);
        let Some(value) = self.entries.and_then(|t| t.get(key)) else { return Vec::new() };
        let array = value.get_ref().as_array().filter(|a| a.iter().all(|v| v.get_ref().is_table()));
        let Some(array) = array else {
            self.complain(key, format!("must be tables, each headed by [[{key}]]"));
            return Vec::new();
        };
        array
            .iter()
            .filter_map(|v| Some((v, v.get_ref().as_table()?)))
            .map(|(v, t)| self.element(key, id_key, v, t))
            .collect()
    }

    /// Complains about every key that nobody asked for.
    pub(super) fn finish(mut self) {
        self.close();
    }

    /// As [`Table::finish`], for a table that its reader does not own: it is empty afterwards.
    pub(super) fn close(&mut self) {
        let entries = self.entries.take().into_iter().flat_map(DeTable::iter);
        for (key, _) in entries.filter(|(key, _)| !self.asked.contains(key.get_ref().as_ref())) {
            let name = key.get_ref().as_ref();
            let hint = match nearest(name, self.asked.iter().copied()) {
                Some(best) => format!("did you mean {best}?"),
                None => format!("known are {}", self.asked.iter().copied().collect::<Vec<_>>().join(", ")),
            };
            let place = self.sources.line(&key.span());
            self.sources.problem(place, join(&self.shown, name), format!("no such key; {hint}"));
        }
    }

    fn element(
        &self,
        key: &str,
        id_key: &'static str,
        value: &'s Spanned<DeValue<'s>>,
        table: &'s DeTable<'s>,
    ) -> Self {
        let id = table.get(id_key).and_then(|v| v.get_ref().as_str()).unwrap_or("?");
        let prefix = self.variable(key);
        Self {
            sources: self.sources,
            shown: format!("{key} {id}"),
            pattern: join(&self.pattern, key),
            variables: prefix.map(|prefix| format!("{prefix}__{}__", id.to_uppercase().replace('-', "_"))),
            entries: Some(table),
            place: self.sources.line(&value.span()),
            asked: BTreeSet::new(),
        }
    }

    fn look(&self, key: &str) -> Option<Found<'s>> {
        if let Some(name) = self.variable(key)
            && let Some(text) = self.sources.variable(&name)
        {
            return Some(Found { place: Place::Env(name), raw: Raw::Text(text) });
        }
        let value = self.entries?.get(key)?;
        Some(Found { place: self.sources.line(&value.span()), raw: Raw::Toml(value.get_ref()) })
    }

    fn variable(&self, key: &str) -> Option<String> {
        self.variables.as_ref().map(|prefix| format!("{prefix}{}", key.to_uppercase()))
    }

    fn text_with(&mut self, key: &'static str, default: Option<String>) -> Option<&'s str> {
        let found = self.find(key, default)?;
        let text = match found.raw {
            Raw::Toml(value) => value.as_str(),
            Raw::Text(text) => Some(text),
        };
        if text.is_none_or(str::is_empty) {
            self.complain(key, "must be a text in quotes, and not empty");
        }
        text.filter(|t| !t.is_empty())
    }

    fn whole<T>(&self, key: &str, raw: &Raw<'_>, range: &RangeInclusive<T>) -> Option<T>
    where
        T: Copy + PartialOrd + Display + TryFrom<i128>,
    {
        let number = match raw {
            Raw::Toml(value) => {
                value.as_integer().and_then(|i| i128::from_str_radix(i.as_str(), i.radix()).ok())
            }
            Raw::Text(text) => text.parse().ok(),
        };
        let number = number.and_then(|n| T::try_from(n).ok()).filter(|n| range.contains(n));
        if number.is_none() {
            self.complain(key, format!("must be a whole number from {} to {}", range.start(), range.end()));
        }
        number
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
