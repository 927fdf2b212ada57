//! Values as they stand in the file or in the environment.

use std::time::Duration;

use toml::de::DeValue;

use super::problem::Place;

/// A value as it stands somewhere.
pub(super) enum Raw<'s> {
    /// In the file.
    Toml(&'s DeValue<'s>),
    /// In the environment.
    Text(&'s str),
}

/// A value and where it stands.
pub(super) struct Found<'s> {
    pub(super) place: Place,
    pub(super) raw: Raw<'s>,
}

/// The text of a text or a number.
pub(super) fn scalar_text<'v>(raw: &Raw<'v>) -> Option<&'v str> {
    match raw {
        Raw::Text(text) => Some(text),
        Raw::Toml(value) => toml_text(value),
    }
}

/// The text of a text or a (decimal) number in the file.
pub(super) fn toml_text<'v>(value: &'v DeValue<'_>) -> Option<&'v str> {
    match value {
        DeValue::String(text) => Some(text),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str()),
        DeValue::Float(number) => Some(number.as_str()),
        _ => None,
    }
}

/// The unit that a key's ending names.
pub(super) fn unit_of(key: &str) -> Duration {
    match key.rsplit('_').next() {
        Some("ms") => Duration::from_millis(1),
        Some("days") => Duration::from_hours(24),
        _ => Duration::from_secs(1),
    }
}
