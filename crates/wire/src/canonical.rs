//! One spelling per JSON value, so that 'the same document again' can be told by a hash.
//!
//! Two documents are the same if they are the same JSON *value*: white space, the order of keys, escapes and
//! the spelling of numbers (`2`, `2.0`, `2e0`) do not matter. Everything else does: `"8GiB"` and `8589934592`
//! are a string and a number, so they differ, though both ask for the same memory. The hash must stay the
//! same for ever, so it must not depend on how this or a later version reads quantities.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::{Map, Number, Value};
use sha2::{Digest, Sha256};

/// Reads JSON strictly: a key given twice, or anything after the value, is an error. The error's text has
/// the line and column.
pub fn parse_strict(raw: &[u8]) -> Result<Value, serde_json::Error> {
    let mut de = serde_json::Deserializer::from_slice(raw);
    let value = Strict::default().deserialize(&mut de)?;
    de.end()?;
    Ok(value)
}

/// A document of a list: its value, and what is wrong with its JSON though it could be read on.
pub type Listed = (Value, Option<String>);

/// Reads `{"<name>": [document, …]}`. A key given twice inside one document is a fault of that document alone; whatever
/// else is no JSON, or another shape, is an error of the whole.
pub fn parse_list(raw: &[u8], name: &str) -> Result<Vec<Listed>, serde_json::Error> {
    let mut de = serde_json::Deserializer::from_slice(raw);
    let list = Wrapped(name).deserialize(&mut de)?;
    de.end()?;
    Ok(list)
}

/// The canonical text of a value: sorted keys, no white space, one spelling per number.
pub fn canonical_text(value: &Value) -> String {
    // A value always has a JSON form: its keys are texts and its numbers are finite.
    serde_json::to_string(&Canonical(value)).unwrap_or_default()
}

/// SHA-256 of the canonical text.
pub fn canonical_hash(value: &Value) -> [u8; 32] {
    hash_bytes(canonical_text(value).as_bytes())
}

/// SHA-256 of bytes that are no JSON.
pub fn hash_bytes(raw: &[u8]) -> [u8; 32] {
    Sha256::digest(raw).into()
}

/// A value that is written canonically.
struct Canonical<'a>(&'a Value);

/// An object that is written canonically.
pub(crate) struct CanonicalMap<'a>(pub(crate) &'a Map<String, Value>);

/// A finite number that is written canonically: as an integer if it is whole and held exactly.
pub(crate) struct CanonicalNumber(pub(crate) f64);

impl Serialize for Canonical<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
                Some(float) => CanonicalNumber(float).serialize(s),
                None => number.serialize(s),
            },
            Value::Array(items) => s.collect_seq(items.iter().map(Canonical)),
            Value::Object(map) => CanonicalMap(map).serialize(s),
            other => other.serialize(s),
        }
    }
}

impl Serialize for CanonicalMap<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut entries: Vec<_> = self.0.iter().map(|(key, value)| (key, Canonical(value))).collect();
        entries.sort_unstable_by(|a, b| a.0.cmp(b.0));
        s.collect_map(entries)
    }
}

impl Serialize for CanonicalNumber {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if self.0.fract() == 0.0 && self.0.abs() < EXACT {
            #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53, as just checked")]
            let whole = self.0 as i64;
            return s.serialize_i64(whole);
        }
        s.serialize_f64(self.0)
    }
}

/// Builds a [`Value`], refusing a key that is given twice (serde_json would keep the last one, silently).
#[derive(Clone, Copy, Default)]
struct Strict<'a> {
    /// Where the first such key is noted instead.
    doubled: Option<&'a RefCell<Option<String>>>,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<Value, D::Error> {
        de.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(Number::from_f64(v).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                let short: String = key.chars().take(100).collect();
                let error = format!("the key {short:?} is given twice");
                let Some(doubled) = self.doubled else { return Err(A::Error::custom(error)) };
                doubled.borrow_mut().get_or_insert(error);
            }
            let value = entries.next_value_seed(self)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// `{"<name>": [document, …]}`, and nothing beside it.
