//! `[[team]]` and `[[cohort]]`: who is charged, up to what, and who lends to whom.

use std::collections::BTreeMap;
use std::fmt::Display;

use yard_domain::resources::Milli;
use yard_domain::{Cohort, CohortId, Limits, QuotaOwner, SubmitRate, Team, TeamId};

use super::catalog::Places;
use super::push::{self, PushConfig};
use super::quantity::{bytes, count, milli};
use super::reader::Table;
use super::service::to_u32;
use super::value::toml_text;

/// Submissions at once after a pause, unless the team's rate says otherwise.
const BURST: u64 = 10;

/// Reads every `[[team]]`, with what is to be pushed to each.
pub(super) fn teams(root: &mut Table<'_, '_>, places: &mut Places) -> (Vec<Team>, Vec<PushConfig>) {
    let (mut teams, mut pushes): (Vec<Team>, Vec<PushConfig>) = (Vec::new(), Vec::new());
    for mut t in root.tables("team", "id") {
        let team = team(&mut t);
        pushes.extend(push::subscriptions(&mut t, team.as_ref().map(|team| &team.id)));
        if let Some(team) = team {
            if teams.iter().any(|other| other.id == team.id) {
                t.complain("id", format!("{} is taken by a team before: give each its own", team.id));
            }
            places.keep(&QuotaOwner::Team(team.id.clone()), &["cohort", "max"], &t);
            teams.push(team);
        }
        t.finish();
    }
    if teams.is_empty() && !root.is_set("team") {
        root.missing_table("team", "add at least one [[team]] with id = \"…\": every job is charged to one");
    }
    (teams, pushes)
}

/// `None` if it has no id that could be read; everything else about it has been looked at all the same.
fn team(t: &mut Table<'_, '_>) -> Option<Team> {
    let id = id::<TeamId>(t, "ads");
    let cohort = t.parsed("cohort", str::parse::<CohortId>);
    let (weight, quota, max) = (weight(t), bounds(t, "quota"), bounds(t, "max"));
    let (request, submit_rate) = (default_request(t), submit_rate(t));
    Some(Team { id: id?, cohort, quota, max, request, weight, submit_rate })
}

/// Reads every `[[cohort]]`.
pub(super) fn cohorts(root: &mut Table<'_, '_>, places: &mut Places) -> Vec<Cohort> {
    let mut cohorts: Vec<Cohort> = Vec::new();
    for mut t in root.tables("cohort", "id") {
        if let Some(cohort) = cohort(&mut t) {
            if cohorts.iter().any(|other| other.id == cohort.id) {
                t.complain("id", format!("{} is taken by a cohort before: give each its own", cohort.id));
            }
            places.keep(&QuotaOwner::Cohort(cohort.id.clone()), &["parent", "max"], &t);
            cohorts.push(cohort);
        }
        t.finish();
    }
    cohorts
}

fn cohort(t: &mut Table<'_, '_>) -> Option<Cohort> {
    let id = id::<CohortId>(t, "research");
    let parent = t.parsed("parent", str::parse::<CohortId>);
    let (weight, quota, max) = (weight(t), bounds(t, "quota"), bounds(t, "max"));
    Some(Cohort { id: id?, parent, quota, max, weight })
}

/// Reads the `id` of a team, cohort, class or cluster.
pub(super) fn id<T: std::str::FromStr<Err: Display>>(t: &mut Table<'_, '_>, example: &str) -> Option<T> {
    let id = t.parsed("id", str::parse::<T>);
    if id.is_none() && !t.is_set("id") {
        t.missing("id", &format!("add an id, such as id = {example:?}"));
    }
    id
}

/// Reads the table `custom`: amounts by resource name.
pub(super) fn custom(t: &mut Table<'_, '_>) -> BTreeMap<String, Milli> {
    let mut amounts = BTreeMap::new();
    for (name, (place, value)) in t.free_table("custom") {
        let key = format!("{}.custom.{name}", t.shown());
        if ["cpu", "gpu", "memory", "jobs"].contains(&name.to_lowercase().as_str()) {
            t.sources().problem(
                place,
                key,
                format!("is no custom resource: write {} beside custom", name.to_lowercase()),
            );
            continue;
        }
        match toml_text(value).map_or_else(|| Err("must be a number".to_owned()), milli) {
            Ok(amount) => _ = amounts.insert(name.to_owned(), amount),
            Err(message) => t.sources().problem(place, key, message),
        }
    }
    amounts
}

fn weight(t: &mut Table<'_, '_>) -> u32 {
    to_u32(t.integer_or("weight", 1, 1..=1_000))
}

/// Reads a table of bounds on resources: `quota` or `max`.
fn bounds(t: &mut Table<'_, '_>, key: &'static str) -> Limits {
    let mut q = t.table(key);
    let limits = Limits {
        cpu_milli: q.quantity("cpu", milli),
        gpu_milli: q.quantity("gpu", milli),
        memory_bytes: q.quantity("memory", bytes),
        jobs: q.quantity("jobs", count),
        custom_milli: custom(&mut q),
    };
    q.finish();
    limits
}

/// Reads `request`: amounts for submissions that name none.
fn default_request(t: &mut Table<'_, '_>) -> Limits {
    let mut r = t.table("request");
    let request = Limits {
        cpu_milli: r.quantity("cpu", milli),
        gpu_milli: r.quantity("gpu", milli),
        memory_bytes: r.quantity("memory", bytes),
        jobs: None,
        custom_milli: custom(&mut r),
    };
    r.finish();
    request
}

fn submit_rate(t: &mut Table<'_, '_>) -> Option<SubmitRate> {
    let mut r = t.table("submit_rate");
    let per_minute = r.integer("per_minute", 1..=1_000_000);
    let burst = to_u32(r.integer_or("burst", BURST, 1..=1_000_000));
    if r.is_present() && !r.is_set("per_minute") {
        r.missing("per_minute", "add the submissions per minute, such as per_minute = 60");
    }
    r.finish();
    per_minute.map(|per_minute| SubmitRate { per_minute: to_u32(per_minute), burst })
}
