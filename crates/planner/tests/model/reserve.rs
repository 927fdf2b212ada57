//! Reservations: what is in use at a time to come, when a job could start at the earliest, and who delays whom.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use yard_domain::{JobId, Shape, TeamId, Timestamp};
use yard_planner::{Placement, Plan, Reservation, Running};

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
#[derive(Debug, Clone)]
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
    /// Open attempts that this plan asks to stop, with the group of the head that they make room for.
    pub victims: BTreeMap<JobId, Option<usize>>,
}

/// What is done for a head that waits: what was kept for it (where it stood among others), and who was stopped for it.
struct Done {
    kept: Option<(usize, Kept)>,
    victims: BTreeMap<JobId, Option<usize>>,
}

impl<'w, 'a> Future<'w, 'a> {
    pub fn new(world: &'w World<'a>, plan: &Plan) -> Self {
        Self {
            world,
            placed: Vec::new(),
            kept: plan.reservations.iter().filter_map(|r| kept(world, r)).collect(),
            victims: plan
                .preemptions
                .iter()
                .map(|p| (p.victim, group_of(world, &p.for_team, p.for_shape)))
                .collect(),
        }
    }

    /// As it is to be seen when it is decided about a head: these promised heads take their room, this is kept for others
    /// before it, and nobody has been stopped but for them.
    pub fn so_far(world: &'w World<'a>, plan: &Plan, due: &[Placed], kept: &[Kept]) -> Self {
        let Self { mut victims, .. } = Self::new(world, plan);
        victims.retain(|_, group| kept.iter().any(|k| Some(k.group) == *group));
        Self { world, placed: due.to_vec(), kept: kept.to_vec(), victims }
    }

    /// Takes away what is done for a group's head.
    fn give_up(&mut self, group: usize) -> Done {
        let at = self.kept.iter().position(|k| k.group == group);
        let kept = at.map(|at| (at, self.kept.remove(at)));
        let victims = self.victims.extract_if(.., |_, of| *of == Some(group)).collect();
        Done { kept, victims }
    }

    /// Puts it back.
    fn take_up(&mut self, done: Done) {
        if let Some((at, kept)) = done.kept {
            self.kept.insert(at, kept);
        }
        self.victims.extend(done.victims);
    }

    /// When an open attempt ends.
    fn end(&self, r: &Running, clock: Clock) -> Timestamp {
        let end = if clock == Clock::Hard { r.ends_by } else { r.expected_end };
        let leaves = r.leaving || self.victims.contains_key(&r.job);
        if leaves { end.min(self.world.now.plus(GRACE)) } else { end }
    }

    /// What is in use at a time of what is open and placed.
    pub fn load_at(&self, at: Timestamp, clock: Clock) -> Load {
        let snapshot = self.world.snapshot;
        let mut load = self.world.load();
        for r in &snapshot.running {
            let place = (self.world.team(&r.team), cluster_of(self.world, &r.cluster));
            if let (Some(team), Some(cluster)) = place
                && self.end(r, clock) <= at
            {
                load.change(team, cluster, &amounts(&r.request), -1);
            }
        }
        for p in &self.placed {
            if self.end_of_placed(p, clock) > at {
                load.change(p.team, p.cluster, &amounts(&snapshot.groups[p.group].request), 1);
            }
        }
        load
    }

    /// Whether a reserved job can start when it was promised to, beside the others that run by then.
    pub fn can_start(&self, kept: usize) -> bool {
        let k = &self.kept[kept];
        let mut load = self.load_at(k.start, Clock::Hard);
        for (i, other) in self.kept.iter().enumerate() {
            if i != kept && other.start <= k.start && k.start < other.end {
                load.change(other.team, other.cluster, &other.request, 1);
            }
        }
        self.world.fits(&load, k.team, k.cluster, &k.request)
    }

    /// The reserved jobs that this one more would delay. If it is a head, it needs what is kept for it no more, and nobody
    /// is stopped for it: room that is there only because others stop for it is no reason to place it now.
    pub fn delayed_by(&mut self, more: Placed) -> Vec<Kept> {
        let could: Vec<usize> =
            (0..self.kept.len()).filter(|k| self.can_start(*k)).map(|k| self.kept[k].group).collect();
        let own = self.give_up(more.group);
        self.placed.push(more);
        let delayed =
            (0..self.kept.len()).filter(|k| could.contains(&self.kept[*k].group) && !self.can_start(*k));
        let delayed = delayed.map(|k| self.kept[k].clone()).collect();
        self.placed.pop();
        self.take_up(own);
        delayed
    }

