//! The catalog: what a document declares of teams, cohorts, priority classes, the policy and clusters. It stands in the
//! configuration file or in a document of its own (`yard apply`), and is read by the same code.

use std::collections::HashMap;
use std::path::Path;

use toml::de::DeTable;
use yard_domain::{Catalog, QuotaOwner};

use super::clusters::{self, ClusterConfig};
use super::problem::{ConfigErrors, Place};
use super::push::PushConfig;
use super::reader::Table;
use super::sources::{Environment, Purpose, Sources};
use super::{policy, teams};

/// The tables that make up a catalog.
pub(super) const SECTIONS: [&str; 5] = ["team", "cohort", "priority_class", "policy", "cluster"];

/// What a document declares.
#[derive(Debug, Clone, PartialEq)]
pub struct Declared {
    /// The catalog as a whole.
    pub catalog: Catalog,
    /// Its clusters with how they are driven.
    pub clusters: Vec<ClusterConfig>,
    /// What is pushed to its teams.
    pub pushes: Vec<PushConfig>,
    /// The document: these sections as they were written.
    pub text: String,
}

impl Declared {
    /// Whether it declares the same, whatever the document looks like.
    pub(super) fn is(&self, other: &Self) -> bool {
        (&self.catalog, &self.clusters, &self.pushes) == (&other.catalog, &other.clusters, &other.pushes)
    }
}

/// Reads a catalog document, called `name` in messages. Relative paths in it are below `folder`. The environment has no
/// say, and secrets are only named: whoever drives a cluster looks them up where it runs.
pub fn read_catalog(name: &str, text: &str, folder: &Path) -> Result<Declared, ConfigErrors> {
    let nothing = Environment::default();
    let sources = Sources::new(text, folder, &nothing, Purpose::Document);
    let declared = super::tree(&sources, text, |tree: &DeTable<'_>| {
        let mut root = Table::root(&sources, tree);
        let declared = sections(&mut root);
        root.finish();
        Some(Declared { text: text.to_owned(), ..declared })
    });
    let (problems, _) = sources.into_findings();
    let errors = ConfigErrors { file: name.to_owned(), problems };
    declared.filter(|_| errors.problems.is_empty()).ok_or(errors)
}

/// Whether any part of a catalog stands in this file.
pub(super) fn is_declared(root: &Table<'_, '_>) -> bool {
    SECTIONS.iter().any(|section| root.stands_in_file(section))
}

/// Reads every section and checks them together. The text is not there yet.
pub(super) fn sections(root: &mut Table<'_, '_>) -> Declared {
    let mut places = Places::default();
    let (teams, pushes) = teams::teams(root, &mut places);
    let catalog = Catalog {
        teams,
        cohorts: teams::cohorts(root, &mut places),
        policy: policy::policy(root),
        clusters: Vec::new(),
    };
    check(root, &catalog, &places);
    let clusters = clusters::clusters(root);
    let declared = clusters.iter().map(|config| config.cluster.clone()).collect();
    let catalog = Catalog { clusters: declared, ..catalog };
    Declared { catalog, clusters, pushes, text: String::new() }
}

/// Notes what is wrong with teams and cohorts together.
pub(super) fn check(root: &Table<'_, '_>, catalog: &Catalog, places: &Places) {
    for fault in catalog.faults() {
        let place = places.of(&fault.owner, fault.field);
        root.sources().problem(place, format!("{}.{}", fault.owner, fault.field), fault.message);
    }
}

/// Where what may contradict something else stands.
#[derive(Default)]
pub(super) struct Places(HashMap<(QuotaOwner, &'static str), Place>);

impl Places {
    /// Keeps where these keys of a table stand.
    pub(super) fn keep(&mut self, owner: &QuotaOwner, keys: &[&'static str], t: &Table<'_, '_>) {
        for key in keys {
            self.0.insert((owner.clone(), key), t.place_of(key));
        }
    }

    fn of(&self, owner: &QuotaOwner, field: &'static str) -> Place {
        self.0.get(&(owner.clone(), field)).cloned().unwrap_or(Place::File)
    }
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;