struct Wrapped<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Wrapped<'_> {
    type Value = Vec<Listed>;

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<Vec<Listed>, D::Error> {
        de.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Wrapped<'_> {
    type Value = Vec<Listed>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{\"{}\": [document, …]}}", self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Vec<Listed>, A::Error> {
        let mut list = None;
        while let Some(key) = entries.next_key::<String>()? {
            if key != self.0 || list.is_some() {
                let short: String = key.chars().take(100).collect();
                return Err(A::Error::custom(format!("{short:?} is not expected: give {:?} once", self.0)));
            }
            list = Some(entries.next_value_seed(Documents)?);
        }
        list.ok_or_else(|| A::Error::custom(format!("{:?} is missing", self.0)))
    }
}

struct Documents;

impl<'de> DeserializeSeed<'de> for Documents {
    type Value = Vec<Listed>;

    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<Vec<Listed>, D::Error> {
        de.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Documents {
    type Value = Vec<Listed>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of documents")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Listed>, A::Error> {
        let mut list = Vec::new();
        loop {
            let doubled = RefCell::new(None);
            let Some(value) = seq.next_element_seed(Strict { doubled: Some(&doubled) })? else { break };
            list.push((value, doubled.into_inner()));
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_of_a_list_has_its_own_faults() {
        let list = parse_list(br#"{"jobs": [{"a": 1}, {"b": {"c": 1, "c": 2}}, 7]}"#, "jobs").unwrap();
        assert_eq!(list[0], (serde_json::json!({"a": 1}), None));
        assert_eq!(list[1].1.as_deref(), Some("the key \"c\" is given twice"));
        assert_eq!(list[2].0, serde_json::json!(7));
        let error = |raw: &[u8]| parse_list(raw, "jobs").unwrap_err().to_string();
        assert!(error(b"{}").contains("\"jobs\" is missing"));
        assert!(error(br#"{"jobs": [], "jobs": []}"#).contains("give \"jobs\" once"));
        assert!(error(br#"{"jobs": [{]}"#).contains("line 1 column"));
        assert!(error(b"[]").contains("{\"jobs\": [document"), "{}", error(b"[]"));
        assert!(error(br#"{"jobs": 1}"#).contains("a list of documents"));
    }

    fn hash(text: &str) -> [u8; 32] {
        canonical_hash(&parse_strict(text.as_bytes()).unwrap())
    }

    #[test]
    fn one_value_has_one_text() {
        let text =
            r#" {"b": 2.0, "a": [1e2, -0.0, 0.5, null, "é\u0041"], "c": {"y":1,"x":18446744073709551615}} "#;
        let value = parse_strict(text.as_bytes()).unwrap();
        assert_eq!(
            canonical_text(&value),
            r#"{"a":[100,0,0.5,null,"éA"],"b":2,"c":{"x":18446744073709551615,"y":1}}"#
        );
        assert_eq!(hash(r#"{"a":1,"b":2}"#), hash(r#"{ "b":2.0, "a":1 }"#));
        assert_ne!(hash(r#"{"m":"8GiB"}"#), hash(r#"{"m":8589934592}"#));
    }

    #[test]
    fn what_is_not_one_json_value_is_refused_with_its_place() {
        let error = |raw: &[u8]| parse_strict(raw).unwrap_err().to_string();
        assert_eq!(
            error(b"{\"a\": {\"b\": 1,\n \"b\": 2}}"),
            "the key \"b\" is given twice at line 2 column 4"
        );
        assert_eq!(error(b"{} {}"), "trailing characters at line 1 column 4");
        assert_eq!(error(b""), "EOF while parsing a value at line 1 column 0");
        assert!(error(b"\"\xff\"").contains("line 1 column"));
        assert!(error(&b"[".repeat(10_000)).contains("recursion limit"));
    }

    proptest::proptest! {
        #[test]
        fn canonical_text_reads_back_as_itself(text in "\\PC{0,40}", n in proptest::num::f64::NORMAL, i: i64) {
            let value = serde_json::json!({"s": text, "n": n, "i": i, "l": [n, i]});
            let canonical = canonical_text(&value);
            let again = parse_strict(canonical.as_bytes()).unwrap();
            proptest::prop_assert_eq!(canonical_text(&again), canonical);
        }
    }
}
