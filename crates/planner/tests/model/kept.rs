//! What is wrong with who is kept room, and from when.

use yard_domain::Timestamp;
use yard_planner::{Plan, Reservation};

use super::check::{Violation, could_place, preempting, violation};
use super::reserve::{Clock, Future, GRACE, Kept, Placed, heads, kept, kept_from, place_of, placed_of};
use super::world::{World, amounts};

/// What was decided before anybody's turn came, in order.
#[derive(Default)]
pub struct Decided {
    /// Heads that take room that was promised to them.
    pub due: Vec<Placed>,
    /// What is kept for others. Also for a head that has its turn all the same, because room was made for a later one: that
    /// keeps nothing in the end.
    pub kept: Vec<Kept>,
}

/// Goes through the heads in the order in which they are given room.
pub fn check(world: &World, plan: &Plan) -> (Vec<Violation>, Decided) {
    let (mut found, mut decided) = (Vec::new(), Decided::default());
    let waiting = heads(world).into_iter().filter(|(_, waits)| *waits);
    // Oldest first, whoever can be given a start at all, until there are enough. Those that wait for others to stop are
    // not among the counted ones, nor those whose promised room is there now, but not their turn: the pass is full.
    let (mut given, mut counted) = (0, 0);
    for (head, _) in waiting {
        let g = &world.snapshot.groups[head];
        let who = || format!("{} {:?}", g.team, g.shape);
        let stops = preempting(plan, g);
        let held = plan.reservations.get(given).filter(|r| (&r.team, r.shape) == (&g.team, g.shape));
        let has_room = world.is_firm(head) && could_now(&mut decided.future(world, plan), head);
        if has_room && decided.due.len() < world.policy.placements_max as usize {
            let next = plan.placements.get(decided.due.len()).and_then(|p| placed_of(world, p));
            match next.filter(|p| p.group == head) {
                Some(placed) => decided.due.push(placed),
                None => found.push(violation("promise.broken", who())),
            }
            continue;
        }
        let counts = counted < world.policy.reservations_max;
        let so_far = decided.future(world, plan);
        match held {
            None if has_room => found.push(violation("promise.lost", who())),
            None if stops => found.push(violation("reserve.preempting", who())),
            None => {
                let missing = if counts { must_be_kept(so_far, head) } else { None };
                if missing.is_some()
                    && !plan.placements.iter().any(|p| (&p.team, p.shape) == (&g.team, g.shape))
                {
                    found.push(violation("reserve.missing", who()));
                }
                counted += u32::from(missing.is_some());
                decided.kept.extend(missing);
            }
            Some(r) if !(stops || has_room || counts) => {
                found.push(violation("reserve.limit", format!("{r:?}")));
            }
            Some(r) => {
                let why = if stops {
                    Why::Stops
                } else if has_room {
                    Why::HasRoom
                } else {
                    Why::Waits
                };
                found.extend(check_one(so_far, plan, head, r, why));
            }
        }
        given += usize::from(held.is_some());
        decided.kept.extend(held.and_then(|r| kept(world, r)));
        counted += u32::from(held.is_some() && !stops && !has_room);
    }
    if given < plan.reservations.len() {
        found.push(violation("reserve.undue", format!("{:?}", plan.reservations[given])));
    }
    (found, decided)
}

/// Why room is kept.
#[derive(Clone, Copy, PartialEq)]
enum Why {
    Waits,
    Stops,
    HasRoom,
}

impl Decided {
    fn future<'w, 'a>(&self, world: &'w World<'a>, plan: &Plan) -> Future<'w, 'a> {
        Future::so_far(world, plan, &self.due, &self.kept)
    }
}

/// Whether a head fits now, beside what is kept for those before it and what they take.
fn could_now(future: &mut Future, head: usize) -> bool {
    let world = future.world;
    let mut load = world.load();
    for p in &future.placed {
        load.change(p.team, p.cluster, &amounts(&world.snapshot.groups[p.group].request), 1);
    }
    could_place(world, &load, future, head, 0)
}

