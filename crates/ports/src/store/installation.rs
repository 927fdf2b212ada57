//! What is put in force: the catalog.

use yard_domain::catalog::CatalogSource;

/// What became of a catalog to be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyAnswer {
    /// It is in force, as this version.
    Applied(u64),
    /// Its document is that of the version in force: there is no new version.
    Unchanged(u64),
    /// Another version is in force than the one the writer knew: nothing was written.
    Conflict(u64),
}

/// A document to be applied, and by whom.
#[derive(Debug, Clone, Copy)]
pub struct CatalogDocument<'a> {
    /// The document as written.
    pub text: &'a str,
    /// Who.
    pub by: &'a str,
    /// How.
    pub source: CatalogSource,
    /// The version that the writer knew to be in force: another one is a conflict. `None`: whatever is in force.
    pub expected: Option<u64>,
}

impl<'a> CatalogDocument<'a> {
    /// A process's configuration as it starts.
    pub fn configuration(text: &'a str, by: &'a str) -> Self {
        Self { text, by, source: CatalogSource::Configuration, expected: None }
    }
}
