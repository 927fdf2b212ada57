//! What is wrong with a plan.

use std::fmt;

use yard_domain::{QuotaOwner, QuotaShortage, Timestamp};
use yard_planner::{Group, GroupRefusal, Hold, Plan, Policy, Refusal, Snapshot};

use super::order::Moment;
use super::promise::{self, Promise};
use super::reserve::{Future, Placed, cluster_of, placed_of};
use super::world::{Load, World, amounts, hard};
use super::{kept, preempt};

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
    check_after(snapshot, policy, now, plan, &mut Vec::new())
}

/// The same of a plan made after others that promised room; `promised` is brought to what is promised now.
pub fn check_after(
    snapshot: &Snapshot,
    policy: &Policy,
    now: Timestamp,
    plan: &Plan,
    promised: &mut Vec<Promise>,
) -> Vec<Violation> {
    let mut world = World::new(snapshot, policy, now);
    world.promised = promise::heads_of(&world, promised);
    let world = world;
    let mut future = Future::new(&world, plan);
    let (mut found, decided) = kept::check(&world, plan);
    let (load, placed) = replay(&world, plan, decided.due.len(), &mut future, &mut found);
    for k in 0..future.kept.len() {
        if !future.can_start(k) {
            found.push(violation("reserve.delayed", format!("{:?}", plan.reservations.get(k))));
        }
    }
    let mut rest = Rest { world: &world, plan, load: &load, future: &mut future };
    for (g, placed) in placed.iter().enumerate() {
        found.extend(rest.check(g, *placed));
    }
    found.extend(preempt::check(&world, plan, &decided, &load));
    *promised = promise::after(&world, plan, promised);
    found
}

/// Places one job after the other, in the plan's order; each must be allowed at its time, and it must be its turn, but for
/// the first `due`, which take room that was promised to them.
fn replay(
    world: &World,
    plan: &Plan,
    due: usize,
    future: &mut Future,
    found: &mut Vec<Violation>,
) -> (Load, Vec<usize>) {
    let snapshot = world.snapshot;
    let mut load = world.load();
    let mut placed = vec![0; snapshot.groups.len()];
    if plan.placements.len() > world.policy.placements_max as usize {
        found.push(violation("place.limit", format!("{} placements", plan.placements.len())));
    }
    for p in &plan.placements {
        let Some(more) = placed_of(world, p) else {
            found.push(violation("place.unknown", format!("{p:?}")));
            continue;
        };
        let Placed { group, cluster, .. } = more;
        let g = &snapshot.groups[group];
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
        for k in future.delayed_by(more) {
            found.push(violation("place.delays", format!("{p:?} delays {k:?}")));
        }
        let next = {
            let future = std::cell::RefCell::new(&mut *future);
            let open = |g: usize| could_place(world, &load, &mut future.borrow_mut(), g, placed[g]);
            Moment { world, load: &load, placed: &placed, open: &open }.next()
        };
        if !next.contains(&group) && future.placed.len() >= due {
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
pub fn could_place(world: &World, load: &Load, future: &mut Future, group: usize, placed: usize) -> bool {
    let g = &world.snapshot.groups[group];
    let team = world.team(&g.team).unwrap();
    placed < g.orders.len()
        && world.admissible(g).into_iter().any(|cluster| {
            world.fits(load, team, cluster, &amounts(&g.request))
                && future.delayed_by(Placed { group, team, cluster }).is_empty()
        })
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
            if could_place(self.world, self.load, self.future, group, placed) {
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
        let delayed = self.future.delayed_by(more);
        let teams = &self.world.snapshot.teams;
        delayed.iter().any(|kept| teams[kept.team].team.id == *holder && kept.start == start_by)
    }
}

/// Whether others have been asked to stop for the group's head.
pub fn preempting(plan: &Plan, g: &Group) -> bool {
    let mine = |r: &&GroupRefusal| r.team == g.team && r.shape == g.shape;
    plan.refusals.iter().find(mine).is_some_and(|r| matches!(r.hold, Hold::Preempting { .. }))
}
