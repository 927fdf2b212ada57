//! Values that are never shown.

use std::fmt;
use std::path::{Path, PathBuf};

use super::reader::Table;
use super::sources::Environment;

/// A value that neither `Debug` nor any message shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `value`.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where a secret is to be had: in a document only this stands, never the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// In a file of its own.
    File(PathBuf),
    /// In this environment variable.
    Variable(String),
}

impl SecretSource {
    /// The secret as it is now; an error says what is missing.
    pub fn read(&self, environment: &Environment) -> Result<Secret, String> {
        match self {
            Self::File(path) => secret_file(path).map(Secret::new),
            Self::Variable(name) => {
                let value = environment.0.get(name).map(|v| v.trim()).filter(|v| !v.is_empty());
                value.map(Secret::new).ok_or_else(|| format!("the environment variable {name} is not set"))
            }
        }
    }
}

/// Where a secret is: in a file or in the variable that is named, never in the document itself. If it must be there
/// already, `check` says whether it can be one.
pub(super) fn declared(
    t: &mut Table<'_, '_>,
    [itself, file, variable]: [&'static str; 3],
    check: impl Fn(&str) -> Result<(), String>,
) -> Option<SecretSource> {
    if t.is_set(itself) {
        t.know_only(itself);
        let fix = format!("put it into a file and name that with {file}, or a variable with {variable}");
        t.complain(itself, format!("must not stand here: {fix}"));
    }
    let (path, name) = (t.text(file), t.text(variable));
    if path.is_some() && name.is_some() {
        t.complain(variable, format!("stands beside {file}: keep one of the two"));
    }
    let (key, source) = match (path, name) {
        (Some(path), _) => (file, SecretSource::File(t.sources().path(path))),
        (None, Some(name)) => (variable, SecretSource::Variable(name.to_owned())),
        (None, None) => return None,
    };
    if t.sources().must_be_there() {
        let read = source.read(t.sources().environment());
        if let Err(message) = read.and_then(|s| check(s.expose())) {
            t.complain(key, message);
        }
    }
    Some(source)
}

/// The content of a file that holds one secret, without the line's end.
pub(super) fn secret_file(path: &Path) -> Result<String, String> {
    let content =
        std::fs::read_to_string(path).map_err(|e| format!("{} can't be read: {e}", path.display()))?;
    let content = content.trim();
    if content.is_empty() { Err(format!("{} is empty", path.display())) } else { Ok(content.to_owned()) }
}
