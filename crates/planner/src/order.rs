//! Whose turn it is: teams take turns by how much they already run for their weight; inside a team the
//! group whose first job comes first (priority, then age).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use yard_domain::job::QueueOrder;

use crate::snapshot::Snapshot;

/// One group's turn to place its next job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Index in [`Snapshot::groups`].
    pub group: usize,
    /// Index in [`Snapshot::teams`].
    pub team: usize,
}

/// A team's claim to the next turn: fewer jobs per weight goes first; ties by the seed, then by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct TeamKey {
    /// Jobs in use and placed in this plan, per weight, in millionths.
    share: u64,
    tie: u64,
    team: usize,
}

/// Hands out turns until every group is blocked or used up.
#[derive(Debug)]
pub struct Turns {
    seed: u64,
    weights: Vec<u64>,
    jobs: Vec<u64>,
    teams: BinaryHeap<Reverse<TeamKey>>,
    /// Per team: its groups by the place of their next job.
    groups: Vec<BinaryHeap<Reverse<(QueueOrder, usize)>>>,
    /// Per group: the places still to be handed out, last first.
    rest: Vec<Vec<QueueOrder>>,
}

impl Turns {
    /// All groups of the snapshot, nothing placed yet.
    pub fn new(snapshot: &Snapshot, seed: u64) -> Self {
        let mut groups = vec![BinaryHeap::new(); snapshot.teams.len()];
        let mut rest = Vec::with_capacity(snapshot.groups.len());
        for (g, group) in snapshot.groups.iter().enumerate() {
            let mut orders: Vec<_> = group.orders.iter().rev().copied().collect();
            if let Some(first) = orders.pop() {
                groups[snapshot.team_of(g)].push(Reverse((first, g)));
            }
            rest.push(orders);
        }
        let mut turns = Self {
            seed,
            weights: snapshot.teams.iter().map(|t| u64::from(t.team.weight.max(1))).collect(),
            jobs: snapshot.teams.iter().map(|t| t.used.jobs).collect(),
            teams: BinaryHeap::new(),
            groups,
            rest,
        };
        for team in 0..snapshot.teams.len() {
            turns.enter(team);
        }
        turns
    }

    fn enter(&mut self, team: usize) {
        if !self.groups[team].is_empty() {
            let share = self.jobs[team].saturating_mul(1_000_000) / self.weights[team];
            self.teams.push(Reverse(TeamKey { share, tie: mix(self.seed, team as u64), team }));
        }
    }

    /// The next turn. The caller answers with [`Turns::placed`] or [`Turns::blocked`].
    pub fn take(&mut self) -> Option<Turn> {
        let Reverse(key) = self.teams.pop()?;
        let Reverse((_, group)) = self.groups[key.team].pop()?;
        Some(Turn { group, team: key.team })
    }

    /// The turn was used: the group's next job takes its place in the team's queue.
    pub fn placed(&mut self, turn: Turn) {
        self.jobs[turn.team] += 1;
        if let Some(next) = self.rest[turn.group].pop() {
            self.groups[turn.team].push(Reverse((next, turn.group)));
        }
        self.enter(turn.team);
    }

    /// Nothing of this group can be placed any more in this plan.
    pub fn blocked(&mut self, turn: Turn) {
        self.enter(turn.team);
    }
}

/// A well-mixed number of two (SplitMix64's finaliser): a seeded, stateless tie-breaker.
pub fn mix(seed: u64, value: u64) -> u64 {
    let mut z = seed ^ value.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
