//! Reservations: what is in use at a time to come, when a job could start at the earliest, and who delays whom.

use std::collections::BTreeSet;
use std::time::Duration;

use yard_domain::{JobId, Timestamp};
use yard_planner::{Plan, Reservation, Running};

use super::preempt::would_be_over;
use super::world::{Amounts, Load, World, amounts};

/// What was asked to stop has stopped by then.
pub const GRACE: Duration = Duration::from_secs(30);

/// By which clock the open attempts end.
#[derive(Clone, Copy, PartialEq)]
pub enum Clock {
    /// By their run timeouts.
    Hard,
    /// As history has it.
    Probable,
}

/// A job that the plan places, by indexes in the snapshot.
#[derive(Clone, Copy)]
pub struct Placed {
    pub group: usize,
    pub team: usize,
    pub cluster: usize,
}

/// A job that the plan keeps room for.
#[derive(Clone)]
pub struct Kept {
    pub group: usize,
    pub team: usize,
    pub cluster: usize,
    pub start: Timestamp,
    /// When it has run for its whole run timeout.
    pub end: Timestamp,
    pub request: Amounts,
}

/// What is to come if everything runs as long as it may.
pub struct Future<'w, 'a> {
    pub world: &'w World<'a>,
    pub placed: Vec<Placed>,
    pub kept: Vec<Kept>,
    /// Open attempts that this plan asks to stop.
    pub victims: BTreeSet<JobId>,
}

impl<'w, 'a> Future<'w, 'a> {
    pub fn new(world: &'w World<'a>, plan: &Plan) -> Self {
        Self {
            world,
            placed: Vec::new(),
            kept: plan.reservations.iter().filter_map(|r| kept(world, r)).collect(),
            victims: plan.preemptions.iter().map(|p| p.victim).collect(),
        }
    }

    /// When an open attempt ends. `stopped`: what this plan asks to stop stops.
    fn end(&self, r: &Running, clock: Clock, stopped: bool) -> Timestamp {
        let end = if clock == Clock::Hard { r.ends_by } else { r.expected_end };
        let leaves = r.leaving || (stopped && self.victims.contains(&r.job));
        if leaves { end.min(self.world.now.plus(GRACE)) } else { end }
    }

    /// What is in use at a time of what is open and placed.
    pub fn load_at(&self, at: Timestamp, clock: Clock, stopped: bool) -> Load {
        let World { snapshot, now, .. } = self.world;
        let mut load = self.world.load();
        for r in &snapshot.running {
            let place = (self.world.team(&r.team), cluster_of(self.world, &r.cluster));
            if let (Some(team), Some(cluster)) = place
                && self.end(r, clock, stopped) <= at
            {
                load.change(team, cluster, &amounts(&r.request), -1);
            }
        }
        for p in &self.placed {
            if now.plus(snapshot.groups[p.group].run_timeout) > at {
                load.change(p.team, p.cluster, &amounts(&snapshot.groups[p.group].request), 1);
            }
        }
        load
    }

    /// Whether a reserved job can start when it was promised to, beside the others that run by then.
    pub fn can_start(&self, kept: usize) -> bool {
        let k = &self.kept[kept];
        let mut load = self.load_at(k.start, Clock::Hard, true);
        for (i, other) in self.kept.iter().enumerate() {
            if i != kept && other.start <= k.start && k.start < other.end {
                load.change(other.team, other.cluster, &other.request, 1);
            }
        }
        self.world.fits(&load, k.team, k.cluster, &k.request)
    }

    /// The reserved job that this one more would delay, if any: an index in `kept`.
    pub fn delayed_by(&mut self, more: Placed) -> Option<usize> {
        let could: Vec<usize> = (0..self.kept.len()).filter(|k| self.can_start(*k)).collect();
        self.placed.push(more);
        let delayed = could.into_iter().find(|k| !self.can_start(*k));
        self.placed.pop();
        delayed
    }

