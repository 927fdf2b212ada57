//! Which open attempts are stopped so that a blocked head of a class that preempts can start.
//!
//! Two rights: *reclaim* (a team that stays within its nominal quota, and so does every cohort that it does not share
//! with the lender, takes back what borrowers of the same tree use), and *higher class* (of the same team). For each
//! cluster that the head could run on, victims are added in the order of what they cost until it fits there, and
//! then left out again, last first, unless needed: no subset of what remains suffices. The cheapest set wins.
//!
//! It never goes round: victims of reclaim used more than their nominal quota and the beneficiary stays within, so
//! that it can't be a victim in turn; classes are strictly ordered.

use std::cmp::Reverse;

use yard_domain::{Policy, Timestamp};

use crate::PreemptionCause;
use crate::caused::{Caused, Sums};
use crate::dense::{Asks, NONE, Rows};
use crate::order::share;
use crate::reserve::{Ahead, Head, Keeps, STOP_GRACE};
use crate::snapshot::Facts;

/// What is to be done for a head.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub(crate) cluster: usize,
    /// To be asked to stop now, with the right to it.
    pub(crate) victims: Vec<(u32, PreemptionCause)>,
    /// How many it waits for, with those that had been asked before.
    pub(crate) awaited: u32,
    /// When they have stopped.
    pub(crate) start: i64,
}

/// Something that could be stopped.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    attempt: u32,
    cause: PreemptionCause,
    class: usize,
    /// Time run, in microseconds, times its dominant share in millionths.
    lost: u128,
    /// How many of the nodes on its team's path lie below the common one with the head's team.
    below: usize,
}

/// What a head lacks in a pool; or in the spare beside what is kept there from a time on.
#[derive(Debug, Clone)]
struct Lack {
    pool: usize,
    /// Only what ends after this adds to the spare.
    from: Option<i64>,
    short: Vec<(u32, i128)>,
}

/// Looks for victims for one head.
pub(crate) struct Search<'a> {
    pub(crate) facts: &'a Facts,
    pub(crate) policy: &'a Policy,
    pub(crate) ahead: &'a Ahead<'a>,
    pub(crate) keeps: &'a Keeps,
    pub(crate) caused: &'a Caused,
    pub(crate) head: Head,
    /// How many more may be stopped in this plan.
    pub(crate) victims_max: usize,
}

