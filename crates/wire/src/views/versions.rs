//! The catalog as a document: its versions, and what applying one changes.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use yard_domain::catalog::CatalogVersion;

use super::time::time_text;

/// One thing that a new catalog changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CatalogChange {
    /// `team`, `cohort`, `priority class`, `policy` or `cluster`.
    pub what: String,
    /// Its id; empty for the policy.
    pub id: String,
    /// `added`, `changed` or `removed`.
    pub change: String,
    /// Of what is changed: the field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What the field was; left out if it was not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What it becomes; left out if it is not set any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// More, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl CatalogChange {
    /// Without fields and note.
    pub fn new(what: &str, id: &str, change: &str) -> Self {
        let (what, id, change) = (what.to_owned(), id.to_owned(), change.to_owned());
        Self { what, id, change, field: None, from: None, to: None, note: None }
    }

    /// As one line for people: `team ads: quota.gpu 8 → 10`.
    pub fn sentence(&self) -> String {
        let mut text = self.what.clone();
        if !self.id.is_empty() {
            _ = write!(text, " {}", self.id);
        }
        let value = |v: &Option<String>| v.clone().unwrap_or_else(|| "not set".to_owned());
        match &self.field {
            Some(field) => _ = write!(text, ": {field} {} → {}", value(&self.from), value(&self.to)),
            None => _ = write!(text, ": {}", self.change),
        }
        if let Some(note) = &self.note {
            _ = write!(text, " ({note})");
        }
        text
    }
}

/// What became of a catalog that was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CatalogAnswer {
    /// `applied`: in force as a new version. `unchanged`: the same document was in force already. `dry_run`: nothing was
    /// written.
    pub answer: String,
    /// The version in force now; 0 if there is none yet.
    pub version: u64,
    /// What is different from what was in force.
    pub changes: Vec<CatalogChange>,
}

/// A version of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CatalogVersionView {
    /// 1 for the first; the highest is in force.
    pub version: u64,
    /// When it was put in force.
    pub at: String,
    /// Who did.
    pub by: String,
    /// `applied`, or `configuration`: a process brought it when it started.
    pub source: String,
    /// The document (TOML); left out in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Versions of the catalog, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CatalogVersionList {
    /// The versions.
    pub versions: Vec<CatalogVersionView>,
    /// Pass it as `before` for the next page; left out on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

impl CatalogVersionView {
    /// With its document.
    pub fn whole(version: &CatalogVersion) -> Self {
        Self { text: Some(version.text.clone()), ..Self::line(version) }
    }

    /// Without it.
    pub fn line(version: &CatalogVersion) -> Self {
        Self {
            version: version.number,
            at: time_text(version.at),
            by: version.by.clone(),
            source: version.source.code().to_owned(),
            text: None,
        }
    }
}