    /// The earliest time at which one job of the group could start on the cluster and run through, beside what is
    /// open and the reserved jobs before `before`. At `worst`, those hold their room from now on, always, and what
    /// this plan stops goes on.
    pub fn earliest(
        &self,
        group: usize,
        cluster: usize,
        clock: Clock,
        before: usize,
        worst: bool,
    ) -> Option<Timestamp> {
        let World { snapshot, now, .. } = self.world;
        let g = &snapshot.groups[group];
        let (team, request) = (self.world.team(&g.team)?, amounts(&g.request));
        let kept = &self.kept[..before];
        let ends = snapshot.running.iter().map(|r| self.end(r, clock, !worst));
        let placed = self.placed.iter().map(|p| now.plus(snapshot.groups[p.group].run_timeout));
        let ends = ends.chain(placed).chain(kept.iter().map(|k| k.end));
        let times: BTreeSet<Timestamp> = ends.chain([*now]).filter(|t| t >= now).collect();
        let fits_at = |at: Timestamp| {
            let mut load = self.load_at(at, clock, !worst);
            for k in kept.iter().filter(|k| worst || (k.start <= at && at < k.end)) {
                load.change(k.team, k.cluster, &k.request, 1);
            }
            self.world.fits(&load, team, cluster, &request)
        };
        times.into_iter().find(|start| {
            let end = start.plus(g.run_timeout);
            let mut meanwhile = kept.iter().map(|k| k.start).filter(|s| s > start && *s < end);
            fits_at(*start) && meanwhile.all(fits_at)
        })
    }
}

pub fn cluster_of(world: &World, id: &yard_domain::ClusterId) -> Option<usize> {
    world.snapshot.clusters.iter().position(|c| c.cluster.id == *id)
}

pub fn kept(world: &World, r: &Reservation) -> Option<Kept> {
    let group = world.snapshot.groups.iter().position(|g| g.team == r.team && g.shape == r.shape)?;
    let g = &world.snapshot.groups[group];
    Some(Kept {
        group,
        team: world.team(&r.team)?,
        cluster: cluster_of(world, &r.cluster)?,
        start: r.start_by,
        end: r.start_by.plus(g.run_timeout),
        request: amounts(&g.request),
    })
}

/// The groups whose first job is the first of its team and passes the hard rules somewhere, but fits nowhere now, or has
/// been promised room before; owners before borrowers, and of each the longest waiting first. With each, whether it fits nowhere.
pub fn waiting_heads(world: &World) -> Vec<(usize, bool)> {
    let load = world.load();
    let heads = (0..world.snapshot.teams.len()).filter_map(|t| head_of(world, t));
    let mut waiting: Vec<(usize, bool)> = heads
        .filter_map(|head| {
            let g = &world.snapshot.groups[head];
            let clusters = world.admissible(g);
            let team = world.team(&g.team).unwrap();
            let blocked = !clusters.iter().any(|c| world.fits(&load, team, *c, &amounts(&g.request)));
            (!clusters.is_empty() && (blocked || world.promised.contains(&head))).then_some((head, blocked))
        })
        .collect();
    waiting.sort_by_key(|(head, _)| place_of(world, &load, *head));
    waiting
}

/// Heads are given room in this order: those that need not borrow first, and of each the longest waiting.
pub fn place_of(world: &World, load: &Load, head: usize) -> (bool, i64) {
    let group = &world.snapshot.groups[head];
    let path = world.path(world.team(&group.team).unwrap());
    let below_top = &path[..path.len() - 1];
    let over = |node: &usize| would_be_over(world, load, *node, &amounts(&group.request));
    (below_top.iter().any(over), group.orders[0].accepted_at_micros())
}

/// The heads among those that an earlier plan kept room for.
pub fn heads_of(world: &World, kept: &[Reservation]) -> BTreeSet<usize> {
    let heads = (0..world.snapshot.teams.len()).filter_map(|t| head_of(world, t));
    let is_kept = |head: &usize| {
        let g = &world.snapshot.groups[*head];
        kept.iter().any(|r| r.team == g.team && r.shape == g.shape && r.order == g.orders[0])
    };
    heads.filter(is_kept).collect()
}

/// The placements at the beginning of a plan that are of heads which were promised room.
pub fn honoured(world: &World, plan: &Plan) -> Vec<Placed> {
    let mut honoured: Vec<Placed> = Vec::new();
    for p in &plan.placements {
        let group = world.snapshot.groups.iter().position(|g| g.team == p.team && g.shape == p.shape);
        let (Some(group), Some(cluster)) = (group, cluster_of(world, &p.cluster)) else { break };
        if !world.promised.contains(&group) || honoured.iter().any(|h| h.group == group) {
            break;
        }
        honoured.push(Placed { group, team: world.team(&p.team).unwrap(), cluster });
    }
    honoured
}

/// The group of a team's first job.
pub fn head_of(world: &World, team: usize) -> Option<usize> {
    let groups = &world.snapshot.groups;
    let own = (0..groups.len()).filter(|g| groups[*g].team == world.snapshot.teams[team].team.id);
    own.min_by_key(|g| groups[*g].orders[0])
}
