//! One pass: first what is kept for heads that fit nowhere, then turn by turn.

mod heads;

use std::collections::HashMap;

use yard_domain::resources::Shortage;
use yard_domain::{QuotaShortage, Timestamp};

use crate::board::{Board, ClusterRefusals};
use crate::dense::Asks;
use crate::order::{Turn, Turns, mix};
use crate::pools::Pools;
use crate::reserve::{Keeps, Why};
use crate::score::Scorer;
use crate::{GroupRefusal, Hold, Placement, Plan, Policy, Reservation, Snapshot};

/// A plan, and until when the same snapshot, policy and seed give the same.
pub(crate) struct Made {
    pub(crate) plan: Plan,
    /// The clusters as the plan leaves them.
    pub(crate) board: std::sync::Arc<Board>,
    pub(crate) holds_until: Timestamp,
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
    pub(crate) fn new(snapshot: &'a Snapshot, policy: &'a Policy, now: Timestamp, seed: u64) -> Self {
        let dense = &snapshot.dense;
        let pools = Pools::new(dense);
        Self {
            snapshot,
            policy,
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

    /// Places the first job of the group whose turn it is, or refuses the whole group for this pass: all its
    /// jobs ask for the same, and room only shrinks while a plan is made.
    fn take_turn(&mut self, turn: Turn) {
        self.plan.considered += 1;
        let dense = &self.snapshot.dense;
        let shape = dense.group_shape[turn.group as usize];
        let asks = dense.asks(shape);
        let ends = self.now.saturating_add(dense.shapes[shape as usize].run_timeout);
        let mut slack = i64::MAX;
        if let Some(held) = self.held_by_quota(turn, asks, ends, &mut slack) {
            self.mind(slack);
            return self.refuse(turn, held);
        }
        let best = if self.nowhere[shape as usize] {
            None
        } else {
            let job = mix(u64::from(turn.team), self.turns.order_of(turn)) ^ u64::from(turn.group);
            let keeps = &self.keeps;
            let admits = |c| keeps.blocker(c, asks, ends, &mut slack).is_none();
            self.scorer.best(&self.pools, shape, job, admits)
        };
        self.mind(slack);
        if let Some(cluster) = best {
            self.place(turn, cluster, None);
        } else {
            self.nowhere[shape as usize] = true;
            self.refuse(turn, Held::NoCluster);
        }
    }

    /// What holds the group before any cluster is looked at.
    fn held_by_quota(&self, turn: Turn, asks: &Asks, ends: i64, slack: &mut i64) -> Option<Held> {
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
        let keep = path.find_map(|n| self.keeps.blocker(dense.node_pool(*n), asks, ends, slack))?;
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
                promised: keep.promised,
            });
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
        Made { plan, board, holds_until: Timestamp::from_micros(self.holds_until) }
    }
}
