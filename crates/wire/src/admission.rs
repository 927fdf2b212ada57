//! What the installation says to a well-formed submission: is the team known, may this door submit for it,
//! could any cluster ever run it.

use std::collections::{BTreeMap, BTreeSet};

use yard_domain::resources::{Shortage, show_quantity};
use yard_domain::{
    Catalog, Cluster, ClusterId, ClusterSelector, FieldError, PodFault, Priority, PriorityClass,
    QuotaShortage, QuotaTree, Request, Team, TeamId,
};

use crate::submission::{Draft, Faults};

/// The installation as admission sees it: a snapshot that the engine refreshes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admission {
    /// The configured teams.
    pub teams: BTreeMap<TeamId, Team>,
    /// What teams may use with what their cohorts lend them.
    pub quota: QuotaTree,
    /// The priority classes, highest first.
    pub classes: Vec<PriorityClass>,
    /// The teams that a door (`sqs:<queue>`, `http`) may submit for. A door that is not named may submit for all.
    pub doors: BTreeMap<String, BTreeSet<TeamId>>,
    /// Every cluster. One whose capacity is not known yet counts as large enough; one that is drained or
    /// doesn't answer counts too, since it may come back; one that grows counts as large as it may become; one of which it
    /// is not known yet what Ray clusters it can make counts as able to make any.
    pub clusters: Vec<Cluster>,
}

impl Admission {
    /// From the catalog in force, with every cluster there is, and the configuration's doors.
    pub fn new(catalog: Catalog, doors: BTreeMap<String, BTreeSet<TeamId>>) -> Self {
        let quota = QuotaTree::new(&catalog.teams, &catalog.cohorts);
        let teams = catalog.teams.into_iter().map(|t| (t.id.clone(), t)).collect();
        Self { teams, quota, classes: catalog.policy.classes, doors, clusters: catalog.clusters }
    }

    /// Adds everything that stands against the sound parts of `draft`.
    pub(crate) fn check(&self, door: &str, draft: &mut Draft, faults: &mut Faults) {
        if let Some(class) = &draft.priority_class {
            draft.priority = self.class_priority(class, faults).unwrap_or_default();
        }
        if let Some(team) = &draft.team {
            self.check_team(door, team, draft.request.as_ref(), faults);
        }
        match (&draft.request, &draft.clusters) {
            (Some(request), Some(selector)) => self.check_fit(request, selector, faults),
            // What it asks for is wrong anyway; what is named wrongly beside that is to be told with it.
            (None, Some(selector)) if !self.knows_none(&draft.only) => self.check_names(selector, faults),
            // Something else is wrong with it; a name that is none would come to light only once that is mended.
            _ if self.knows_none(&draft.only) => {
                let selector = ClusterSelector { only: draft.only.clone(), ..ClusterSelector::default() };
                faults.push("clusters", "never_fits", self.nothing_selected(&selector));
            }
            _ => {}
        }
    }

    /// Whether clusters are named, and there is none of them.
    fn knows_none(&self, only: &BTreeSet<ClusterId>) -> bool {
        !only.is_empty() && !self.clusters.iter().any(|c| c.configured && only.contains(&c.id))
    }

    /// The priority of a job that names its class.
    fn class_priority(&self, name: &str, faults: &mut Faults) -> Option<Priority> {
        let class = self.classes.iter().find(|class| class.id.as_str() == name);
        if class.is_none() {
            let near = crate::submission::nearest(name, self.classes.iter().map(|c| c.id.as_str()));
            let hint = near.map_or_else(String::new, |n| format!(", did you mean {n:?}?"));
            let known = join_some(self.classes.iter().map(|c| c.id.to_string()));
            let message =
                format!("there is no class {}{hint}; there are: {known}", crate::submission::quote(name));
            faults.push("priority_class", "unknown_class", message);
        }
        class.map(|class| class.priority)
    }

    /// What is wrong if this door may not submit for the team.
    pub(crate) fn keeps_out(&self, door: &str, team: &TeamId) -> Option<FieldError> {
        let allowed = self.doors.get(door)?;
        (!allowed.contains(team)).then(|| FieldError {
            field: "team".to_owned(),
            code: FieldError::TEAM_NOT_ALLOWED,
            message: format!("{door} may not submit for team {:?}", team.as_str()),
        })
    }

    fn check_team(&self, door: &str, team: &TeamId, request: Option<&Request>, faults: &mut Faults) {
        let Some(node) = self.quota.node_of(team) else {
            let near = crate::submission::nearest(team.as_str(), self.teams.keys().map(TeamId::as_str));
            let hint = near
                .map_or_else(|| "ask an operator to add it".to_owned(), |n| format!("did you mean {n:?}?"));
            return faults.push(
                "team",
                "unknown_team",
                format!("there is no team {:?}; {hint}", team.as_str()),
            );
        };
        if let Some(fault) = self.keeps_out(door, team) {
            faults.push(&fault.field, fault.code, fault.message);
        }
        let Some(request) = request else { return };
        let nothing = vec![Request::default(); self.quota.nodes().len()];
        if let Err(QuotaShortage { owner, short }) = self.quota.allows(&nothing, node, request) {
            let (asked, have) = amounts(&short);
            // A team by itself has a quota; one in a cohort may borrow up to a ceiling, its own or one above it.
            let alone = self.quota.nodes().get(node).is_none_or(|node| node.parent.is_none());
            let bound = if alone { "whole quota of" } else { "ceiling, all that it may borrow included, of" };
            let message = format!("asks {asked}, more than {owner}'s {bound} {have}: it could never run");
            faults.push(field_of(&short), "never_fits", message);
        }
    }

