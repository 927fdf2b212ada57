//! What is wrong with a plan.

use std::fmt;

use yard_domain::{QuotaOwner, QuotaShortage, Timestamp};
use yard_planner::{GroupRefusal, Hold, Plan, Policy, Refusal, Reservation, Snapshot};

use super::order::Moment;
use super::preempt;
use super::reserve::{self, Clock, Future, GRACE, Kept, Placed, cluster_of, kept, waiting_heads};
use super::world::{Load, World, amounts, hard};

/// A rule that a plan breaks.
#[derive(Debug, Clone, PartialEq)]
pub struct Violation {
    pub rule: &'static str,
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.detail)
    }
}

pub fn violation(rule: &'static str, detail: String) -> Violation {
    Violation { rule, detail }
}

/// Everything that is wrong with a plan made without knowledge of earlier ones; nothing, if it is as agreed.
pub fn check(snapshot: &Snapshot, policy: &Policy, now: Timestamp, plan: &Plan) -> Vec<Violation> {
    check_after(snapshot, policy, now, plan, &[])
}

/// The same of a plan made after one in which this room was promised: heads that were promised room may start first,
/// whoever's turn it is.
pub fn check_after(
    snapshot: &Snapshot,
    policy: &Policy,
    now: Timestamp,
    plan: &Plan,
    promised: &[Reservation],
) -> Vec<Violation> {
    let mut world = World::new(snapshot, policy, now);
    world.promised = reserve::heads_of(&world, promised);
    let world = world;
    let mut future = Future::new(&world, plan);
    let mut found = check_reservations(&world, plan);
    let (load, placed) = replay(&world, plan, &mut future, &mut found);
    for k in 0..future.kept.len() {
        if !future.can_start(k) {
            found.push(violation("reserve.delayed", format!("{:?}", plan.reservations.get(k))));
        }
    }
    let mut rest = Rest { world: &world, plan, load: &load, future: &mut future };
    for (g, placed) in placed.iter().enumerate() {
        found.extend(rest.check(g, *placed));
    }
    found.extend(preempt::check(&world, plan, &load));
    found
}

/// Places one job after the other, in the plan's order; each must be allowed at its time, and it must be its turn.
fn replay(world: &World, plan: &Plan, future: &mut Future, found: &mut Vec<Violation>) -> (Load, Vec<usize>) {
    let snapshot = world.snapshot;
    let mut load = world.load();
    let mut placed = vec![0; snapshot.groups.len()];
    if plan.placements.len() > world.policy.placements_max as usize {
        found.push(violation("place.limit", format!("{} placements", plan.placements.len())));
    }
    for p in &plan.placements {
        let group = snapshot.groups.iter().position(|g| g.team == p.team && g.shape == p.shape);
        let (Some(group), Some(cluster)) = (group, cluster_of(world, &p.cluster)) else {
            found.push(violation("place.unknown", format!("{p:?}")));
            continue;
        };
        let g = &snapshot.groups[group];
        let more = Placed { group, team: world.team(&g.team).unwrap(), cluster };
        let request = amounts(&g.request);
        if placed[group] == g.orders.len() {
            found.push(violation("place.unseen", format!("{p:?}")));
        }
        for code in hard(g, &snapshot.clusters[cluster].cluster) {
            found.push(violation("place.hard_rule", format!("{code}: {p:?}")));
        }
        if !world.quota_short(&load, more.team, &request).is_empty() {
            found.push(violation("place.quota", format!("{p:?}")));
        }
        if !world.room_short(&load, cluster, &request).is_empty() {
            found.push(violation("place.capacity", format!("{p:?}")));
        }
        if let Some(k) = future.delayed_by(more) {
            found.push(violation("place.delays", format!("{p:?} delays {:?}", plan.reservations[k])));
        }
        let next = {
            let future = std::cell::RefCell::new(&mut *future);
            let open = |g: usize| could_place(world, &load, &mut future.borrow_mut(), g, placed[g]);
            Moment { world, load: &load, placed: &placed, open: &open }.next()
        };
        let promised = future.placed.len() < reserve::honoured(world, plan).len();
        if !next.contains(&group) && !promised {
            let named: Vec<_> =
                next.iter().map(|g| (&snapshot.groups[*g].team, snapshot.groups[*g].shape)).collect();
            found.push(violation("place.order", format!("{p:?}, but it was the turn of {named:?}")));
        }
        load.change(more.team, cluster, &request, 1);
        future.placed.push(more);
        placed[group] += 1;
    }
    (load, placed)
}

