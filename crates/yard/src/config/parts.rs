//! A catalog document of which parts may be missing: what `yard simulate` reads. The sections mean what they mean in a
//! whole catalog and are read by the same code.

use std::path::Path;

use yard_domain::{Catalog, Cluster};

use super::problem::ConfigErrors;
use super::reader::Table;
use super::sources::{Environment, Purpose, Sources};
use super::{catalog, clusters, policy, teams};

/// The parts that a document has.
#[derive(Debug, Clone, PartialEq)]
pub struct CatalogParts {
    /// Teams, cohorts, classes and policy (its clusters are empty), if it has any of these sections.
    pub rules: Option<Catalog>,
    /// Clusters, if it has any.
    pub clusters: Option<Vec<Cluster>>,
}

/// Reads the parts that a catalog document has, called `name` in messages.
pub fn read_catalog_parts(name: &str, text: &str, folder: &Path) -> Result<CatalogParts, ConfigErrors> {
    let nothing = Environment::default();
    let sources = Sources::new(text, folder, &nothing, Purpose::Document);
    let parts = super::tree(&sources, text, |tree| {
        let mut root = Table::root(&sources, tree);
        let [of_clusters, of_rules]: [Vec<&'static str>; 2] = [true, false]
            .map(|of| catalog::SECTIONS.into_iter().filter(|s| (*s == "cluster") == of).collect());
        let has = |root: &Table<'_, '_>, sections: &[&str]| sections.iter().any(|s| root.stands_in_file(s));
        let clusters = has(&root, &of_clusters).then(|| clusters::clusters(&mut root));
        let rules = has(&root, &of_rules).then(|| rules(&mut root));
        of_clusters.iter().chain(&of_rules).for_each(|section| root.know_only(section));
        root.finish();
        let clusters = clusters.map(|list| list.into_iter().map(|config| config.cluster).collect());
        Some(CatalogParts { rules, clusters })
    });
    let (problems, _) = sources.into_findings();
    let errors = ConfigErrors { file: name.to_owned(), problems };
    parts.filter(|_| errors.problems.is_empty()).ok_or(errors)
}

fn rules(root: &mut Table<'_, '_>) -> Catalog {
    let mut places = catalog::Places::default();
    let rules = Catalog {
        teams: teams::teams(root, &mut places).0,
        cohorts: teams::cohorts(root, &mut places),
        policy: policy::policy(root),
        clusters: Vec::new(),
    };
    catalog::check(root, &rules, &places);
    rules
}