    fn check_fit(&self, request: &Request, selector: &ClusterSelector, faults: &mut Faults) {
        let selected: Vec<_> = self.selected(selector).collect();
        if selected.is_empty() {
            return faults.push("clusters", "never_fits", self.nothing_selected(selector));
        }
        let (mut shortages, mut unmade) = (BTreeMap::new(), Vec::new());
        for cluster in selected {
            let found = selector.unmade(cluster, request);
            if !found.is_empty() {
                unmade.extend(found.into_iter().map(|fault| (&cluster.id, fault)));
                continue;
            }
            let Some(capacity) = &cluster.capacity else { return };
            match capacity.allows(&Request::default(), request) {
                Ok(()) => return,
                Err(short) => shortages.insert(&cluster.id, short),
            };
        }
        tell_unmade(&unmade, faults);
        if shortages.is_empty() {
            return;
        }
        // One resource that is short everywhere is the field to mend; else it is the combination.
        let fields: BTreeSet<_> = shortages.values().map(field_of).collect();
        let field = if fields.len() == 1 { fields.into_iter().next() } else { None };
        let each = shortages.iter().map(|(id, short)| {
            let (asked, have) = amounts(short);
            format!("{id} has {have} of {} in all (asked {asked})", short.resource)
        });
        let message = format!("no cluster could ever run it: {}", join_some(each));
        faults.push(field.unwrap_or_else(|| "resources".to_owned()), "never_fits", message);
    }

    /// What no selected cluster has of what is named, whatever the job is charged.
    fn check_names(&self, selector: &ClusterSelector, faults: &mut Faults) {
        let mut unmade = Vec::new();
        for cluster in self.selected(selector) {
            let found = selector.misnamed(cluster);
            if found.is_empty() {
                return;
            }
            unmade.extend(found.into_iter().map(|fault| (&cluster.id, fault)));
        }
        tell_unmade(&unmade, faults);
    }

    fn selected(&self, selector: &ClusterSelector) -> impl Iterator<Item = &Cluster> {
        self.clusters.iter().filter(|c| c.configured && selector.admits(c))
    }

    fn nothing_selected(&self, selector: &ClusterSelector) -> String {
        let configured: Vec<_> = self.clusters.iter().filter(|c| c.configured).collect();
        let known = join_some(configured.iter().map(|c| {
            let labels: Vec<_> = c.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            if labels.is_empty() { c.id.to_string() } else { format!("{} ({})", c.id, labels.join(", ")) }
        }));
        if configured.is_empty() {
            return "no cluster is configured".to_owned();
        }
        let missing: Vec<_> =
            selector.only.iter().filter(|id| !configured.iter().any(|c| c.id == **id)).collect();
        if let [id, ..] = missing[..] {
            let near = crate::submission::nearest(id.as_str(), configured.iter().map(|c| c.id.as_str()));
            let hint = near.map_or_else(String::new, |n| format!(", did you mean {n:?}?"));
            return format!("there is no cluster {:?}{hint}; there are: {known}", id.as_str());
        }
        if let Some(driver) = &selector.driver
            && !configured.iter().any(|c| c.driver == *driver)
        {
            return format!(
                "ray_cluster names a profile or image, which only {driver} clusters have; there are: {known}"
            );
        }
        if !selector.avoid.is_empty() {
            return format!("every cluster that it may run on is to be avoided; there are: {known}");
        }
        format!("no cluster has all these labels; there are: {known}")
    }
}

/// Says by field why clusters could never make a job's Ray cluster.
fn tell_unmade(unmade: &[(&ClusterId, PodFault)], faults: &mut Faults) {
    let mut by_field: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (cluster, fault) in unmade {
        by_field.entry(&fault.field).or_default().push(format!("{cluster}: {}", fault.message));
    }
    for (field, told) in by_field {
        let message = format!("no cluster could ever run it: {}", join_some(told.into_iter()));
        faults.push(field, "never_fits", message);
    }
}

/// Asked and available, as shown to people.
fn amounts(short: &Shortage) -> (String, String) {
    (show_quantity(&short.resource, short.requested), show_quantity(&short.resource, short.available))
}

fn field_of(short: &Shortage) -> String {
    match short.resource.as_str() {
        fixed @ ("cpu" | "gpu" | "memory") => format!("resources.{fixed}"),
        "jobs" => "team".to_owned(),
        custom => format!("resources.custom.{custom}"),
    }
}

/// Joins a list for a sentence, cut after the first few.
fn join_some(items: impl Iterator<Item = String>) -> String {
    const SHOWN: usize = 8;
    let items: Vec<_> = items.collect();
    let more = items.len().saturating_sub(SHOWN);
    let head = items.into_iter().take(SHOWN).collect::<Vec<_>>().join("; ");
    if more > 0 { format!("{head}; and {more} more") } else { head }
}
