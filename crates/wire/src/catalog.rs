//! Catalog documents: what is read out of one, and what changes from one to the next. Pure.

use std::collections::{BTreeMap, BTreeSet};

use yard_domain::resources::show_quantity;
use yard_domain::team::SubmitRate;
use yard_domain::{Catalog, Cluster, ClusterId, Cohort, Limits, Policy, PriorityClass, Team, TeamId};

use crate::views::{CatalogChange, FieldProblem};

/// What a document declares: the catalog, and by cluster how it is driven, in words (addresses, times, the names of
/// secrets; never a secret).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CatalogDraft {
    /// The catalog.
    pub catalog: Catalog,
    /// The settings of each cluster's driver by name.
    pub settings: BTreeMap<ClusterId, BTreeMap<String, String>>,
    /// What is pushed to each team, by the subscription's name, in words.
    pub pushes: BTreeMap<TeamId, BTreeMap<String, String>>,
}

/// Reads a document; everything that is wrong comes back at once.
pub type CatalogReader = dyn Fn(&str) -> Result<CatalogDraft, Vec<FieldProblem>> + Send + Sync;

/// Jobs that have not ended, by whose they are and where they have been placed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenJobs {
    /// Of teams.
    pub teams: BTreeMap<TeamId, u64>,
    /// On clusters.
    pub clusters: BTreeMap<ClusterId, u64>,
}

/// Everything that changes from `before` to `after`: cohorts, teams, classes, policy, clusters, each by id.
pub fn diff(before: &CatalogDraft, after: &CatalogDraft, open: &OpenJobs) -> Vec<CatalogChange> {
    let (old, new) = (&before.catalog, &after.catalog);
    let stays = |n: Option<&u64>| {
        n.filter(|n| **n > 0)
            .map(|n| format!("has {n} open job{}: stays until they end", if *n == 1 { "" } else { "s" }))
    };
    let mut changes = Vec::new();
    let cohorts = |c: &Catalog| c.cohorts.iter().map(|c| (c.id.to_string(), cohort(c))).collect();
    compare("cohort", &cohorts(old), &cohorts(new), |_| None, &mut changes);
    let teams = |d: &CatalogDraft| {
        d.catalog.teams.iter().map(|t| (t.id.to_string(), team(t, d.pushes.get(&t.id)))).collect()
    };
    let of_team = |id: &str| stays(id.parse().ok().and_then(|id: TeamId| open.teams.get(&id)));
    compare("team", &teams(before), &teams(after), of_team, &mut changes);
    let classes = |c: &Catalog| c.policy.classes.iter().map(|c| (c.id.to_string(), class(c))).collect();
    compare("priority class", &classes(old), &classes(new), |_| None, &mut changes);
    fields("policy", "", &policy(&old.policy), &policy(&new.policy), &mut changes);
    let on_cluster = |id: &str| stays(id.parse().ok().and_then(|id: ClusterId| open.clusters.get(&id)));
    let (old, new) = (clusters(before), clusters(after));
    let first = changes.len();
    compare("cluster", &old, &new, on_cluster, &mut changes);
    for change in changes.iter_mut().skip(first) {
        note_place(change, &old, &new, open);
    }
    changes
}

/// The settings that say where a cluster is.
const PLACE: [&str; 6] = ["address", "in_cluster", "kubeconfig", "context", "namespace", "dir"];

/// Adds to the change of a cluster what it does to jobs that run in the place where it was, or comes to be.
fn note_place(
    change: &mut CatalogChange,
    old: &BTreeMap<String, Fields>,
    new: &BTreeMap<String, Fields>,
    open: &OpenJobs,
) {
    let running =
        |id: &str| id.parse().ok().and_then(|id: ClusterId| open.clusters.get(&id)).filter(|n| **n > 0);
    let jobs = |n: &u64| format!("{n} open job{}", if *n == 1 { "" } else { "s" });
    if change.field.as_deref().is_some_and(|field| PLACE.contains(&field)) {
        change.note = running(&change.id).map(|n| {
            format!("has {}: if this is another place, they are tried again there; drain it first", jobs(n))
        });
    }
    let Some(comes) = new.get(&change.id).filter(|_| change.change == "added") else { return };
    let place = |fields: &Fields| PLACE.map(|key| fields.get(key).cloned());
    let place_of_it = Some(place(comes)).filter(|place| place.iter().any(Option::is_some));
    let here = old.iter().filter(|(_, fields)| Some(place(fields)) == place_of_it);
    for (id, n) in here.filter_map(|(id, _)| running(id).map(|n| (id, n))) {
        let warning =
            format!("where {id} is, which has {}: stopped, and tried again; drain it first", jobs(n));
        change.note = Some(change.note.take().map_or(warning.clone(), |note| format!("{note}; {warning}")));
    }
}

