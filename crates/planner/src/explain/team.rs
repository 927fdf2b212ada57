//! Why a team's jobs wait, and what would change most.

use std::cmp::Reverse;
use std::time::Duration;

use yard_domain::job::QueueOrder;
use yard_domain::{Request, TeamId, Timestamp};

use super::lab::{Found, Lab};
use super::search::{least, unit};
use super::{Ahead, Bounds, Change, Extra, Obstacle, Scene, Target, ahead, quota_used_after};
use crate::pass::{Made, Pass};
use crate::{GroupRefusal, Plan, Policy, Snapshot};

/// Why a team's jobs wait, and what would change most. Counts are of the jobs that the snapshot has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeamExplanation {
    /// How many the next pass places.
    pub starting: u32,
    /// What holds the others, most jobs first.
    pub holds: Vec<TeamHold>,
    /// Its dominant share for its weight, in millionths (see [`ahead::share`]); `None` if there is no such team.
    pub share: Option<u64>,
    /// Who goes before its first waiting job.
    pub ahead: Vec<Ahead>,
    /// What would let more of its jobs start in the next pass, largest gain first.
    pub gains: Vec<TeamGain>,
    /// How many plans were made to find those.
    pub plans: u32,
    /// Whether the search was given up at its bound.
    pub cut_short: bool,
}

/// Jobs held by one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeamHold {
    /// Why the first group waits, cluster by cluster.
    pub refusal: GroupRefusal,
    /// How many jobs this rule holds.
    pub jobs: u32,
    /// Of how many shapes.
    pub groups: u32,
    /// The first of them in the queue.
    pub first: QueueOrder,
}

/// A change with which more jobs would be placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeamGain {
    /// What would have to be different.
    pub change: Change,
    /// How many more of the team's jobs the next pass would place.
    pub jobs: u32,
}

/// Explains what waits of a team.
pub fn explain_team(
    snapshot: &Snapshot,
    policy: &Policy,
    now: Timestamp,
    seed: u64,
    team: &TeamId,
    bounds: Bounds,
    elapsed: &dyn Fn() -> Duration,
) -> TeamExplanation {
    let mut lab = Lab::new(policy, now, seed, bounds, elapsed);
    let Made { plan, board, .. } = Pass::new(snapshot, policy, now, seed, &[]).run();
    let holds = holds(snapshot, &plan, team);
    let first = holds.iter().min_by_key(|h| h.first);
    let first = first.map(|h| Target { team: team.clone(), shape: h.refusal.shape, order: h.first });
    let before = first.map(|target| {
        ahead::ahead(&Scene::new(snapshot, &plan, &board, &target), policy, bounds.entries_max as usize)
    });
    let mut gains = gains(&mut lab, snapshot, &plan, team);
    gains.truncate(bounds.entries_max as usize);
    TeamExplanation {
        starting: placed(&plan, team),
        share: snapshot.quota.node_of(team).map(|node| ahead::share(snapshot, node)),
        ahead: before.unwrap_or_default(),
        gains,
        holds,
        plans: lab.plans(),
        cut_short: lab.is_spent(),
    }
}

fn placed(plan: &Plan, team: &TeamId) -> u32 {
    u32::try_from(plan.placements.iter().filter(|p| p.team == *team).count()).unwrap_or(u32::MAX)
}

fn holds(snapshot: &Snapshot, plan: &Plan, team: &TeamId) -> Vec<TeamHold> {
    let mut holds: Vec<TeamHold> = Vec::new();
    for refusal in plan.refusals.iter().filter(|r| r.team == *team) {
        let Some((waiting, first)) = left(snapshot, plan, refusal) else { continue };
        match holds.iter_mut().find(|h| h.refusal.hold.code() == refusal.hold.code()) {
            Some(hold) => {
                hold.jobs += waiting;
                hold.groups += 1;
                if first < hold.first {
                    (hold.first, hold.refusal) = (first, refusal.clone());
                }
            }
            None => holds.push(TeamHold { refusal: refusal.clone(), jobs: waiting, groups: 1, first }),
        }
    }
    holds.sort_by_key(|h| (Reverse(h.jobs), h.first));
    holds
}

/// How many of a refused group the plan leaves, and the first of them.
fn left(snapshot: &Snapshot, plan: &Plan, refusal: &GroupRefusal) -> Option<(u32, QueueOrder)> {
    let group = snapshot.groups.iter().find(|g| g.team == refusal.team && g.shape == refusal.shape)?;
    let ours = |p: &&crate::Placement| p.team == refusal.team && p.shape == refusal.shape;
    let rest = group.orders.get(plan.placements.iter().filter(ours).count()..)?;
    Some((u32::try_from(rest.len()).unwrap_or(u32::MAX), *rest.first()?))
}