/// The clusters where a head can start first, and when; only the one that it was promised, if that is among them and
/// nothing there is late.
fn first(future: &Future, head: usize) -> Option<(Timestamp, Vec<usize>)> {
    let clusters = future.world.admissible(&future.world.snapshot.groups[head]).into_iter();
    let starts: Vec<_> = clusters.filter_map(|c| Some((future.earliest(head, c, Clock::Hard)?, c))).collect();
    let start = starts.iter().map(|(start, _)| *start).min()?;
    let there: Vec<usize> = starts.into_iter().filter(|(at, _)| *at == start).map(|(_, c)| c).collect();
    let promised = future.world.promised.get(&head).and_then(|promised| promised.cluster);
    let stays = promised.filter(|cluster| there.contains(cluster) && start > future.world.now);
    Some((start, stays.map_or(there, |cluster| vec![cluster])))
}

/// The room that must be kept for a head: if there is a start that can be promised, and that holds up nobody older.
fn must_be_kept(mut future: Future, head: usize) -> Option<Kept> {
    let (start, mut clusters) = first(&future, head)?;
    // Of several, the one where it will probably start first.
    clusters.sort_by_key(|c| future.earliest(head, *c, Clock::Probable));
    let must = clusters.iter().all(|cluster| !holds_up(&mut future, head, *cluster, start));
    kept_from(future.world, head, clusters[0], start).filter(|_| must)
}

/// Whether room kept for this head would hold up an older one that fits now: then there is none kept, as what is kept
/// holds up only what came later.
fn holds_up(future: &mut Future, head: usize, cluster: usize, start: Timestamp) -> bool {
    let (world, load) = (future.world, future.world.load());
    let place = |g: usize| place_of(world, &load, g);
    let older: Vec<usize> = heads(world)
        .into_iter()
        .filter(|(h, waits)| !waits && place(*h) < place(head) && could_now(future, *h))
        .map(|(h, _)| h)
        .collect();
    future.kept.extend(kept_from(world, head, cluster, start));
    let held = older.into_iter().any(|h| !could_now(future, h));
    future.kept.pop();
    held
}

/// One reservation. Where others stop for it, it starts when they have; where its room is there, now; else it is the
/// earliest that there is.
fn check_one(mut future: Future, plan: &Plan, head: usize, r: &Reservation, why: Why) -> Vec<Violation> {
    let world = future.world;
    let mut found = Vec::new();
    let Some(k) = kept(world, r) else {
        return vec![violation("reserve.unknown", format!("{r:?}"))];
    };
    let group = &world.snapshot.groups[head];
    if r.order != group.orders[0] {
        found.push(violation("reserve.head", format!("{r:?} is not the first of its group")));
    }
    if !world.admissible(group).contains(&k.cluster) {
        found.push(violation("reserve.hard_rule", format!("{r:?}")));
    }
    if plan.placements.iter().any(|p| (&p.team, p.shape) == (&r.team, r.shape)) {
        found.push(violation("reserve.taken", format!("{r:?} is placed")));
    }
    if why == Why::Stops {
        let all = Future::new(world, plan).victims;
        future.victims.extend(all.into_iter().filter(|(_, of)| *of == Some(head)));
    }
    let earliest = first(&future, head);
    let (right, rule) = match why {
        Why::Stops => {
            let soon = world.now.plus(GRACE);
            (r.start_by >= world.now && r.start_by <= soon, "reserve.preempting")
        }
        Why::HasRoom => (r.start_by == world.now, "reserve.start"),
        Why::Waits => {
            let right =
                earliest.as_ref().is_some_and(|(at, there)| *at == r.start_by && there.contains(&k.cluster));
            (right, "reserve.start")
        }
    };
    if !right {
        found.push(violation(rule, format!("{r:?}: the earliest is {earliest:?}")));
    }
    if why != Why::HasRoom && holds_up(&mut future, head, k.cluster, k.start) {
        found.push(violation("reserve.holds_up", format!("{r:?}")));
    }
    // Beside earlier reservations, which probably start earlier too, it is only bounded.
    let expected = future.earliest(head, k.cluster, Clock::Probable);
    let wrong = why == Why::Waits && future.kept.is_empty() && expected != Some(r.expected);
    if wrong || r.expected > r.start_by || r.expected < world.now {
        found.push(violation("reserve.expected", format!("{r:?}: the earliest is {expected:?}")));
    }
    found
}