type Fields = BTreeMap<String, String>;

fn compare(
    what: &str,
    before: &BTreeMap<String, Fields>,
    after: &BTreeMap<String, Fields>,
    stays: impl Fn(&str) -> Option<String>,
    changes: &mut Vec<CatalogChange>,
) {
    let ids: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for id in ids {
        match (before.get(id), after.get(id)) {
            (Some(old), Some(new)) => fields(what, id, old, new, changes),
            (None, Some(new)) => {
                let told: Vec<String> = new.iter().map(|(name, value)| format!("{name} {value}")).collect();
                let note = Some(told.join(", ")).filter(|note| !note.is_empty());
                changes.push(CatalogChange { note, ..CatalogChange::new(what, id, "added") });
            }
            (Some(_), None) => {
                changes.push(CatalogChange { note: stays(id), ..CatalogChange::new(what, id, "removed") });
            }
            (None, None) => {}
        }
    }
}

fn fields(what: &str, id: &str, before: &Fields, after: &Fields, changes: &mut Vec<CatalogChange>) {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in names.into_iter().filter(|name| before.get(*name) != after.get(*name)) {
        let (from, to) = (before.get(name).cloned(), after.get(name).cloned());
        let change = CatalogChange::new(what, id, "changed");
        changes.push(CatalogChange { field: Some(name.clone()), from, to, ..change });
    }
}

fn team(t: &Team, pushes: Option<&Fields>) -> Fields {
    let mut fields = node(&t.quota, &t.max, t.weight);
    fields.extend(bounds("request", &t.request));
    fields.extend(t.cohort.as_ref().map(|c| ("cohort".to_owned(), c.to_string())));
    let pushes = pushes.into_iter().flatten();
    fields.extend(pushes.map(|(name, push)| (format!("push.{name}"), push.clone())));
    fields.extend(t.submit_rate.map(|SubmitRate { per_minute, burst }| {
        ("submit_rate".to_owned(), format!("{per_minute} a minute, {burst} at once"))
    }));
    fields
}

fn cohort(c: &Cohort) -> Fields {
    let mut fields = node(&c.quota, &c.max, c.weight);
    fields.extend(c.parent.as_ref().map(|p| ("parent".to_owned(), p.to_string())));
    fields
}

fn node(quota: &Limits, max: &Limits, weight: u32) -> Fields {
    let weight = ("weight".to_owned(), weight.to_string());
    bounds("quota", quota).chain(bounds("max", max)).chain([weight]).collect()
}

fn bounds(prefix: &str, limits: &Limits) -> impl Iterator<Item = (String, String)> {
    limits.bounds().map(move |(name, v)| (format!("{prefix}.{name}"), show_quantity(name, v)))
}

fn class(c: &PriorityClass) -> Fields {
    Fields::from([
        ("priority".to_owned(), c.priority.get().to_string()),
        ("preempts".to_owned(), c.preempts.to_string()),
        ("preemptible".to_owned(), c.preemptible.to_string()),
    ])
}

fn policy(p: &Policy) -> Fields {
    let (s, e) = (&p.scores, &p.preemption);
    let half_life = p.half_life.map(|h| ("half_life_s".to_owned(), h.as_secs().to_string()));
    let always = [
        ("reservations_max", p.reservations_max.to_string()),
        ("score.fit", s.fit.code().to_owned()),
        ("score.fit_weight", s.fit_weight.to_string()),
        ("score.cost_weight", s.cost_weight.to_string()),
        ("score.locality_weight", s.locality_weight.to_string()),
        ("score.failures_weight", s.failures_weight.to_string()),
        ("score.queue_weight", s.queue_weight.to_string()),
        ("preemption.reclaim", e.reclaim.to_string()),
        ("preemption.within_team", e.within_team.to_string()),
        ("preemption.victims_max", e.victims_max.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value));
    always.into_iter().chain(half_life).collect()
}

fn clusters(draft: &CatalogDraft) -> BTreeMap<String, Fields> {
    let of = |c: &Cluster| {
        let mut fields = cluster(c);
        fields.extend(draft.settings.get(&c.id).into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())));
        (c.id.to_string(), fields)
    };
    draft.catalog.clusters.iter().map(of).collect()
}

