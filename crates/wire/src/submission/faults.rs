//! Collects everything that is wrong with a document.

use std::fmt;

use serde_json::Value;
use yard_domain::FieldError;

/// The errors found so far, up to a bound; what is beyond it is only counted.
#[derive(Debug)]
pub(crate) struct Faults {
    list: Vec<FieldError>,
    max: usize,
    total: usize,
}

impl Faults {
    pub(crate) fn new(max: usize) -> Self {
        Self { list: Vec::new(), max: max.max(1), total: 0 }
    }

    pub(crate) fn push(&mut self, field: impl Into<String>, code: &'static str, message: impl fmt::Display) {
        self.total += 1;
        if self.list.len() < self.max {
            self.list.push(FieldError { field: field.into(), code, message: message.to_string() });
        }
    }

    /// How many were found, those beyond the bound included: a section is sound if this has not grown.
    pub(crate) fn count(&self) -> usize {
        self.total
    }

    pub(crate) fn into_list(mut self) -> Vec<FieldError> {
        let beyond = self.total - self.list.len();
        if beyond > 0 {
            let message = format!("{beyond} more errors are not listed");
            self.list.push(FieldError { field: String::new(), code: "too_large", message });
        }
        self.list
    }
}

/// Says what a value is, with as much of it as fits in a sentence.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => format!("the number {n}"),
        Value::String(s) => format!("the text {}", quote(s)),
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(map) => format!("an object of {} fields", map.len()),
    }
}

/// A text in quotes, escaped and cut to what fits in a sentence.
pub(crate) fn quote(text: &str) -> String {
    const SHOWN: usize = 60;
    let head: String = text.chars().take(SHOWN).collect();
    if head.len() < text.len() { format!("{head:?}…") } else { format!("{head:?}") }
}

/// The path of a field of `parent`; the document itself has the path "".
pub(crate) fn join(parent: &str, name: &str) -> String {
    let name: String = name.chars().take(100).collect();
    if parent.is_empty() { name } else { format!("{parent}.{name}") }
}

/// The known name that was probably meant, if one is near.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > 40 {
        return None;
    }
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(&name.to_lowercase(), k), k))
        .filter(|(distance, k)| *distance <= (k.len() / 3).clamp(1, 3))
        .min()
        .map(|(_, k)| k)
}
