//! One pass: first what is kept for heads that fit nowhere, then turn by turn.

use std::collections::HashMap;

use yard_domain::resources::Shortage;
use yard_domain::{QuotaShortage, Timestamp};

use crate::board::{Board, ClusterRefusals};
use crate::order::{Turn, Turns, mix};
use crate::pools::Pools;
use crate::preempt::{Caused, Search};
use crate::reserve::{Ahead, Head, Keeps, Slot};
use crate::score::Scorer;
use crate::{GroupRefusal, Hold, Placement, Plan, Policy, Preemption, Reservation, Snapshot};

/// A plan, and until when the same snapshot, policy and seed give the same.
pub(crate) struct Made {
    pub(crate) plan: Plan,
    pub(crate) holds_until: Timestamp,
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
    /// Per group: held by more than its refusals tell.
    held: HashMap<u32, Hold>,
    refused: Vec<(u32, Hold)>,
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

    /// Keeps room for the heads that fit nowhere now, the oldest first: where they start by themselves, or where
    /// others are stopped for them.
    fn keep_room(&mut self) {
        let mut heads = self.blocked_heads();
        heads.sort_unstable_by_key(|h| (h.order.accepted_at_micros(), h.team));
        let mut caused: Option<Caused> = None;
        let (mut kept, mut searches) = (0, self.policy.preemption.victims_max);
        for head in heads {
            if self.may_preempt(head) && searches > 0 {
                searches -= 1;
                let caused = caused.get_or_insert_with(|| Caused::new(self.snapshot));
                if self.preempt(head, caused) {
                    continue;
                }
            }
            if kept < self.policy.reservations_max && self.reserve(head) {
                kept += 1;
            }
        }
    }

    /// The first job of each team, if it could run somewhere but not now.
    fn blocked_heads(&mut self) -> Vec<Head> {
        let dense = &self.snapshot.dense;
        let mut heads = Vec::new();
        for team in 0..crate::dense::ix(dense.teams) {
            let Some((order, group)) = dense.queue.row(team as usize).first().copied() else { continue };
            let shape = dense.group_shape[group as usize];
            let somewhere = self.fits_somewhere(shape);
            let now = somewhere && self.pools.quota_short(team, dense.asks(shape)).is_none();
            if !now
                && dense.quota_could(team, shape)
                && (somewhere || dense.admissible(shape).next().is_some())
            {
                heads.push(Head { team, group, shape, order });
            }
        }
        heads
    }

    fn fits_somewhere(&mut self, shape: u32) -> bool {
        let (dense, nowhere) = (&self.snapshot.dense, &mut self.nowhere[shape as usize]);
        let asks = dense.asks(shape);
        *nowhere = *nowhere || !crate::dense::bits(dense.mask(shape)).any(|c| self.pools.fits(c, asks));
        !*nowhere
    }

