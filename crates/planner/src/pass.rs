//! One pass: first what is kept for heads that fit nowhere, then turn by turn.

use std::collections::{HashMap, HashSet};

use yard_domain::resources::Shortage;
use yard_domain::{QuotaShortage, Timestamp};

use crate::board::{Board, ClusterRefusals};
use crate::caused::Caused;
use crate::dense::{Asks, NONE};
use crate::order::{Turn, Turns, mix};
use crate::pools::Pools;
use crate::preempt::{Search, Way};
use crate::reserve::{Ahead, Head, Keep, Keeps, Promise, Slot, Why};
use crate::score::Scorer;
use crate::{GroupRefusal, Hold, Placement, Plan, Policy, Preemption, Reservation, Snapshot};

/// A plan, and until when the same snapshot, policy and seed give the same.
pub(crate) struct Made {
    pub(crate) plan: Plan,
    pub(crate) holds_until: Timestamp,
    /// What is left where, for refusals of clusters.
    pub(crate) board: std::sync::Arc<Board>,
    /// What the next plan is to honour.
    pub(crate) promises: Vec<Promise>,
}

/// A [`Hold`] as numbers.
#[derive(Debug, Clone, Copy)]
enum Held {
    Quota { node: u32, resource: u32, available: u64 },
    QuotaReserved { keep: u32 },
    Preempting { cluster: u32, victims: u32 },
    NoCluster,
    PassFull,
}

/// How a head finds the world before anything is placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeadState {
    Fits,
    Blocked,
    /// Room by an earlier plan, and is not to be passed over by turns if it is firm.
    Promised(Before),
}

/// What an earlier plan promised a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Before {
    since: i64,
    firm: bool,
    /// Where, if that cluster is still known.
    cluster: Option<usize>,
}

pub(crate) struct Pass<'a> {
    snapshot: &'a Snapshot,
    policy: &'a Policy,
    promises: &'a [Promise],
    /// Promised before, not firmly, and fits now: its turn may come.
    open_promises: Vec<Promise>,
    now: i64,
    /// The last time at which every comparison with a time made so far comes out the same.
    holds_until: i64,
    pools: Pools<'a>,
    turns: Turns<'a>,
    scorer: Scorer<'a>,
    keeps: Keeps,
    /// Per shape: it fits nowhere, whoever's it is. Stays true: room only shrinks while a plan is made.
    nowhere: Vec<bool>,
    /// Per attempt: has been asked to stop.
    leaving: Vec<bool>,
    /// Per group: others stop for it, so many on that cluster.
    held: HashMap<u32, Held>,
    refused: Vec<(u32, Held)>,
    plan: Plan,
}

impl<'a> Pass<'a> {
    pub(crate) fn new(
        snapshot: &'a Snapshot,
        policy: &'a Policy,
        now: Timestamp,
        seed: u64,
        promises: &'a [Promise],
    ) -> Self {
        let dense = &snapshot.dense;
        let pools = Pools::new(dense);
        Self {
            snapshot,
            policy,
            promises,
            open_promises: Vec::new(),
            now: now.as_micros(),
            holds_until: i64::MAX,
            turns: Turns::new(dense, &pools, seed),
            pools,
            scorer: Scorer::new(snapshot, policy.scores, seed),
            keeps: Keeps::new(dense),
            nowhere: vec![false; dense.shapes.len()],
            leaving: dense.attempts.iter().map(|a| a.leaving).collect(),
            held: HashMap::new(),
            refused: Vec::new(),
            plan: Plan::default(),
        }
    }

    pub(crate) fn run(mut self) -> Made {
        self.keep_room();
        while self.plan.placements.len() < self.policy.placements_max as usize {
            let Some(turn) = self.turns.peek() else { break };
            self.take_turn(turn);
        }
        self.refuse_the_rest();
        self.finish()
    }

