//! The least changes with which the job is placed.

use std::collections::HashSet;

use yard_domain::job::Priority;
use yard_domain::{ClusterId, Request, TeamId};

use super::lab::{Found, Lab};
use super::{Change, Counterfactual, Ending, Extra, Obstacle, Scene};
use crate::{Hold, Refusal, Running};

/// How often a first guess at the quota that is missing is doubled.
const DOUBLINGS: u32 = 6;

/// Everything found, most useful first: what ends by itself, then what an operator can do, then what the job's owner can.
pub(super) fn counterfactuals(lab: &mut Lab<'_>, scene: &Scene<'_>) -> Vec<Counterfactual> {
    let mut found = Vec::new();
    found.extend(lab.part(2, |lab| ends(lab, scene)).flatten());
    found.extend(lab.part(3, |lab| clusters(lab, scene)).unwrap_or_default());
    found.extend(lab.part(2, |lab| quota(lab, scene)).flatten());
    found.extend(lab.part(2, |lab| priority(lab, scene)).flatten());
    found.extend(lab.part(1, |lab| smaller(lab, scene)).flatten());
    found
}

impl Scene<'_> {
    fn request(&self) -> Request {
        self.group.map(|g| self.snapshot.groups[g].request.clone()).unwrap_or_default()
    }

    fn tries(&self, lab: &mut Lab<'_>, change: &Change) -> Found<Option<ClusterId>> {
        lab.with(self.snapshot, self.target, change)
    }

    fn confirm(&self, lab: &mut Lab<'_>, change: Change) -> Found<Option<Counterfactual>> {
        lab.confirm(self.snapshot, self.target, change)
    }
}

/// Each cluster that would take the job if only it took jobs again.
fn clusters(lab: &mut Lab<'_>, scene: &Scene<'_>) -> Found<Vec<Counterfactual>> {
    let mut found = Vec::new();
    for view in &scene.snapshot.clusters {
        let obstacles = Obstacle::of(&view.cluster);
        if obstacles.is_empty() || !view.cluster.configured {
            continue;
        }
        let change = Change::Cluster { cluster: view.cluster.id.clone(), obstacles };
        match scene.confirm(lab, change) {
            Ok(one) => found.extend(one),
            Err(spent) if found.is_empty() => return Err(spent),
            Err(_) => break,
        }
    }
    Ok(found)
}