/// Brute force: is there a cluster for one more job of the group?
fn could_place(world: &World, load: &Load, future: &mut Future, group: usize, placed: usize) -> bool {
    let g = &world.snapshot.groups[group];
    let team = world.team(&g.team).unwrap();
    placed < g.orders.len()
        && world.admissible(g).into_iter().any(|cluster| {
            world.fits(load, team, cluster, &amounts(&g.request))
                && future.delayed_by(Placed { group, team, cluster }).is_none()
        })
}

/// Who holds a reservation, from when.
fn check_reservations(world: &World, plan: &Plan) -> Vec<Violation> {
    let mut found = Vec::new();
    // Whoever was promised room and takes it is placed first; who else is placed comes after the reservations.
    let best = Future::new(world, plan);
    let mut worst = Future::new(world, plan);
    worst.placed = reserve::honoured(world, plan);
    let start_of = |group: usize, before: usize, at_worst: bool| {
        let clusters = world.admissible(&world.snapshot.groups[group]);
        let future = if at_worst { &worst } else { &best };
        clusters.into_iter().filter_map(|c| future.earliest(group, c, Clock::Hard, before, at_worst)).min()
    };
    // Oldest first, whoever can be given a start at all, until there are enough. Those that wait for others to stop are
    // not among the counted ones, nor do those whose promised room is there now, but not their turn: the pass is full.
    let full = plan.placements.len() >= world.policy.placements_max as usize;
    let (mut given, mut counted) = (0, 0);
    for (head, blocked) in waiting_heads(world) {
        let g = &world.snapshot.groups[head];
        let stops = preempting(plan, g);
        let held = plan.reservations.get(given).filter(|r| (&r.team, r.shape) == (&g.team, g.shape));
        let has_room =
            full && world.promised.contains(&head) && held.is_some_and(|r| r.start_by == world.now);
        let due = stops || has_room || counted < world.policy.reservations_max;
        match held {
            None if stops => found.push(violation("reserve.preempting", format!("{} {:?}", g.team, g.shape))),
            None => {
                let start = if blocked && due { start_of(head, given, true) } else { None };
                if start.is_some() && !holds_up(world, plan, head, given) {
                    found.push(violation("reserve.missing", format!("for {} {:?}", g.team, g.shape)));
                }
            }
            Some(r) if !due => found.push(violation("reserve.limit", format!("{r:?}"))),
            Some(r) if stops => {
                let soon = world.now.plus(GRACE);
                if r.start_by < world.now || r.start_by > soon || r.expected > r.start_by {
                    found.push(violation("reserve.preempting", format!("{r:?}")));
                }
            }
            Some(r) => {
                let (least, most) = (start_of(head, given, false), start_of(head, given, true));
                found.extend(check_start(world, [&best, &worst], r, given, [least, most]));
            }
        }
        given += usize::from(held.is_some());
        counted += u32::from(held.is_some() && !stops && !has_room);
    }
    if given < plan.reservations.len() {
        found.push(violation("reserve.undue", format!("{:?}", plan.reservations[given])));
    }
    found
}

/// Whether room kept for this head, after the first `given` reservations, could hold up an older head that fits now:
/// then there is none kept, as what is kept holds up only what came later.
fn holds_up(world: &World, plan: &Plan, head: usize, given: usize) -> bool {
    let mut future = Future::new(world, plan);
    future.kept.truncate(given);
    // Whether before or after others were stopped for later heads: the answer may have been given before.
    let victims = std::mem::take(&mut future.victims);
    holds_up_in(world, &mut future, head, given) || {
        future.victims = victims;
        holds_up_in(world, &mut future, head, given)
    }
}

fn holds_up_in(world: &World, future: &mut Future, head: usize, given: usize) -> bool {
    let load = world.load();
    let group = &world.snapshot.groups[head];
    let starts: Vec<_> = world
        .admissible(group)
        .into_iter()
        .filter_map(|c| Some((future.earliest(head, c, Clock::Hard, given, false)?, c)))
        .collect();
    let older: Vec<usize> = (0..world.snapshot.teams.len())
        .filter_map(|t| reserve::head_of(world, t))
        .filter(|h| {
            let place = |g: usize| reserve::place_of(world, &load, g);
            place(*h) < place(head) && could_place(world, &load, future, *h, 0)
        })
        .collect();
    starts.into_iter().any(|(start, cluster)| {
        let end = start.plus(group.run_timeout);
        let (team, request) = (world.team(&group.team).unwrap(), amounts(&group.request));
        future.kept.push(Kept { group: head, team, cluster, start, end, request });
        let held = older.iter().any(|h| !could_place(world, &load, future, *h, 0));
        future.kept.pop();
        held
    })
}