impl Search<'_> {
    /// The cheapest way to make room, if there is one. First without new victims: if the head fits once what has
    /// been asked to stop has stopped, it waits for that. Also whether the answer is the same at any later time.
    pub(crate) fn way(&self) -> (Option<Way>, bool) {
        let clusters: Vec<usize> = self.facts.dense.admissible(self.head.shape).collect();
        let waits = clusters.iter().filter(|_| !self.caused.leaving.is_empty());
        let waits = waits.filter_map(|c| self.wait(*c, &[]));
        if let Some(way) = waits.min_by_key(|way| (way.start, way.awaited, way.cluster)) {
            return (Some(way), false);
        }
        let candidates = if self.victims_max == 0 { Vec::new() } else { self.candidates() };
        if candidates.is_empty() {
            return (None, true);
        }
        (self.cheapest_way(&clusters, &candidates), false)
    }

    fn cheapest_way(&self, clusters: &[usize], candidates: &[Candidate]) -> Option<Way> {
        let by_cluster = Rows::bucket(
            self.facts.dense.clusters,
            candidates
                .iter()
                .zip(0u32..)
                .map(|(c, i)| (self.facts.dense.attempts[c.attempt as usize].cluster, i)),
            NONE,
        );
        let mut quota = self.lacks_of_quota();
        if !quota.iter().all(Lack::enough) {
            for c in candidates {
                self.give(&mut quota, c.attempt);
            }
            if !enough(&quota) {
                return None;
            }
        }
        let mut away = Sums::new(self.facts);
        let sets = clusters.iter().filter_map(|c| {
            let set = self.cheapest(*c, candidates, by_cluster.row(*c), &mut away)?;
            Some((cost(&set), *c, set))
        });
        let (_, cluster, set) = sets.min_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)))?;
        let victims: Vec<_> = set.iter().map(|c| (c.attempt, c.cause)).collect();
        self.wait(cluster, &victims)
    }

    /// What the head lacks on a cluster: pools first, then spares beside what is kept. What has been asked to stop
    /// counts as gone if `soon`.
    fn lacks(&self, cluster: usize, soon: bool) -> Vec<Lack> {
        let (dense, ahead) = (&self.facts.dense, self.ahead);
        let asks = dense.asks(self.head.shape);
        let pools: Vec<usize> =
            dense.path(self.head.team).iter().map(|n| dense.node_pool(*n)).chain([cluster]).collect();
        let mut lacks = Vec::new();
        for &pool in &pools {
            let short = asks.iter().map(|(r, a)| (*r, ahead.pools.missing(pool, *r, *a))).collect();
            lacks.push(Lack { pool, from: None, short });
        }
        if soon {
            for i in self.stopping(cluster) {
                self.give(&mut lacks, i);
            }
        }
        let ends = ahead.now + STOP_GRACE + dense.shapes[self.head.shape as usize].run_timeout;
        for &pool in &pools {
            for spare in self.keeps.spares(pool) {
                let start = self.keeps.list[spare.keep as usize].slot.start;
                if ends > start {
                    let short = spare.left.iter().map(|(r, left)| (*r, amount(asks, *r) - i128::from(*left)));
                    lacks.push(Lack { pool, from: Some(start), short: short.collect() });
                }
            }
        }
        lacks
    }

    /// What the head lacks of quota, once what has been asked to stop is gone.
    fn lacks_of_quota(&self) -> Vec<Lack> {
        let (dense, asks) = (&self.facts.dense, self.asks());
        let lack = |n: &u32| {
            let pool = dense.node_pool(*n);
            let gone = |r| i128::from(self.caused.away.of(*n, r));
            let short = asks.iter().map(|(r, a)| (*r, self.ahead.pools.missing(pool, *r, *a) - gone(*r)));
            Lack { pool, from: None, short: short.collect() }
        };
        dense.path(self.head.team).iter().map(lack).collect()
    }

    /// Attempts that have been asked to stop, on the cluster or of the tree.
    fn stopping(&self, cluster: usize) -> impl Iterator<Item = u32> + '_ {
        let dense = &self.facts.dense;
        let root = dense.root_of(self.head.team);
        self.caused.leaving.iter().copied().filter(move |i| {
            let a = &dense.attempts[*i as usize];
            a.cluster as usize == cluster || (a.team != NONE && dense.root_of(a.team) == root)
        })
    }

    /// Takes away from what is lacking what an attempt holds.
    fn give(&self, lacks: &mut [Lack], attempt: u32) {
        self.change(lacks, attempt, -1);
    }

    fn change(&self, lacks: &mut [Lack], attempt: u32, sign: i128) {
        let a = &self.facts.dense.attempts[attempt as usize];
        let held = self.facts.dense.held.row(attempt as usize);
        for lack in lacks.iter_mut().filter(|l| self.ahead.holds(a, l.pool)) {
            if lack.from.is_none_or(|from| self.ahead.latest(attempt) > from) {
                for (r, short) in &mut lack.short {
                    *short += sign * amount(held, *r);
                }
            }
        }
    }

    /// Whether an attempt holds something that is lacking.
    fn helps(&self, lacks: &[Lack], attempt: u32) -> bool {
        let a = &self.facts.dense.attempts[attempt as usize];
        let held = self.facts.dense.held.row(attempt as usize);
        lacks.iter().any(|l| {
            l.short.iter().any(|(r, short)| *short > 0 && amount(held, *r) > 0)
                && self.ahead.holds(a, l.pool)
                && l.from.is_none_or(|from| self.ahead.latest(attempt) > from)
        })
    }

    /// Waiting on this cluster for what has been asked to stop and for these; `None` if that does not suffice.
    fn wait(&self, cluster: usize, victims: &[(u32, PreemptionCause)]) -> Option<Way> {
        let mut lacks = self.lacks(cluster, true);
        for (v, _) in victims {
            self.give(&mut lacks, *v);
        }
        if !enough(&lacks) {
            return None;
        }
        let mut lacks = self.lacks(cluster, false);
        for (v, _) in victims {
            self.give(&mut lacks, *v);
        }
        let mut needed: Vec<u32> = Vec::new();
        for i in self.stopping(cluster) {
            if !enough(&lacks) && self.helps(&lacks, i) {
                self.give(&mut lacks, i);
                needed.push(i);
            }
        }
        self.without_spare(&mut lacks, &mut needed, |i| *i);
        let stopping = needed.iter().chain(victims.iter().map(|(v, _)| v));
        let soon = self.ahead.now + STOP_GRACE;
        let ends = |i: &u32| self.facts.dense.attempts[*i as usize].ends_by;
        let start = stopping.map(ends).max().unwrap_or(soon).clamp(self.ahead.now, soon);
        let awaited = crate::dense::ix(needed.len() + victims.len());
        Some(Way { cluster, victims: victims.to_vec(), awaited, start })
    }

    /// Leaves out, last first, what is not needed.
    fn without_spare<T>(&self, lacks: &mut [Lack], set: &mut Vec<T>, attempt: impl Fn(&T) -> u32) {
        for at in (0..set.len()).rev() {
            let one = attempt(&set[at]);
            self.change(lacks, one, 1);
            if enough(lacks) {
                set.remove(at);
            } else {
                self.give(lacks, one);
            }
        }
    }

    /// The cheapest minimal set on a cluster; `there` are the candidates that run on it, `away` is for sums.
    fn cheapest(
        &self,
        cluster: usize,
        candidates: &[Candidate],
        there: &[u32],
        away: &mut Sums,
    ) -> Option<Vec<Candidate>> {
        let dense = &self.facts.dense;
        let mut lacks = self.lacks(cluster, true);
        let quota_short = lacks.iter().any(|l| l.pool >= dense.clusters && !l.enough());
        let some = there.iter().map(|i| &candidates[*i as usize]);
        if !quota_short && !self.could_do(&lacks, some.clone()) {
            return None;
        }
        let mut set: Vec<Candidate> = Vec::new();
        away.clear();
        let mut consider = |c: &Candidate| {
            if self.helps(&lacks, c.attempt) && self.entitled(&lacks, c, away) {
                let attempt = &dense.attempts[c.attempt as usize];
                away.add(dense.path(attempt.team), dense.held.row(c.attempt as usize));
                self.give(&mut lacks, c.attempt);
                set.push(*c);
            }
            enough(&lacks)
        };
        let done =
            if quota_short { candidates.iter().any(consider) } else { some.clone().any(&mut consider) };
        if !done {
            return None;
        }
        self.without_spare(&mut lacks, &mut set, |c| c.attempt);
        (set.len() <= self.victims_max).then_some(set)
    }

    /// Whether all of them together would be enough, entitled to or not: most searches in vain end here.
    fn could_do<'c>(&self, lacks: &[Lack], candidates: impl Iterator<Item = &'c Candidate>) -> bool {
        let mut lacks = lacks.to_vec();
        for c in candidates {
            self.give(&mut lacks, c.attempt);
        }
        enough(&lacks)
    }

    /// Whether a borrower still borrows something that is lacking, with all that is gone by then.
    fn entitled(&self, lacks: &[Lack], candidate: &Candidate, away: &Sums) -> bool {
        if candidate.cause == PreemptionCause::HigherClass {
            return true;
        }
        let short = |r: u32| lacks.iter().any(|l| l.short.iter().any(|(of, short)| *of == r && *short > 0));
        let team = self.facts.dense.attempts[candidate.attempt as usize].team;
        self.facts.dense.path(team)[..candidate.below]
            .iter()
            .all(|n| self.asks().iter().any(|(r, _)| short(*r) && self.over_nominal(*n, *r, away)))
    }

    fn asks(&self) -> &Asks {
        self.facts.dense.asks(self.head.shape)
    }

    fn over_nominal(&self, node: u32, resource: u32, away: &Sums) -> bool {
        let nominal = self.facts.dense.nominal[node as usize * self.facts.dense.width + resource as usize];
        let used = self.ahead.pools.of_node(node)[resource as usize];
        let gone = self.caused.away.of(node, resource).saturating_add(away.of(node, resource));
        used.saturating_sub(gone) > nominal
    }

    /// Everything that may be stopped, the cheapest first.
    fn candidates(&self) -> Vec<Candidate> {
        let mut found = Vec::new();
        let rules = self.policy.preemption;
        if rules.reclaim {
            self.borrowers(&mut found);
        }
        if rules.within_team {
            let class = self.policy.class_of(self.head.order.priority());
            self.of_team(self.head.team, 0, PreemptionCause::HigherClass, &mut found);
            found.retain(|c| c.cause == PreemptionCause::Reclaim || c.class > class);
        }
        found.sort_unstable_by_key(|c| {
            (c.cause == PreemptionCause::HigherClass, Reverse(c.class), c.lost, c.attempt)
        });
        found
    }

    fn borrowers(&self, found: &mut Vec<Candidate>) {
        let dense = &self.facts.dense;
        let own = dense.path(self.head.team);
        let none = Sums::new(self.facts);
        for &team in dense.teams_by_root.row(dense.root_of(self.head.team) as usize) {
            let theirs = dense.path(team);
            let Some(below) = theirs.iter().position(|n| own.contains(n)).filter(|b| *b > 0) else {
                continue;
            };
            let ours = own.iter().position(|n| *n == theirs[below]).unwrap_or(0);
            let borrows = theirs[..below]
                .iter()
                .all(|n| self.asks().iter().any(|(r, _)| self.over_nominal(*n, *r, &none)));
            if borrows && own[..ours].iter().all(|n| self.within_nominal(*n)) {
                self.of_team(team, below, PreemptionCause::Reclaim, found);
            }
        }
    }

    /// Whether a node stays within what it is guaranteed with the head, and with earlier beneficiaries of this plan.
    fn within_nominal(&self, node: u32) -> bool {
        let (dense, used) = (&self.facts.dense, self.ahead.pools.of_node(node));
        self.asks().iter().all(|(r, a)| {
            let coming = self.caused.coming.of(node, *r);
            let with = used[*r as usize].saturating_add(*a).saturating_add(coming);
            with <= dense.nominal[node as usize * dense.width + *r as usize]
        })
    }

    fn of_team(&self, team: u32, below: usize, cause: PreemptionCause, found: &mut Vec<Candidate>) {
        let dense = &self.facts.dense;
        for &attempt in dense.holders().team.row(team as usize) {
            let run = &self.facts.running[attempt as usize];
            let class = self.policy.class_of(run.priority);
            let preemptible = self.policy.classes.get(class).is_some_and(|c| c.preemptible);
            if preemptible && !self.ahead.leaving[attempt as usize] {
                found.push(Candidate { attempt, cause, class, lost: self.lost(attempt, team), below });
            }
        }
    }

    fn lost(&self, attempt: u32, team: u32) -> u128 {
        let dense = &self.facts.dense;
        let started =
            self.facts.running[attempt as usize].started.map_or(self.ahead.now, Timestamp::as_micros);
        let ran = u128::try_from(self.ahead.now.saturating_sub(started)).unwrap_or(0);
        let total = &dense.total[team as usize * dense.width..][..dense.width];
        let held = dense.held.row(attempt as usize).iter();
        ran * u128::from(held.map(|(r, a)| share(*a, total[*r as usize], 1)).max().unwrap_or(0))
    }
}

impl Lack {
    fn enough(&self) -> bool {
        self.short.iter().all(|(_, short)| *short <= 0)
    }
}

fn enough(lacks: &[Lack]) -> bool {
    lacks.iter().all(Lack::enough)
}

fn amount(asks: &Asks, resource: u32) -> i128 {
    asks.iter().find(|(r, _)| *r == resource).map_or(0, |(_, amount)| i128::from(*amount))
}

/// Fewest that do not borrow, then the lowest highest class, the least work lost, the fewest.
fn cost(set: &[Candidate]) -> (usize, Reverse<usize>, u128, usize) {
    let own = set.iter().filter(|c| c.cause == PreemptionCause::HigherClass).count();
    let highest = set.iter().map(|c| c.class).min().unwrap_or(usize::MAX);
    (own, Reverse(highest), set.iter().map(|c| c.lost).sum(), set.len())
}
