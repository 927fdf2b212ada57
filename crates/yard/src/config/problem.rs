//! What is wrong with a configuration: where, with which key, and how to mend it.

use std::fmt;

use serde_json::{Value, json};

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the file as a whole: something is missing that has no line.
    File,
    /// On this line of the file, counted from 1.
    Line(usize),
    /// In this environment variable.
    Env(String),
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// The key as a path, such as `scheduler.lease_ttl_ms`; empty if it is about no single key.
    pub key: String,
    /// What is wrong and how to mend it. Never holds a secret.
    pub message: String,
}

/// Everything that is wrong with a configuration, in the order of the file, then of the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file's name, or what stands for it.
    pub file: String,
    /// At least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Problem { place, key, message } in &self.problems {
            match place {
                Place::File => write!(f, "{}: ", self.file)?,
                Place::Line(line) => write!(f, "{}:{line}: ", self.file)?,
                Place::Env(name) => write!(f, "environment variable {name}: ")?,
            }
            if !key.is_empty() {
                write!(f, "{key}: ")?;
            }
            writeln!(f, "{message}")?;
        }
        write!(f, "{} in the configuration", self.count())
    }
}

impl std::error::Error for ConfigErrors {}

impl ConfigErrors {
    /// A problem document (RFC 9457) with every error: its key, and its line in the file or the variable that it is in.
    pub fn to_json(&self, exit_code: u8) -> Value {
        let error = |Problem { place, key, message }: &Problem| {
            let mut error = json!({"field": key, "code": "invalid", "message": message});
            match place {
                Place::File => {}
                Place::Line(line) => error["line"] = (*line).into(),
                Place::Env(name) => error["variable"] = name.as_str().into(),
            }
            error
        };
        json!({
            "type": "urn:yard:problem:invalid_configuration",
            "title": "The configuration can't be used",
            "code": "invalid_configuration",
            "detail": format!("{} in {}", self.count(), self.file),
            "file": self.file,
            "errors": self.problems.iter().map(error).collect::<Vec<_>>(),
            "exit_code": exit_code,
        })
    }

    fn count(&self) -> String {
        match self.problems.len() {
            1 => "1 problem".to_owned(),
            n => format!("{n} problems"),
        }
    }
}