    /// Keeps room for the heads that fit nowhere now, the oldest first: where they start by themselves, or where
    /// others are stopped for them. What was promised room by an earlier plan and finds it now, takes it.
    fn keep_room(&mut self) {
        let mut heads = self.heads();
        // Owners before borrowers: else the room of a borrower that was stopped would be kept for its own, older job, and
        // another had to be stopped.
        heads.sort_by_cached_key(|(h, _)| (self.would_borrow(h), h.order.accepted_at_micros(), h.team));
        let mut older = Vec::new();
        let mut caused: Option<Caused> = None;
        let (mut kept, mut searches) = (0, self.policy.preemption.victims_max);
        for (head, state) in heads {
            let promised = match state {
                HeadState::Fits => {
                    older.push(head);
                    continue;
                }
                HeadState::Blocked => None,
                HeadState::Promised(before) => Some(before),
            };
            if promised.is_some_and(|before| before.firm) && self.honour(head) {
                continue;
            }
            let mut made = false;
            if self.may_preempt(head) && searches > 0 {
                searches -= 1;
                let caused = caused.get_or_insert_with(|| Caused::new(self.snapshot));
                made = self.preempt(head, &older, caused);
            }
            let there = promised.and_then(|before| before.cluster);
            if !made && kept < self.policy.reservations_max && self.reserve(head, there, &older) {
                made = true;
                kept += 1;
            }
            if made {
                self.promise(head, promised);
            }
        }
        self.take_due();
    }

    /// Promises what was kept last: firmly, if it was promised so before, others stop for it, or its room has to gather.
    fn promise(&mut self, head: Head, before: Option<Before>) {
        let Some(cluster) = self.keeps.list.last().map(|keep| keep.slot.cluster) else { return };
        let (since, firm) = before.map_or((self.now, false), |before| (before.since, before.firm));
        let gathers = self.ahead().gathers(head, cluster);
        if let Some(keep) = self.keeps.list.last_mut() {
            keep.since = since;
            keep.firm |= firm || gathers;
        }
    }

    /// The first job of each team that could run somewhere.
    fn heads(&mut self) -> Vec<(Head, HeadState)> {
        let dense = &self.snapshot.dense;
        let promises = self.promises;
        let promised: HashMap<&str, &Promise> =
            promises.iter().map(|promise| (promise.team.as_str(), promise)).collect();
        let mut heads = Vec::new();
        for (view, team) in self.snapshot.teams.iter().zip(0u32..) {
            let Some((order, group)) = dense.queue.row(team as usize).first().copied() else { continue };
            let shape = dense.group_shape[group as usize];
            let somewhere = self.fits_somewhere(shape);
            let could =
                dense.quota_could(team, shape) && (somewhere || dense.admissible(shape).next().is_some());
            if !could {
                continue;
            }
            let info = &dense.shapes[shape as usize];
            let promise = promised.get(view.team.id.as_str());
            let promise = promise.filter(|p| p.order == order && p.shape == info.shape);
            let firm_in = promise.map_or(0, |p| self.firm_in(p, info.run_timeout));
            let fits = somewhere && self.pools.quota_short(team, dense.asks(shape)).is_none();
            let state = match promise {
                Some(p) if fits && firm_in > 0 => {
                    self.open_promises.push((*p).clone());
                    HeadState::Fits
                }
                Some(p) => {
                    let cluster =
                        self.snapshot.clusters.binary_search_by(|c| c.cluster.id.cmp(&p.cluster)).ok();
                    HeadState::Promised(Before { since: p.since, firm: firm_in <= 0, cluster })
                }
                None if fits => HeadState::Fits,
                None => HeadState::Blocked,
            };
            heads.push((Head { team, group, shape, order }, state));
        }
        heads
    }

    /// How much longer turns may pass over a promise; not, if this is not above 0.
    fn firm_in(&mut self, promise: &Promise, run_timeout: i64) -> i64 {
        let firm_in = promise.since.saturating_add(run_timeout).saturating_sub(self.now);
        if promise.firm {
            return 0;
        }
        if firm_in > 0 {
            self.mind(firm_in - 1);
        }
        firm_in
    }