fn preempting(plan: &Plan, g: &yard_planner::Group) -> bool {
    let mine = |r: &&GroupRefusal| r.team == g.team && r.shape == g.shape;
    plan.refusals.iter().find(mine).is_some_and(|r| matches!(r.hold, Hold::Preempting { .. }))
}

/// The start must be the earliest that there is. Beside earlier reservations it lies between the earliest with those
/// counted while they run and the earliest with them counted for ever.
fn check_start(
    world: &World,
    [best, worst]: [&Future; 2],
    r: &Reservation,
    before: usize,
    [least, most]: [Option<Timestamp>; 2],
) -> Vec<Violation> {
    let mut found = Vec::new();
    let Some(k) = kept(world, r) else {
        return vec![violation("reserve.unknown", format!("{r:?}"))];
    };
    let group = &world.snapshot.groups[k.group];
    if r.order != group.orders[0] {
        found.push(violation("reserve.head", format!("{r:?} is not the first of its group")));
    }
    if !world.admissible(group).contains(&k.cluster) {
        found.push(violation("reserve.hard_rule", format!("{r:?}")));
    }
    if least.is_none_or(|least| r.start_by < least) || most.is_some_and(|most| r.start_by > most) {
        let least = least.map(|t| t.to_string());
        found.push(violation("reserve.start", format!("{r:?}: the earliest is {least:?}")));
    }
    // Beside earlier reservations, which probably start earlier too, it is only bounded.
    let expected = best.earliest(k.group, k.cluster, Clock::Probable, before, false);
    let latest = worst.earliest(k.group, k.cluster, Clock::Probable, before, true);
    let said = Some(r.expected);
    let wrong = before == 0 && (said < expected || said > latest);
    if wrong || r.expected > r.start_by || r.expected < world.now {
        let expected = expected.map(|t| t.to_string());
        found.push(violation("reserve.expected", format!("{r:?}: the earliest is {expected:?}")));
    }
    found
}

/// What is to be said of the groups once everything is placed.
struct Rest<'r, 'w, 'a> {
    world: &'w World<'a>,
    plan: &'r Plan,
    load: &'r Load,
    future: &'r mut Future<'w, 'a>,
}

