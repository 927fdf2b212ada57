//! Promises: room kept by earlier plans, for which a head need not wait its turn once it is there.

use std::collections::BTreeMap;

use yard_domain::job::QueueOrder;
use yard_domain::{ClusterId, Shape, TeamId, Timestamp};
use yard_planner::Plan;

use super::check::preempting;
use super::reserve::{cluster_of, group_of, head_of};
use super::world::{World, amounts};

/// Room kept for a job that still waits.
#[derive(Debug, Clone)]
pub struct Promise {
    team: TeamId,
    shape: Shape,
    order: QueueOrder,
    /// Where it was kept last: it stays there, unless the job can start sooner elsewhere.
    cluster: ClusterId,
    /// Since when room has been kept for it.
    since: Timestamp,
    /// Its room had to gather, or others were stopped for it: it is honoured whatever its age.
    firm: bool,
}

/// What was promised to a head, as it is to be seen now.
#[derive(Debug, Clone, Copy)]
pub struct Promised {
    /// To be honoured at once: it had to gather, others were stopped for it, or it is as old as the job may run.
    pub firm: bool,
    /// Where, if that cluster is still there.
    pub cluster: Option<usize>,
}

/// The heads that were promised room.
pub fn heads_of(world: &World, promises: &[Promise]) -> BTreeMap<usize, Promised> {
    let heads = (0..world.snapshot.teams.len()).filter_map(|t| head_of(world, t));
    let promised = |head| {
        let promise = of(world, promises, head)?;
        let cluster = cluster_of(world, &promise.cluster);
        Some((head, Promised { firm: is_firm(world, head, promise), cluster }))
    };
    heads.filter_map(promised).collect()
}

fn of<'p>(world: &World, promises: &'p [Promise], head: usize) -> Option<&'p Promise> {
    let g = &world.snapshot.groups[head];
    promises.iter().find(|p| p.team == g.team && p.shape == g.shape && p.order == g.orders[0])
}

fn is_firm(world: &World, head: usize, promise: &Promise) -> bool {
    promise.firm || promise.since.plus(world.snapshot.groups[head].run_timeout) <= world.now
}

/// What is promised after a plan: what it keeps; and what was promised, has found room and still waits for its turn.
pub fn after(world: &World, plan: &Plan, before: &[Promise]) -> Vec<Promise> {
    let heads = (0..world.snapshot.teams.len()).filter_map(|t| head_of(world, t));
    let promise = |head: usize| {
        let g = &world.snapshot.groups[head];
        let earlier = of(world, before, head);
        let kept = plan.reservations.iter().find(|r| group_of(world, &r.team, r.shape) == Some(head));
        if let Some(r) = kept {
            let firm = earlier.is_some_and(|p| is_firm(world, head, p))
                || preempting(plan, g)
                || gathers(world, head, cluster_of(world, &r.cluster)?);
            let since = earlier.map_or(world.now, |p| p.since);
            let cluster = r.cluster.clone();
            return Some(Promise {
                team: g.team.clone(),
                shape: g.shape,
                order: g.orders[0],
                cluster,
                since,
                firm,
            });
        }
        let placed = plan.placements.iter().any(|p| group_of(world, &p.team, p.shape) == Some(head));
        let open = |p: &&Promise| !placed && !is_firm(world, head, p) && fits_now(world, head);
        earlier.filter(open).cloned()
    };
    heads.filter_map(promise).collect()
}

fn fits_now(world: &World, head: usize) -> bool {
    let g = &world.snapshot.groups[head];
    let (load, team, request) = (world.load(), world.team(&g.team).unwrap(), amounts(&g.request));
    world.admissible(g).into_iter().any(|c| world.fits(&load, team, c, &request))
}

/// Whether no single end on the cluster would make the head's room.
fn gathers(world: &World, head: usize, cluster: usize) -> bool {
    let g = &world.snapshot.groups[head];
    let (team, request) = (world.team(&g.team).unwrap(), amounts(&g.request));
    let there = world.snapshot.running.iter().filter(|r| cluster_of(world, &r.cluster) == Some(cluster));
    !there.into_iter().any(|r| {
        let mut load = world.load();
        if let Some(of) = world.team(&r.team) {
            load.change(of, cluster, &amounts(&r.request), -1);
        }
        world.fits(&load, team, cluster, &request)
    })
}
