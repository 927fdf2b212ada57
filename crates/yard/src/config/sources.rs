//! What a configuration is read from: the file's text, the environment, and the files that hold secrets.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::problem::{Place, Problem};

/// Environment variables with this prefix override keys of the file.
pub(super) const ENV_PREFIX: &str = "YARD__";

/// The process's environment, as far as it matters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment(pub BTreeMap<String, String>);

impl Environment {
    /// This process's environment. Variables that are not Unicode are left out.
    pub fn of_process() -> Self {
        Self(
            std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
        )
    }
}

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// This process's own configuration: what it names (secrets, files) must be there.
    Configuration,
    /// A document for other processes too: what it names is looked up where it is used.
    Document,
}

/// A key that the parser knows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KnownKey {
    /// The section and the key, such as `server.listen` or `cluster.capacity.cpu`.
    pub path: String,
    /// The default as it would stand in the file; `None` if there is none.
    pub default: Option<String>,
}

/// The sources of one configuration, and what has been found out about them so far.
pub(super) struct Sources<'a> {
    text: &'a str,
    folder: PathBuf,
    environment: &'a Environment,
    purpose: Purpose,
    problems: RefCell<Vec<Problem>>,
    known: RefCell<BTreeSet<KnownKey>>,
    known_variables: RefCell<BTreeSet<String>>,
}

impl<'a> Sources<'a> {
    /// Relative paths in the file are below `folder`.
    pub(super) fn new(text: &'a str, folder: &Path, environment: &'a Environment, purpose: Purpose) -> Self {
        Self {
            text,
            folder: folder.to_owned(),
            environment,
            purpose,
            problems: RefCell::default(),
            known: RefCell::default(),
            known_variables: RefCell::default(),
        }
    }

    /// The line on which `span` begins.
    pub(super) fn line(&self, span: &Range<usize>) -> Place {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        Place::Line(before.bytes().filter(|b| *b == b'\n').count() + 1)
    }

    /// The variable `name`, which is one that we know from now on.
    pub(super) fn variable(&self, name: &str) -> Option<&'a str> {
        self.known_variables.borrow_mut().insert(name.to_owned());
        self.environment.0.get(name).map(String::as_str)
    }

    /// Whether what the text names must be there, for this process to use.
    pub(super) fn must_be_there(&self) -> bool {
        self.purpose == Purpose::Configuration
    }

    /// The environment, for variables that a key of the file names, such as `token_env`.
    pub(super) fn environment(&self) -> &'a Environment {
        self.environment
    }

    /// `path` as it is meant: relative to the file's folder.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// Whether nothing wrong has been found so far.
    pub(super) fn is_sound(&self) -> bool {
        self.problems.borrow().is_empty()
    }

    /// Notes something that is wrong.
    pub(super) fn problem(&self, place: Place, key: impl Into<String>, message: impl Into<String>) {
        self.problems.borrow_mut().push(Problem { place, key: key.into(), message: message.into() });
    }

    /// Notes a key that the parser knows.
    pub(super) fn know(&self, path: String, default: Option<String>) {
        self.known.borrow_mut().insert(KnownKey { path, default });
    }

    /// Complains about variables with our prefix that mean nothing.
    pub(super) fn check_unknown_variables(&self) {
        let known = self.known_variables.borrow();
        let ours = self.environment.0.keys().filter(|name| name.starts_with(ENV_PREFIX));
        for name in ours.filter(|name| !known.contains(*name)) {
            let hint = nearest(name, known.iter().map(String::as_str));
            let hint = hint.map_or_else(String::new, |best| format!(", or did you mean {best}"));
            self.problem(Place::Env(name.clone()), "", format!("no such setting: remove it{hint}"));
        }
    }

    /// Every problem in order, and every key that the parser asked for.
    pub(super) fn into_findings(self) -> (Vec<Problem>, BTreeSet<KnownKey>) {
        let mut problems = self.problems.into_inner();
        problems.sort();
        problems.dedup();
        (problems, self.known.into_inner())
    }
}

/// The candidate that was probably meant, if one is near enough.
pub(super) fn nearest<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let near = candidates.map(|c| (strsim::damerau_levenshtein(word, c), c)).min()?;
    (near.0 <= 2.max(word.len() / 3)).then_some(near.1)
}
