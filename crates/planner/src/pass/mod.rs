//! One pass: first what is kept for heads that fit nowhere, then turn by turn.

mod room;
mod stops;

use std::collections::{HashMap, HashSet};

use yard_domain::resources::Shortage;
use yard_domain::{QuotaShortage, Timestamp};

use crate::board::{Board, ClusterRefusals};
use crate::dense::Asks;
use crate::order::{Turn, Turns, mix};
use crate::pools::Pools;
use crate::reserve::{Ahead, Keep, Keeps, Promise, Why};
use crate::score::Scorer;
use crate::{GroupRefusal, Hold, Placement, Plan, Policy, Reservation, Snapshot};

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

    fn fits_somewhere(&mut self, shape: u32) -> bool {
        let (dense, nowhere) = (&self.snapshot.dense, &mut self.nowhere[shape as usize]);
        let asks = dense.asks(shape);
        *nowhere = *nowhere || !dense.open(shape).iter().any(|c| self.pools.fits(*c as usize, asks));
        !*nowhere
    }

    fn ahead(&self) -> Ahead<'_> {
        Ahead { dense: &self.snapshot.dense, pools: &self.pools, leaving: &self.leaving, now: self.now }
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