    fn end_of_placed(&self, placed: &Placed, clock: Clock) -> Timestamp {
        let group = &self.world.snapshot.groups[placed.group];
        self.world.now.plus(if clock == Clock::Hard { group.run_timeout } else { group.expected_run })
    }

    /// The earliest time at which one job of the group could start on the cluster and run through, beside what is
    /// open, placed and kept.
    pub fn earliest(&self, group: usize, cluster: usize, clock: Clock) -> Option<Timestamp> {
        let World { snapshot, now, .. } = self.world;
        let g = &snapshot.groups[group];
        let (team, request) = (self.world.team(&g.team)?, amounts(&g.request));
        let ends = snapshot.running.iter().map(|r| self.end(r, clock));
        let placed = self.placed.iter().map(|p| self.end_of_placed(p, clock));
        let ends = ends.chain(placed).chain(self.kept.iter().map(|k| k.end));
        let times: BTreeSet<Timestamp> = ends.chain([*now]).filter(|t| t >= now).collect();
        let fits_at = |at: Timestamp| {
            let mut load = self.load_at(at, clock);
            for k in self.kept.iter().filter(|k| k.start <= at && at < k.end) {
                load.change(k.team, k.cluster, &k.request, 1);
            }
            self.world.fits(&load, team, cluster, &request)
        };
        times.into_iter().find(|start| {
            let end = start.plus(g.run_timeout);
            let mut meanwhile = self.kept.iter().map(|k| k.start).filter(|s| s > start && *s < end);
            fits_at(*start) && meanwhile.all(fits_at)
        })
    }
}

pub fn cluster_of(world: &World, id: &yard_domain::ClusterId) -> Option<usize> {
    world.snapshot.clusters.iter().position(|c| c.cluster.id == *id)
}

pub fn group_of(world: &World, team: &TeamId, shape: Shape) -> Option<usize> {
    world.snapshot.groups.iter().position(|g| g.team == *team && g.shape == shape)
}

pub fn placed_of(world: &World, p: &Placement) -> Option<Placed> {
    let group = group_of(world, &p.team, p.shape)?;
    Some(Placed { group, team: world.team(&p.team)?, cluster: cluster_of(world, &p.cluster)? })
}

pub fn kept(world: &World, r: &Reservation) -> Option<Kept> {
    let cluster = cluster_of(world, &r.cluster)?;
    kept_from(world, group_of(world, &r.team, r.shape)?, cluster, r.start_by)
}

/// What is kept for a group's head that is to start there and then.
pub fn kept_from(world: &World, group: usize, cluster: usize, start: Timestamp) -> Option<Kept> {
    let g = &world.snapshot.groups[group];
    let (team, end) = (world.team(&g.team)?, start.plus(g.run_timeout));
    Some(Kept { group, team, cluster, start, end, request: amounts(&g.request) })
}

/// The heads, of all that pass the hard rules somewhere, in the order in which they are given room. With each, whether
/// it waits for room: it fits nowhere now, or it was promised room firmly. All others have their turn.
pub fn heads(world: &World) -> Vec<(usize, bool)> {
    let load = world.load();
    let heads = (0..world.snapshot.teams.len()).filter_map(|t| head_of(world, t));
    let mut heads: Vec<(usize, bool)> = heads
        .filter_map(|head| {
            let g = &world.snapshot.groups[head];
            let clusters = world.admissible(g);
            let team = world.team(&g.team).unwrap();
            let blocked = !clusters.iter().any(|c| world.fits(&load, team, *c, &amounts(&g.request)));
            let firm = world.is_firm(head);
            (!clusters.is_empty()).then_some((head, blocked || firm))
        })
        .collect();
    heads.sort_by_key(|(head, _)| place_of(world, &load, *head));
    heads
}

/// Heads are given room in this order: owners, which stay within what their team is guaranteed (or that has nobody to
/// borrow from), before borrowers, and of each the longest waiting.
pub fn place_of(world: &World, load: &Load, head: usize) -> (bool, i64) {
    let group = &world.snapshot.groups[head];
    let team = world.team(&group.team).unwrap();
    let could_borrow = world.nodes[team].parent.is_some();
    let borrows = could_borrow && would_be_over(world, load, team, &amounts(&group.request));
    (borrows, group.orders[0].accepted_at_micros())
}

/// The group of a team's first job.
pub fn head_of(world: &World, team: usize) -> Option<usize> {
    let groups = &world.snapshot.groups;
    let own = (0..groups.len()).filter(|g| groups[*g].team == world.snapshot.teams[team].team.id);
    own.min_by_key(|g| groups[*g].orders[0])
}