impl Rest<'_, '_, '_> {
    fn check(&mut self, group: usize, placed: usize) -> Vec<Violation> {
        let g = &self.world.snapshot.groups[group];
        let of_group: Vec<&GroupRefusal> =
            self.plan.refusals.iter().filter(|r| r.team == g.team && r.shape == g.shape).collect();
        if of_group.len() != usize::from(placed < g.orders.len()) {
            let detail = format!("{} {:?}: {} refusals", g.team, g.shape, of_group.len());
            return vec![violation("refuse.count", detail)];
        }
        let mut found = Vec::new();
        for r in of_group {
            if r.hold == Hold::PassFull {
                if self.plan.placements.len() < self.world.policy.placements_max as usize {
                    found.push(violation("refuse.pass_full", "the pass is not full".to_owned()));
                }
                continue;
            }
            // Room that is there only because others are stopped for this very job is no reason to place it now.
            let all = self.future.victims.clone();
            let own = self.plan.preemptions.iter().filter(|p| p.for_team == g.team && p.for_shape == g.shape);
            for p in own {
                self.future.victims.remove(&p.victim);
            }
            let could = could_place(self.world, self.load, self.future, group, placed);
            self.future.victims = all;
            if could {
                found.push(violation("refuse.could_place", format!("{r:?}")));
            }
            found.extend(
                self.check_hold(group, r).map(|why| violation("refuse.hold", format!("{why}: {r:?}"))),
            );
            for (cluster, refusal) in &r.clusters {
                let why = self.check_refusal(group, cluster_of(self.world, cluster), refusal);
                found
                    .extend(why.map(|why| violation("refuse.cluster", format!("{why}: {cluster} in {r:?}"))));
            }
        }
        found
    }

    /// Why the hold is not the true one.
    fn check_hold(&mut self, group: usize, r: &GroupRefusal) -> Option<&'static str> {
        let g = &self.world.snapshot.groups[group];
        let team = self.world.team(&g.team).unwrap();
        let request = amounts(&g.request);
        let at_first = self.world.load();
        let quota_first = !self.world.quota_short(&at_first, team, &request).is_empty();
        match &r.hold {
            Hold::Quota(short) => self.check_quota(team, &request, short),
            Hold::Preempting { .. } | Hold::PassFull => None,
            _ if quota_first => Some("the quota was short from the start"),
            Hold::QuotaReserved { team: holder, start_by } => {
                let anywhere = self.world.admissible(g).into_iter();
                let mut delays =
                    anywhere.map(|cluster| self.delays(Placed { group, team, cluster }, holder, *start_by));
                (!delays.all(|d| d)).then_some("it would not delay that job by quota")
            }
            Hold::NoCluster => {
                let clusters: Vec<_> = r.clusters.iter().map(|(c, _)| c).collect();
                let every: Vec<_> = self.world.snapshot.clusters.iter().map(|c| &c.cluster.id).collect();
                (clusters != every).then_some("it does not speak of every cluster")
            }
        }
    }

    fn check_quota(
        &self,
        team: usize,
        request: &super::world::Amounts,
        said: &QuotaShortage,
    ) -> Option<&'static str> {
        let node = self.world.nodes.iter().position(|n| n.owner == said.owner)?;
        let name = &said.short.resource;
        let Some(ceiling) = self.world.ceiling(node, name) else { return Some("there is no such bound") };
        let left = |load: &Load| (ceiling - self.world.used(load, node, name)).max(0);
        let (least, most) = (left(self.load), left(&self.world.load()));
        let available = i128::from(said.short.available);
        if !self.world.path(team).contains(&node) {
            Some("that quota is not above the team")
        } else if request.get(name) != Some(&i128::from(said.short.requested)) {
            Some("that is not what it asks for")
        } else if available < least || available > most || available >= i128::from(said.short.requested) {
            Some("that much is not free")
        } else if matches!(said.owner, QuotaOwner::Cohort(_))
            && self.world.quota_short(&self.world.load(), team, request).iter().any(|(n, ..)| *n == team)
        {
            Some("the team's own quota was short from the start")
        } else {
            None
        }
    }

    /// Why the refusal of one cluster is not the true one.
    fn check_refusal(
        &mut self,
        group: usize,
        cluster: Option<usize>,
        refusal: &Refusal,
    ) -> Option<&'static str> {
        let Some(cluster) = cluster else { return Some("there is no such cluster") };
        let g = &self.world.snapshot.groups[group];
        let view = &self.world.snapshot.clusters[cluster];
        let hard = hard(g, &view.cluster);
        let room = self.world.room_short(self.load, cluster, &amounts(&g.request));
        match refusal {
            Refusal::Full(_) | Refusal::Reserved { .. } if !hard.is_empty() => {
                Some("a hard rule comes first")
            }
            Refusal::Full(short) => {
                let said = |(name, left): &(String, i128)| {
                    *name == short.resource && *left <= i128::from(short.available)
                };
                let asked = g.request.amount(&short.resource);
                let true_one = room.iter().any(said) && asked == short.requested && short.available < asked;
                (!true_one).then_some("that much is not missing")
            }
            Refusal::Reserved { team: holder, start_by } => {
                let more = Placed { group, team: self.world.team(&g.team).unwrap(), cluster };
                (!self.delays(more, holder, *start_by)).then_some("it would not delay that job")
            }
            hard_rule => {
                // Of what is wrong with the cluster's answers for the moment, any may be told.
                let passing = ["breaker_open", "not_seen_yet", "unreachable"];
                let code = hard_rule.code();
                let first = hard.first().copied().unwrap_or("none");
                let either = passing.contains(&code) && passing.contains(&first) && hard.contains(&code);
                // A cluster that does not answer is one whose capacity cannot be read.
                let unread = code == "unreachable" && first == "capacity_unknown" && hard.contains(&code);
                (code != first && !either && !unread).then_some("another rule comes first")
            }
        }
    }

    /// Whether one more job would delay the reserved job of that team.
    fn delays(&mut self, more: Placed, holder: &yard_domain::TeamId, start_by: Timestamp) -> bool {
        let world = self.world;
        let before: Vec<bool> = (0..self.future.kept.len()).map(|k| self.future.can_start(k)).collect();
        self.future.placed.push(more);
        let holds = |k: usize| {
            let kept = &self.future.kept[k];
            world.snapshot.teams[kept.team].team.id == *holder && kept.start == start_by
        };
        let delayed = (0..before.len()).any(|k| holds(k) && before[k] && !self.future.can_start(k));
        self.future.placed.pop();
        delayed
    }
}