    /// Keeps room for a head, unless an older one that fits now would then fit no more: what is kept holds up only
    /// what came later.
    fn keep(&mut self, head: Head, slot: Slot, why: Why, older: &[Head]) -> bool {
        let ahead =
            Ahead { dense: &self.snapshot.dense, pools: &self.pools, leaving: &self.leaving, now: self.now };
        let before = self.keeps.clone();
        ahead.keep(&mut self.keeps, head, slot, why);
        let mut slack = i64::MAX;
        let holds_up = older.iter().any(|h| {
            self.fits_beside(&before, *h, &mut slack) && !self.fits_beside(&self.keeps, *h, &mut slack)
        });
        self.mind(slack);
        if holds_up {
            self.keeps = before;
        }
        !holds_up
    }

    /// Whether a head fits somewhere now, beside what is kept.
    fn fits_beside(&self, keeps: &Keeps, head: Head, slack: &mut i64) -> bool {
        let dense = &self.snapshot.dense;
        let asks = dense.asks(head.shape);
        let ends = self.now.saturating_add(dense.shapes[head.shape as usize].run_timeout);
        let mut free = |pool| keeps.blocker(pool, None, asks, ends, slack).is_none();
        dense.path(head.team).iter().all(|n| free(dense.node_pool(*n)))
            && dense.open(head.shape).iter().any(|c| self.pools.fits(*c as usize, asks) && free(*c as usize))
    }

    /// Keeps a head the room that it finds now, if that holds up nobody older.
    fn honour(&mut self, head: Head) -> bool {
        let dense = &self.snapshot.dense;
        let asks = dense.asks(head.shape);
        let ends = self.now.saturating_add(dense.shapes[head.shape as usize].run_timeout);
        let turn = Turn { group: head.group, team: head.team };
        let mut slack = i64::MAX;
        if self.held_by_quota(turn, None, asks, ends, &mut slack).is_some() {
            return false;
        }
        // What others take in this plan is not charged yet, and what should have ended by now may still be there.
        let keeps = &self.keeps;
        let ahead = Ahead { dense, pools: &self.pools, leaving: &self.leaving, now: self.now };
        let fits = |pool| asks.iter().all(|(r, a)| ahead.free_beside_due(keeps, pool, *r) >= *a);
        if !dense.path(head.team).iter().all(|n| fits(dense.node_pool(*n))) {
            return false;
        }
        let admits = |c| keeps.blocker(c, None, asks, ends, &mut slack).is_none() && fits(c);
        let job = mix(u64::from(head.team), head.order.0.cast_unsigned());
        let best = self.scorer.best(&self.pools, head.shape, job, admits);
        self.mind(slack);
        let Some(cluster) = best.map(crate::dense::ix) else { return false };
        let slot = Slot { cluster, start: self.now, expected: self.now };
        let ahead =
            Ahead { dense: &self.snapshot.dense, pools: &self.pools, leaving: &self.leaving, now: self.now };
        ahead.keep(&mut self.keeps, head, slot, Why::Due);
        self.holds_until = self.now;
        true
    }

    /// Places what was promised room and has found it: before all turns, so that it can't be lost any more.
    fn take_due(&mut self) {
        for keep in 0..self.keeps.list.len() {
            let Keep { head, slot, why, .. } = self.keeps.list[keep];
            if why != Why::Due {
                continue;
            }
            if self.plan.placements.len() < self.policy.placements_max as usize {
                self.plan.considered += 1;
                let turn = Turn { group: head.group, team: head.team };
                self.place(turn, slot.cluster as usize, Some(crate::dense::ix(keep)));
            } else {
                self.keeps.list[keep].why = Why::Waits;
            }
        }
    }

    /// Whether it would use more than the nominal quota of its team, if that is one that could borrow. What is in use in
    /// the cohorts above does not matter: that a sibling borrows makes no borrower of an owner.
    fn would_borrow(&self, head: &Head) -> bool {
        let dense = &self.snapshot.dense;
        let [team, _, ..] = dense.path(head.team) else { return false };
        let nominal = &dense.nominal[*team as usize * dense.width..][..dense.width];
        let used = self.pools.of_node(*team);
        let over = |(r, a): &(u32, u64)| used[*r as usize].saturating_add(*a) > nominal[*r as usize];
        dense.asks(head.shape).iter().any(over)
    }