fn cluster(c: &Cluster) -> Fields {
    let mut fields = Fields::from([("driver".to_owned(), c.driver.clone())]);
    fields.extend(c.labels.iter().map(|(name, value)| (format!("labels.{name}"), value.clone())));
    let prefix = if c.elastic.is_some() { "elastic.ceiling" } else { "capacity" };
    let has = c.capacity.iter().flat_map(|capacity| capacity.0.amounts());
    // How many jobs it takes is one of its settings, and counted as a resource only inside.
    let has = has.filter(|(name, amount)| *name != "jobs" && *amount > 0);
    fields.extend(has.map(|(name, amount)| (format!("{prefix}.{name}"), show_quantity(name, amount))));
    fields.extend(c.elastic.as_ref().map(|e| ("elastic.delay_s".to_owned(), e.delay.as_secs().to_string())));
    fields.extend(c.cost_per_hour_micro.map(|micro| ("cost_per_hour".to_owned(), show_micro(micro))));
    fields
}

/// Millionths as a decimal number.
pub fn show_micro(micro: u64) -> String {
    let (whole, part) = (micro / 1_000_000, micro % 1_000_000);
    if part == 0 { whole.to_string() } else { format!("{whole}.{part:06}").trim_end_matches('0').to_owned() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use yard_domain::{Capacity, Elastic, Priority, Request};

    use super::*;

    fn sentences(before: &CatalogDraft, after: &CatalogDraft, open: &OpenJobs) -> Vec<String> {
        diff(before, after, open).iter().map(CatalogChange::sentence).collect()
    }

    fn cluster(id: &str, cpu: u64) -> Cluster {
        let capacity = Some(Capacity(Request { cpu_milli: cpu, jobs: 9, ..Request::default() }));
        Cluster { capacity, ..Cluster::new(id.parse().unwrap(), "ray") }
    }

    #[test]
    fn a_person_reads_what_changes() {
        let ads = Team {
            quota: Limits { gpu_milli: Some(8_000), ..Limits::default() },
            ..Team::new("ads".parse().unwrap())
        };
        let old = Catalog::of(
            [ads.clone(), Team::new("gone".parse().unwrap())],
            [cluster("east", 4_000), cluster("west", 2_000)],
        );
        let mut new = Catalog::of([ads], [cluster("east", 4_000), cluster("north", 1_500)]);
        new.teams[0].quota.gpu_milli = Some(10_000);
        new.teams[0].request.cpu_milli = Some(2_000);
        new.teams[0].submit_rate = Some(SubmitRate { per_minute: 60, burst: 5 });
        new.clusters[0].elastic = Some(Elastic { present: None, delay: Duration::from_mins(1) });
        new.clusters[1].cost_per_hour_micro = Some(1_250_000);
        new.policy.classes[0].preemptible = true;
        new.policy.classes.push(PriorityClass {
            id: "high".parse().unwrap(),
            priority: Priority::new(100).unwrap(),
            preempts: true,
            preemptible: false,
        });
        new.policy.half_life = Some(Duration::from_hours(1));
        let settings = |clusters: [(&str, &str); 2]| {
            let of = |(id, address): (&str, &str)| {
                (id.parse().unwrap(), Fields::from([("address".to_owned(), address.to_owned())]))
            };
            clusters.map(of).into()
        };
        let pushes = |to: &str| {
            BTreeMap::from([(
                "ads".parse().unwrap(),
                BTreeMap::from([("results".to_owned(), to.to_owned())]),
            )])
        };
        let before = CatalogDraft {
            catalog: old,
            settings: settings([("east", "http://a"), ("west", "http://w")]),
            pushes: pushes("a queue"),
        };
        let moved = settings([("east", "http://b"), ("north", "http://w")]);
        let after = CatalogDraft { catalog: new, settings: moved, pushes: pushes("a webhook") };
        let open = OpenJobs {
            teams: [("gone".parse().unwrap(), 1)].into(),
            clusters: [("west".parse().unwrap(), 3), ("east".parse().unwrap(), 4)].into(),
        };
        assert_eq!(
            sentences(&before, &after, &open),
            [
                "team ads: push.results a queue → a webhook",
                "team ads: quota.gpu 8 → 10",
                "team ads: request.cpu not set → 2",
                "team ads: submit_rate not set → 60 a minute, 5 at once",
                "team gone: removed (has 1 open job: stays until they end)",
                "priority class default: preemptible false → true",
                "priority class high: added (preemptible false, preempts true, priority 100)",
                "policy: half_life_s not set → 3600",
                "cluster east: address http://a → http://b (has 4 open jobs: if this is another place, they are tried \
                 again there; drain it first)",
                "cluster east: capacity.cpu 4 → not set",
                "cluster east: elastic.ceiling.cpu not set → 4",
                "cluster east: elastic.delay_s not set → 60",
                "cluster north: added (address http://w, capacity.cpu 1.5, cost_per_hour 1.25, driver ray; where west is, \
                 which has 3 open jobs: stopped, and tried again; drain it first)",
                "cluster west: removed (has 3 open jobs: stays until they end)",
            ]
        );
        assert!(diff(&after, &after, &open).is_empty());
    }
}