/// The least extra quota with which the job is placed: the team's own, or else of a cohort above it.
fn quota(lab: &mut Lab<'_>, scene: &Scene<'_>) -> Found<Option<Counterfactual>> {
    let Some(group) = scene.group else { return Ok(None) };
    let path: Vec<usize> = scene.snapshot.quota.path(scene.snapshot.team_of(group)).collect();
    for node in path {
        let owner = scene.snapshot.quota.nodes()[node].owner.clone();
        let Some(extra) = enough(lab, scene, node)? else { continue };
        let asked = scene.request();
        let units: Vec<u64> = extra.iter().map(|e| unit(&e.resource, asked.amount(&e.resource))).collect();
        let least = least(extra, &units, |extra| {
            Ok(scene.tries(lab, &Change::Quota { owner: owner.clone(), extra })?.is_some())
        })?;
        if let Some(found) = scene.confirm(lab, Change::Quota { owner, extra: least })? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Extra quota of a node with which the job is placed, not yet the least.
fn enough(lab: &mut Lab<'_>, scene: &Scene<'_>, node: usize) -> Found<Option<Vec<Extra>>> {
    let missing = missing(scene, node);
    if missing.is_empty() {
        return Ok(None);
    }
    let owner = &scene.snapshot.quota.nodes()[node].owner;
    for doubling in 0..=DOUBLINGS {
        let more = |e: &Extra| Extra { amount: e.amount.saturating_mul(1 << doubling), ..e.clone() };
        let extra: Vec<Extra> = missing.iter().map(more).collect();
        let change = Change::Quota { owner: owner.clone(), extra: extra.clone() };
        if scene.tries(lab, &change)?.is_some() {
            return Ok(Some(extra));
        }
    }
    Ok(None)
}

/// What is missing at this node, or at the top of its tree, for the job and those of its group before it.
fn missing(scene: &Scene<'_>, node: usize) -> Vec<Extra> {
    let (tree, request, jobs) = (&scene.snapshot.quota, scene.request(), scene.short_by());
    let reserved = matches!(scene.refusal.map(|r| &r.hold), Some(Hold::QuotaReserved { .. }));
    let lacks = |i: usize, resource: &str, asked: u64| {
        let ceiling = tree.nodes()[i].ceiling.limit(resource)?;
        let used = if reserved { ceiling } else { scene.quota_used[i].amount(resource) };
        let wanted = used.saturating_add(asked.saturating_mul(jobs));
        Some(wanted.saturating_sub(ceiling)).filter(|m| *m > 0)
    };
    let of = |(resource, asked): (&str, u64)| {
        let both = [node, tree.root_of(node)].into_iter().filter_map(|i| lacks(i, resource, asked));
        let unit = unit(resource, asked);
        let amount = both.max()?.div_ceil(unit).saturating_mul(unit);
        Some(Extra { resource: resource.to_owned(), amount })
    };
    request.amounts().filter(|(_, asked)| *asked > 0).filter_map(of).collect()
}

/// Less of each resource in turn, as long as it still does what it is for: of none of them a unit less would do.
pub(super) fn least(
    mut extra: Vec<Extra>,
    units: &[u64],
    mut does: impl FnMut(Vec<Extra>) -> Found<bool>,
) -> Found<Vec<Extra>> {
    for i in 0..extra.len() {
        let unit = units[i];
        let mut with = |count: u64| {
            let mut less = extra.clone();
            less[i].amount = count.saturating_mul(unit);
            does(less)
        };
        let most = extra[i].amount / unit;
        let count = if with(0)? { 0 } else { first_true(0, most, &mut with)? };
        extra[i].amount = count.saturating_mul(unit);
    }
    extra.retain(|e| e.amount > 0);
    Ok(extra)
}

/// The smallest number above `fails` for which `holds`, given that it holds for `held`. (Where it is not monotonic:
/// some number for which it holds, while it does not for the one before.)
fn first_true(mut fails: u64, mut held: u64, mut holds: impl FnMut(u64) -> Found<bool>) -> Found<u64> {
    while held > fails + 1 {
        let middle = fails + (held - fails) / 2;
        if holds(middle)? { held = middle } else { fails = middle }
    }
    Ok(held)
}

/// The unit in which people count a resource: whole ones and gibibytes, or, if the job asks for a fraction, the largest
/// decimal (binary) part in which that can be counted.
pub(super) fn unit(resource: &str, asked: u64) -> u64 {
    let ladder: &[u64] = match resource {
        "jobs" => &[1],
        "memory" => &[1 << 30, 1 << 20, 1 << 10, 1],
        _ => &[1_000, 100, 10, 1],
    };
    ladder.iter().copied().find(|unit| asked.is_multiple_of(*unit)).unwrap_or(1)
}

/// The first attempt whose end lets the job start; if no single one does, the first few in the order of their
/// expected ends, without those that are not needed.
fn ends(lab: &mut Lab<'_>, scene: &Scene<'_>) -> Found<Option<Counterfactual>> {
    let open = in_the_way(scene);
    let mut enough = 1usize;
    let mut fails = 0usize;
    loop {
        let change = Change::Ends(open.iter().take(enough).cloned().collect());
        if open.is_empty() {
            return Ok(None);
        }
        if scene.tries(lab, &change)?.is_some() {
            break;
        }
        if enough >= open.len() {
            return Ok(None);
        }
        fails = enough;
        enough = (enough * 2).min(open.len());
    }
    let first = first_true(fails as u64, enough as u64, |n| {
        let n = usize::try_from(n).unwrap_or(usize::MAX);
        Ok(scene.tries(lab, &Change::Ends(open.iter().take(n).cloned().collect()))?.is_some())
    })?;
    let mut needed: Vec<Ending> =
        open.into_iter().take(usize::try_from(first).unwrap_or(usize::MAX)).collect();
    prune(lab, scene, &mut needed)?;
    scene.confirm(lab, Change::Ends(needed))
}

/// Leaves out what is not needed. The last one is: without it the others did not suffice.
fn prune(lab: &mut Lab<'_>, scene: &Scene<'_>, needed: &mut Vec<Ending>) -> Found<()> {
    let mut part = needed.len() - 1;
    while part > 0 && needed.len() > 1 {
        // First all but the last, then halves, quarters, … of the rest: few plans if few are needed.
        let mut from = 0;
        while from < needed.len() - 1 {
            let to = (from + part).min(needed.len() - 1);
            let fewer: Vec<Ending> = needed[..from].iter().chain(&needed[to..]).cloned().collect();
            match scene.tries(lab, &Change::Ends(fewer.clone()))? {
                Some(_) => *needed = fewer,
                None => from = to,
            }
        }
        part /= 2;
    }
    Ok(())
}

/// Open attempts that hold what the job needs (on a cluster that it may go to, or of its quota), first to end first.
fn in_the_way(scene: &Scene<'_>) -> Vec<Ending> {
    let snapshot = scene.snapshot;
    let may_go: HashSet<ClusterId> = scene
        .cluster_answers()
        .into_iter()
        .filter(|a| matches!(a.refusal, None | Some(Refusal::Full(_) | Refusal::Reserved { .. })))
        .map(|a| a.cluster)
        .collect();
    let lenders: HashSet<TeamId> = snapshot.quota.lenders(&scene.target.team).into_iter().collect();
    let counts = |r: &&Running| may_go.contains(&r.cluster) || lenders.contains(&r.team);
    let ending = |r: &Running| Ending {
        job: r.job,
        team: r.team.clone(),
        cluster: r.cluster.clone(),
        expected: r.expected_end,
        by: r.ends_by,
    };
    let mut open: Vec<Ending> = snapshot.running.iter().filter(counts).map(ending).collect();
    open.sort_by_key(|e| (e.expected, e.job));
    open
}

/// The lowest higher class with which the job is placed; without classes, a priority above all others of its team.
fn priority(lab: &mut Lab<'_>, scene: &Scene<'_>) -> Found<Option<Counterfactual>> {
    let own = scene.target.order.priority();
    let classes = &lab.policy().classes;
    let mut higher: Vec<Change> = match &classes[..] {
        [] | [_] => {
            let team = scene.snapshot.groups.iter().filter(|g| g.team == scene.target.team);
            let top = team.flat_map(|g| &g.orders).map(|o| o.priority()).max().unwrap_or(own);
            let above = Priority::new(i64::from(top.get()) + 1).unwrap_or(top);
            vec![Change::Priority { priority: above, class: None }]
        }
        many => many
            .iter()
            .map(|c| Change::Priority { priority: c.priority, class: Some(c.id.clone()) })
            .collect(),
    };
    higher.retain(|c| matches!(c, Change::Priority { priority, .. } if *priority > own));
    let lowest_first = higher.into_iter().rev();
    for change in lowest_first {
        if let Some(found) = scene.confirm(lab, change)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The most of a resource that is short with which the job is placed, if that is more than nothing.
fn smaller(lab: &mut Lab<'_>, scene: &Scene<'_>) -> Found<Option<Counterfactual>> {
    let request = scene.request();
    for resource in short_resources(scene) {
        let asked = request.amount(&resource);
        let unit = unit(&resource, asked);
        let units = asked / unit;
        let change = |less: u64| Change::Request {
            resource: resource.clone(),
            asked,
            amount: (units - less).saturating_mul(unit),
        };
        if units < 2 || scene.tries(lab, &change(units - 1))?.is_none() {
            continue;
        }
        let less = first_true(0, units - 1, |less| Ok(scene.tries(lab, &change(less))?.is_some()))?;
        if let Some(found) = scene.confirm(lab, change(less))? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// What the job is refused for, first named first. How many jobs it is can't be less than one.
fn short_resources(scene: &Scene<'_>) -> Vec<String> {
    let quota = match scene.refusal.map(|r| &r.hold) {
        Some(Hold::Quota(short)) => Some(short.short.resource.clone()),
        _ => None,
    };
    let clusters = scene.cluster_answers().into_iter().filter_map(|answer| match answer.refusal {
        Some(Refusal::Full(short) | Refusal::TooSmall(short)) => Some(short.resource),
        Some(Refusal::NoBlock(_)) => Some("gpu".to_owned()),
        _ => None,
    });
    let mut names: Vec<String> = Vec::new();
    for name in quota.into_iter().chain(clusters).filter(|name| name != "jobs") {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}