    fn ahead(&self) -> Ahead<'_> {
        Ahead { dense: &self.snapshot.dense, pools: &self.pools, leaving: &self.leaving, now: self.now }
    }

    fn reserve(&mut self, head: Head) -> bool {
        let ahead =
            Ahead { dense: &self.snapshot.dense, pools: &self.pools, leaving: &self.leaving, now: self.now };
        let mut score = |c| self.scorer.alone(&self.pools, head.shape, c);
        let Some(slot) = ahead.slot(&self.keeps, head, &mut score, &mut self.holds_until) else {
            return false;
        };
        ahead.keep(&mut self.keeps, head, slot);
        true
    }

    fn may_preempt(&self, head: Head) -> bool {
        let class = self.policy.class_of(head.order.priority());
        let rules = self.policy.preemption;
        (rules.reclaim || rules.within_team) && self.policy.classes.get(class).is_some_and(|c| c.preempts)
    }

    fn preempt(&mut self, head: Head, caused: &mut Caused) -> bool {
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
        caused.note(self.snapshot, head, &way);
        for (v, cause) in &way.victims {
            self.leaving[*v as usize] = true;
            let run = &self.snapshot.running[*v as usize];
            let group = &self.snapshot.groups[head.group as usize];
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
        let slot = Slot { cluster: crate::dense::ix(way.cluster), start: way.start, expected: way.start };
        let ahead =
            Ahead { dense: &self.snapshot.dense, pools: &self.pools, leaving: &self.leaving, now: self.now };
        ahead.keep(&mut self.keeps, head, slot);
        let cluster = self.snapshot.clusters[way.cluster].cluster.id.clone();
        self.held.insert(head.group, Hold::Preempting { cluster, victims: way.awaited });
        true
    }

    /// Places the first job of the group whose turn it is, or refuses the whole group for this pass: all its
    /// jobs ask for the same, and room only shrinks while a plan is made.
    fn take_turn(&mut self, turn: Turn) {
        self.plan.considered += 1;
        let dense = &self.snapshot.dense;
        let shape = dense.group_shape[turn.group as usize];
        let asks = dense.asks(shape);
        let ends = self.now.saturating_add(dense.shapes[shape as usize].run_timeout);
        if let Some(hold) = self.held.get(&turn.group) {
            return self.refuse(turn, hold.clone());
        }
        if let Some((node, resource)) = self.pools.quota_short(turn.team, asks) {
            let hold = Hold::Quota(self.quota_shortage(node, resource, shape));
            return self.refuse(turn, hold);
        }
        let mut slack = i64::MAX;
        let by = dense
            .path(turn.team)
            .iter()
            .find_map(|n| self.keeps.blocker(dense.node_pool(*n), asks, ends, &mut slack));
        if let Some(keep) = by {
            let hold = Hold::QuotaReserved { team: self.team_of(keep), start_by: self.start_of(keep) };
            self.mind(slack);
            return self.refuse(turn, hold);
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
            self.place(turn, cluster, ends);
        } else {
            self.nowhere[shape as usize] = true;
            self.refuse(turn, Hold::NoCluster);
        }
    }

    fn mind(&mut self, slack: i64) {
        self.holds_until = self.holds_until.min(self.now.saturating_add(slack));
    }

    fn place(&mut self, turn: Turn, cluster: usize, ends: i64) {
        let dense = &self.snapshot.dense;
        let asks = dense.asks(dense.group_shape[turn.group as usize]);
        let nodes = dense.path(turn.team).iter().map(|n| dense.node_pool(*n));
        for pool in nodes.chain([cluster]) {
            self.pools.charge(pool, asks);
            self.keeps.placed(pool, asks, ends);
        }
        self.scorer.placed(cluster);
        let group = &self.snapshot.groups[turn.group as usize];
        self.plan.placements.push(Placement {
            team: group.team.clone(),
            shape: group.shape,
            cluster: self.snapshot.clusters[cluster].cluster.id.clone(),
        });
        self.turns.placed(&self.pools, turn, asks);
    }

    fn refuse(&mut self, turn: Turn, hold: Hold) {
        self.refused.push((turn.group, hold));
        self.turns.blocked(&self.pools, turn);
    }

    fn refuse_the_rest(&mut self) {
        let mut seen = vec![false; self.snapshot.groups.len()];
        for team in 0..self.snapshot.teams.len() {
            let (held, refused) = (&self.held, &mut self.refused);
            self.turns.rest(team, &mut seen, |group| {
                refused.push((group, held.get(&group).cloned().unwrap_or(Hold::PassFull)));
            });
        }
    }

    fn quota_shortage(&self, node: u32, resource: u32, shape: u32) -> QuotaShortage {
        let dense = &self.snapshot.dense;
        let requested = dense.asks(shape).iter().find(|(r, _)| *r == resource).map_or(0, |(_, a)| *a);
        QuotaShortage {
            owner: self.snapshot.quota.nodes()[node as usize].owner.clone(),
            short: Shortage {
                resource: dense.names[resource as usize].clone(),
                requested,
                available: self.pools.free(dense.node_pool(node), resource),
            },
        }
    }

    fn team_of(&self, keep: u32) -> yard_domain::TeamId {
        self.snapshot.teams[self.keeps.list[keep as usize].head.team as usize].team.id.clone()
    }

    fn start_of(&self, keep: u32) -> Timestamp {
        Timestamp::from_micros(self.keeps.list[keep as usize].slot.start)
    }

    fn finish(self) -> Made {
        let Self { snapshot, now, pools, keeps, refused, mut plan, .. } = self;
        for keep in &keeps.list {
            let group = &snapshot.groups[keep.head.group as usize];
            plan.reservations.push(Reservation {
                team: group.team.clone(),
                shape: group.shape,
                order: keep.head.order,
                cluster: snapshot.clusters[keep.slot.cluster as usize].cluster.id.clone(),
                start_by: Timestamp::from_micros(keep.slot.start),
                expected: Timestamp::from_micros(keep.slot.expected),
            });
        }
        let board = Board::new(snapshot.clone(), &pools, keeps, now);
        plan.refusals.reserve_exact(refused.len());
        for (g, hold) in refused {
            let group = &snapshot.groups[g as usize];
            let clusters = match hold {
                Hold::NoCluster => ClusterRefusals::of(&board, g),
                _ => ClusterRefusals::none(),
            };
            plan.refusals.push(GroupRefusal { team: group.team.clone(), shape: group.shape, hold, clusters });
        }
        Made { plan, holds_until: Timestamp::from_micros(self.holds_until) }
    }
}
