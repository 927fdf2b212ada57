//! What is wrong with a configuration: where, with which key, and how to mend it.

use std::fmt;

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
        match self.problems.len() {
            1 => write!(f, "1 problem in the configuration"),
            n => write!(f, "{n} problems in the configuration"),
        }
    }
}

impl std::error::Error for ConfigErrors {}