fn gains(lab: &mut Lab<'_>, snapshot: &Snapshot, plan: &Plan, team: &TeamId) -> Vec<TeamGain> {
    if !plan.refusals.iter().any(|r| r.team == *team) {
        return Vec::new();
    }
    let base = placed(plan, team);
    let mut found = lab.part(2, |lab| clusters(lab, snapshot, team, base)).unwrap_or_default();
    found.extend(lab.part(1, |lab| quota(lab, snapshot, plan, team, base)).flatten());
    found.sort_by_key(|gain| Reverse(gain.jobs));
    found
}

/// How many more are placed with the change.
fn gain(lab: &mut Lab<'_>, snapshot: &Snapshot, team: &TeamId, base: u32, change: &Change) -> Found<u32> {
    let nobody = Target { team: team.clone(), shape: yard_domain::Shape(0), order: QueueOrder(0) };
    let plan = lab.plan(&change.apply(snapshot, &nobody).0)?;
    Ok(placed(&plan, team).saturating_sub(base))
}

fn clusters(lab: &mut Lab<'_>, snapshot: &Snapshot, team: &TeamId, base: u32) -> Found<Vec<TeamGain>> {
    let mut found = Vec::new();
    for view in snapshot.clusters.iter().filter(|c| c.cluster.configured) {
        let obstacles = Obstacle::of(&view.cluster);
        if obstacles.is_empty() {
            continue;
        }
        let change = Change::Cluster { cluster: view.cluster.id.clone(), obstacles };
        match gain(lab, snapshot, team, base, &change) {
            Ok(0) => {}
            Ok(jobs) => found.push(TeamGain { change, jobs }),
            Err(spent) if found.is_empty() => return Err(spent),
            Err(_) => break,
        }
    }
    Ok(found)
}

/// The least extra quota of the team with which as many more are placed as with enough for all that wait.
fn quota(
    lab: &mut Lab<'_>,
    snapshot: &Snapshot,
    plan: &Plan,
    team: &TeamId,
    base: u32,
) -> Found<Option<TeamGain>> {
    let Some(node) = snapshot.quota.node_of(team) else { return Ok(None) };
    let owner = snapshot.quota.nodes()[node].owner.clone();
    let (extra, units) = for_all(snapshot, plan, team, node);
    if extra.is_empty() {
        return Ok(None);
    }
    let most =
        gain(lab, snapshot, team, base, &Change::Quota { owner: owner.clone(), extra: extra.clone() })?;
    if most == 0 {
        return Ok(None);
    }
    let extra = least(extra, &units, |extra| {
        let change = Change::Quota { owner: owner.clone(), extra };
        Ok(gain(lab, snapshot, team, base, &change)? >= most)
    })?;
    Ok(Some(TeamGain { change: Change::Quota { owner, extra }, jobs: most }))
}

/// The extra quota that everything waiting of the team would need, with the unit of each resource.
fn for_all(snapshot: &Snapshot, plan: &Plan, team: &TeamId, node: usize) -> (Vec<Extra>, Vec<u64>) {
    let used = quota_used_after(snapshot, plan);
    let mut wanted = Request::default();
    let mut units: std::collections::BTreeMap<String, u64> = std::collections::BTreeMap::new();
    for refusal in plan.refusals.iter().filter(|r| r.team == *team) {
        let group = snapshot.groups.iter().find(|g| g.team == *team && g.shape == refusal.shape);
        let (Some(group), Some((jobs, _))) = (group, left(snapshot, plan, refusal)) else { continue };
        for (resource, amount) in group.request.amounts().filter(|(_, amount)| *amount > 0) {
            let so_far = wanted.amount(resource);
            wanted.set(resource, so_far.saturating_add(amount.saturating_mul(u64::from(jobs))));
            let unit = unit(resource, amount);
            units.entry(resource.to_owned()).and_modify(|u| *u = unit.min(*u)).or_insert(unit);
        }
    }
    let nodes = snapshot.quota.nodes();
    let lacks = |resource: &str, wanted: u64| {
        let at = [node, snapshot.quota.root_of(node)].into_iter().filter_map(|i| {
            let ceiling = nodes[i].ceiling.limit(resource)?;
            Some(used[i].amount(resource).saturating_add(wanted).saturating_sub(ceiling))
        });
        at.max().filter(|missing| *missing > 0)
    };
    wanted
        .amounts()
        .filter(|(_, amount)| *amount > 0)
        .filter_map(|(resource, amount)| {
            let unit = units.get(resource).copied().unwrap_or(1);
            let amount = lacks(resource, amount)?.div_ceil(unit).saturating_mul(unit);
            Some((Extra { resource: resource.to_owned(), amount }, unit))
        })
        .unzip()
}