    fn fits_somewhere(&mut self, shape: u32) -> bool {
        let (dense, nowhere) = (&self.snapshot.dense, &mut self.nowhere[shape as usize]);
        let asks = dense.asks(shape);
        *nowhere = *nowhere || !dense.open(shape).iter().any(|c| self.pools.fits(*c as usize, asks));
        !*nowhere
    }

    fn ahead(&self) -> Ahead<'_> {
        Ahead { dense: &self.snapshot.dense, pools: &self.pools, leaving: &self.leaving, now: self.now }
    }

    fn reserve(&mut self, head: Head, promised: Option<usize>, older: &[Head]) -> bool {
        let ahead =
            Ahead { dense: &self.snapshot.dense, pools: &self.pools, leaving: &self.leaving, now: self.now };
        let mut score = |c| self.scorer.alone(&self.pools, head.shape, c);
        let slot = ahead.slot(&self.keeps, head, promised, &mut score, &mut self.holds_until);
        slot.is_some_and(|slot| self.keep(head, slot, Why::Waits, older))
    }

    fn may_preempt(&self, head: Head) -> bool {
        let class = self.policy.class_of(head.order.priority());
        let rules = self.policy.preemption;
        (rules.reclaim || rules.within_team) && self.policy.classes.get(class).is_some_and(|c| c.preempts)
    }

    fn preempt(&mut self, head: Head, older: &[Head], caused: &mut Caused) -> bool {
        let stopped = self.plan.preemptions.len();
        let search = Search {
            facts: self.snapshot,
            policy: self.policy,
            ahead: &self.ahead(),
            keeps: &self.keeps,
            caused,
            head,
            victims_max: (self.policy.preemption.victims_max as usize).saturating_sub(stopped),
        };
        let (way, timeless) = search.way();
        if !timeless {
            self.holds_until = self.now;
        }
        let Some(way) = way else { return false };
        let before = self.keeps.clone();
        for (v, _) in &way.victims {
            self.count_as_leaving(*v);
        }
        let slot = Slot { cluster: crate::dense::ix(way.cluster), start: way.start, expected: way.start };
        if !self.keep(head, slot, Why::Stops, older) {
            self.keeps = before;
            for (v, _) in &way.victims {
                self.leaving[*v as usize] = false;
            }
            return false;
        }
        caused.note(self.snapshot, head, &way);
        let held = Held::Preempting { cluster: slot.cluster, victims: way.awaited };
        self.held.insert(head.group, held);
        self.stop(head, &way);
        true
    }

    fn stop(&mut self, head: Head, way: &Way) {
        let group = &self.snapshot.groups[head.group as usize];
        for (v, cause) in &way.victims {
            let run = &self.snapshot.running[*v as usize];
            self.plan.preemptions.push(Preemption {
                victim: run.job,
                attempt: run.attempt,
                team: run.team.clone(),
                cluster: run.cluster.clone(),
                for_team: group.team.clone(),
                for_shape: group.shape,
                cause: *cause,
            });
        }
    }

    /// Counts an attempt as asked to stop, so that it ends sooner.
    fn count_as_leaving(&mut self, attempt: u32) {
        let ended = self.ahead().latest(attempt);
        self.leaving[attempt as usize] = true;
        let ends = self.ahead().latest(attempt);
        let dense = &self.snapshot.dense;
        let a = &dense.attempts[attempt as usize];
        let nodes = if a.team == NONE { &[] } else { dense.path(a.team) };
        let cluster = (a.cluster != NONE).then_some(a.cluster as usize);
        for pool in nodes.iter().map(|n| dense.node_pool(*n)).chain(cluster) {
            self.keeps.freed(pool, dense.held.row(attempt as usize), ends, ended);
        }
    }

    /// Places the first job of the group whose turn it is, or refuses the whole group for this pass: all its
    /// jobs ask for the same, and room only shrinks while a plan is made.
    fn take_turn(&mut self, turn: Turn) {
        self.plan.considered += 1;
        let dense = &self.snapshot.dense;
        let shape = dense.group_shape[turn.group as usize];
        let asks = dense.asks(shape);
        let ends = self.now.saturating_add(dense.shapes[shape as usize].run_timeout);
        let own = self.keeps.own(turn.group);
        let mut slack = i64::MAX;
        if let Some(held) = self.held_by_quota(turn, own, asks, ends, &mut slack) {
            self.mind(slack);
            return self.refuse(turn, held);
        }
        let best = if self.nowhere[shape as usize] {
            None
        } else {
            let job = mix(u64::from(turn.team), self.turns.order_of(turn)) ^ u64::from(turn.group);
            let keeps = &self.keeps;
            let admits = |c| keeps.blocker(c, own, asks, ends, &mut slack).is_none();
            self.scorer.best(&self.pools, shape, job, admits)
        };
        self.mind(slack);
        if let Some(cluster) = best {
            if let Some(own) = own {
                self.keeps.give_up(own);
            }
            self.place(turn, cluster, None);
        } else {
            self.nowhere[shape as usize] = true;
            self.refuse(turn, Held::NoCluster);
        }
    }

    /// What holds the group before any cluster is looked at.
    fn held_by_quota(
        &self,
        turn: Turn,
        own: Option<u32>,
        asks: &Asks,
        ends: i64,
        slack: &mut i64,
    ) -> Option<Held> {
        if !self.held.is_empty()
            && let Some(held) = self.held.get(&turn.group)
        {
            return Some(*held);
        }
        if let Some((node, resource)) = self.pools.quota_short(turn.team, asks) {
            let available = self.pools.free(self.snapshot.dense.node_pool(node), resource);
            return Some(Held::Quota { node, resource, available });
        }
        if self.keeps.list.is_empty() {
            return None;
        }
        let dense = &self.snapshot.dense;
        let mut path = dense.path(turn.team).iter();
        let blocker = |n: &u32| self.keeps.blocker(dense.node_pool(*n), own, asks, ends, slack);
        let keep = path.find_map(blocker)?;
        Some(Held::QuotaReserved { keep })
    }

    fn mind(&mut self, slack: i64) {
        self.holds_until = self.holds_until.min(self.now.saturating_add(slack));
    }

    /// `kept`: the room was kept for it, so that what else is kept has made allowance for it already.
    fn place(&mut self, turn: Turn, cluster: usize, kept: Option<u32>) {
        let dense = &self.snapshot.dense;
        let shape = dense.group_shape[turn.group as usize];
        let asks = dense.asks(shape);
        let ends = self.now.saturating_add(dense.shapes[shape as usize].run_timeout);
        let nodes = dense.path(turn.team).iter().map(|n| dense.node_pool(*n));
        for pool in nodes.chain([cluster]) {
            self.pools.charge(pool, asks);
            match kept {
                Some(keep) => self.keeps.take(pool, keep),
                None => self.keeps.placed(pool, asks, ends),
            }
        }
        self.scorer.placed(cluster);
        self.plan.placements.push(Placement {
            team: self.snapshot.teams[turn.team as usize].team.id.clone(),
            shape: dense.shapes[dense.group_shape[turn.group as usize] as usize].shape,
            cluster: self.snapshot.clusters[cluster].cluster.id.clone(),
        });
        self.turns.placed(&self.pools, turn, asks);
    }

    fn refuse(&mut self, turn: Turn, held: Held) {
        self.refused.push((turn.group, held));
        self.turns.blocked(&self.pools, turn);
    }

    fn refuse_the_rest(&mut self) {
        let mut seen = vec![false; self.snapshot.groups.len()];
        for team in 0..self.snapshot.teams.len() {
            let (held, refused) = (&self.held, &mut self.refused);
            self.turns.rest(team, &mut seen, |group| {
                refused.push((group, held.get(&group).copied().unwrap_or(Held::PassFull)));
            });
        }
    }

    fn hold(&self, group: u32, held: Held) -> Hold {
        let (facts, dense) = (self.snapshot, &self.snapshot.dense);
        match held {
            Held::Quota { node, resource, available } => {
                let asks = dense.asks(dense.group_shape[group as usize]);
                let requested = asks.iter().find(|(r, _)| *r == resource).map_or(0, |(_, a)| *a);
                let resource = dense.names[resource as usize].clone();
                let owner = facts.quota.nodes()[node as usize].owner.clone();
                Hold::Quota(QuotaShortage { owner, short: Shortage { resource, requested, available } })
            }
            Held::QuotaReserved { keep } => {
                let keep = &self.keeps.list[keep as usize];
                let team = facts.teams[keep.head.team as usize].team.id.clone();
                Hold::QuotaReserved { team, start_by: Timestamp::from_micros(keep.slot.start) }
            }
            Held::Preempting { cluster, victims } => {
                Hold::Preempting { cluster: facts.clusters[cluster as usize].cluster.id.clone(), victims }
            }
            Held::NoCluster => Hold::NoCluster,
            Held::PassFull => Hold::PassFull,
        }
    }

    fn finish(mut self) -> Made {
        let snapshot = self.snapshot;
        let mut plan = std::mem::take(&mut self.plan);
        for keep in self.keeps.list.iter().filter(|keep| keep.why != Why::Due) {
            let group = &snapshot.groups[keep.head.group as usize];
            plan.reservations.push(Reservation {
                team: group.team.clone(),
                shape: group.shape,
                order: keep.head.order,
                cluster: snapshot.clusters[keep.slot.cluster as usize].cluster.id.clone(),
                start_by: Timestamp::from_micros(keep.slot.start),
                expected: Timestamp::from_micros(keep.slot.expected.max(self.now)),
            });
        }
        // Where a probable start lies behind a later `now`, it moves up, and what was reckoned beside it with it.
        if let [before @ .., _] = self.keeps.list.as_slice() {
            let earliest = before.iter().map(|keep| keep.slot.expected).min().unwrap_or(i64::MAX);
            self.holds_until = self.holds_until.min(earliest.max(self.now));
        }
        let board = Board::new(snapshot.clone(), &self.pools, self.keeps.clone(), self.now);
        plan.refusals.reserve_exact(self.refused.len());
        for (g, held) in &self.refused {
            let team = snapshot.teams[snapshot.team_of(*g as usize)].team.id.clone();
            let shape = snapshot.dense.shapes[snapshot.dense.group_shape[*g as usize] as usize].shape;
            let clusters = match held {
                Held::NoCluster => ClusterRefusals::of(&board, *g),
                _ => ClusterRefusals::none(),
            };
            plan.refusals.push(GroupRefusal { team, shape, hold: self.hold(*g, *held), clusters });
        }
        let holds_until = Timestamp::from_micros(self.holds_until);
        let promises = self.promises_after(&plan);
        Made { plan, holds_until, board, promises }
    }

    /// What the next plan is to honour: what is kept and not taken, and what was promised before and is still waiting.
    fn promises_after(self, plan: &Plan) -> Vec<Promise> {
        let snapshot = self.snapshot;
        let promise = |keep: &Keep| Promise {
            team: snapshot.teams[keep.head.team as usize].team.id.clone(),
            shape: snapshot.dense.shapes[keep.head.shape as usize].shape,
            order: keep.head.order,
            cluster: snapshot.clusters[keep.slot.cluster as usize].cluster.id.clone(),
            since: keep.since,
            firm: keep.firm,
        };
        let kept = self.keeps.list.iter().filter(|keep| keep.why != Why::Due).map(promise);
        // The head is the first of its group: if any of the group was placed, it was.
        let mut open = self.open_promises;
        if !open.is_empty() {
            let placed: HashSet<_> = plan.placements.iter().map(|p| (p.team.as_str(), p.shape)).collect();
            open.retain(|p| !placed.contains(&(p.team.as_str(), p.shape)));
        }
        kept.chain(open).collect()
    }
}
