//! The part of a configuration file that is its catalog, as a document of its own: cut out word for word, comments
//! included, or written anew where that would not say the same (variables that override it, keys set without a header).

use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::catalog::{Declared, SECTIONS, read_catalog};
use super::sources::{ENV_PREFIX, Environment};

/// The document that declares what `declared` does. `Err` says why there is none.
pub(super) fn document(
    text: &str,
    tree: &DeTable<'_>,
    declared: &Declared,
    folder: &Path,
    environment: &Environment,
) -> Result<String, String> {
    let same = |text: &String| read_catalog("", text, folder).is_ok_and(|read| read.is(declared));
    let cut = cut(text, tree);
    if same(&cut) {
        return Ok(cut);
    }
    let written = written_anew(text, environment)?;
    if same(&written) {
        Ok(written)
    } else {
        Err("variables of the environment say what can't be written as part of a catalog: put it into the file".to_owned())
    }
}

/// The lines of our sections, each with the comment right above it.
fn cut(text: &str, tree: &DeTable<'_>) -> String {
    let mut values = Vec::new();
    tree.iter().for_each(|(_, value)| leaves(value, &mut values));
    let (mut kept, mut comment, mut ours, mut at) = (String::new(), String::new(), false, 0);
    for line in text.split_inclusive('\n') {
        let inside = values.iter().any(|span| span.start < at && at < span.end);
        let content = line.trim_start();
        at += line.len();
        if !inside && content.starts_with('#') {
            comment.push_str(line);
            continue;
        }
        if !inside && content.starts_with('[') {
            ours = SECTIONS.contains(&section_of(content));
        }
        if ours {
            kept.push_str(&comment);
            kept.push_str(line);
        }
        comment.clear();
    }
    if ours {
        kept.push_str(&comment);
    }
    format!("{}\n", kept.trim())
}

/// The first key of a header.
fn section_of(header: &str) -> &str {
    let name = header.trim_start_matches(['[', ' ', '\t']);
    let end = name.find(['.', ']']).unwrap_or(name.len());
    name.get(..end).unwrap_or_default().trim().trim_matches(['"', '\''])
}

/// Where values stand that hold no tables with headers of their own.
fn leaves(value: &Spanned<DeValue<'_>>, spans: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        DeValue::Table(table) => table.iter().for_each(|(_, value)| leaves(value, spans)),
        DeValue::Array(items) if items.iter().all(|v| v.get_ref().is_table()) => {
            items.iter().for_each(|value| leaves(value, spans));
        }
        _ => spans.push(value.span()),
    }
}

fn written_anew(text: &str, environment: &Environment) -> Result<String, String> {
    let mut whole: Table = toml::from_str(text).map_err(|e| e.to_string())?;
    let mut catalog = Table::new();
    for section in SECTIONS {
        let Some(mut value) = whole.remove(section) else { continue };
        let prefix = format!("{ENV_PREFIX}{}__", section.to_uppercase());
        match &mut value {
            Value::Table(table) => override_in(table, &prefix, environment),
            Value::Array(items) => {
                for table in items.iter_mut().filter_map(Value::as_table_mut) {
                    let id = table.get("id").and_then(Value::as_str).unwrap_or_default();
                    let prefix = format!("{prefix}{}__", id.to_uppercase().replace('-', "_"));
                    override_in(table, &prefix, environment);
                }
            }
            _ => {}
        }
        catalog.insert(section.to_owned(), value);
    }
    let text = toml::to_string(&catalog).map_err(|e| e.to_string())?;
    Ok(format!("# Written from the configuration file and the environment.\n\n{text}"))
}

fn override_in(table: &mut Table, prefix: &str, environment: &Environment) {
    for (name, value) in &environment.0 {
        let Some(path) = name.strip_prefix(prefix) else { continue };
        let path = path.to_lowercase();
        set(table, &path.split("__").collect::<Vec<_>>(), value);
    }
}

fn set(table: &mut Table, path: &[&str], text: &str) {
    match path {
        [] => {}
        [key] => _ = table.insert((*key).to_owned(), scalar(text)),
        [key, rest @ ..] => {
            let below = table.entry(*key).or_insert_with(|| Value::Table(Table::new()));
            if let Some(below) = below.as_table_mut() {
                set(below, rest, text);
            }
        }
    }
}

/// A number or switch if it can be read as one, else a text.
fn scalar(text: &str) -> Value {
    let number = text.parse().map(Value::Integer).or_else(|_| text.parse().map(Value::Boolean));
    number
        .ok()
        .or_else(|| text.parse::<f64>().ok().filter(|n| n.is_finite()).map(Value::Float))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}
