//! `[[team]]`: who is charged, and up to what.

use std::collections::BTreeMap;
use std::fmt::Display;

use yard_domain::resources::Milli;
use yard_domain::{Limits, Team, TeamId};

use super::quantity::{bytes, count, milli};
use super::reader::Table;
use super::service::to_u32;
use super::value::toml_text;

/// Reads every `[[team]]`.
pub(super) fn teams(root: &mut Table<'_, '_>) -> Vec<Team> {
    let mut teams: Vec<Team> = Vec::new();
    for mut t in root.tables("team", "id") {
        let id = id::<TeamId>(&mut t, "ads");
        let weight = to_u32(t.integer_or("weight", 1, 1..=1_000));
        let quota = quota(&mut t);
        if let Some(id) = id {
            if teams.iter().any(|team| team.id == id) {
                t.complain("id", format!("{id} is taken by a team before: give each its own"));
            }
            teams.push(Team { quota, weight, ..Team::new(id) });
        }
        t.finish();
    }
    if teams.is_empty() && !root.is_set("team") {
        root.missing_table("team", "add at least one [[team]] with id = \"…\": every job is charged to one");
    }
    teams
}

/// Reads the `id` of a team or cluster.
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

fn quota(t: &mut Table<'_, '_>) -> Limits {
    let mut q = t.table("quota");
    let quota = Limits {
        cpu_milli: q.quantity("cpu", milli),
        gpu_milli: q.quantity("gpu", milli),
        memory_bytes: q.quantity("memory", bytes),
        jobs: q.quantity("jobs", count),
        custom_milli: custom(&mut q),
    };
    q.finish();
    quota
}
