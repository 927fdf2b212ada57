//! Which of the clusters that have room is best.
//!
//! Each part of a score is scaled to 0..=1000, 0 being best, then weighed and summed; the smallest sum wins. Parts:
//!
//! - *fit*: the fullest of the resources asked for, with the job (for [`Fit::Pack`], 1000 less that)
//! - *cost*: per hour, for the dearest candidate's
//! - *locality*: the share of the labels preferred that the cluster lacks
//! - *failures*: of launches lately, ten and more being worst
//! - *queue*: attempts placed there that do not run yet, ten and more being worst, plus, if an autoscaler must add
//!   something for this job first, its delay, ten minutes and more being worst; together at most 1000
//!
//! Equal sums: two of them are drawn by the seed and the job, and the one with less in use wins (Mitzenmacher, "The
//! Power of Two Choices in Randomized Load Balancing"), so that several schedulers don't all run to the same one.

use std::collections::{BTreeMap, HashMap};

use yard_domain::policy::Scores;

use crate::Fit;
use crate::dense::Asks;
use crate::order::mix;
use crate::pools::Pools;
use crate::snapshot::Facts;

const WORST: u64 = 1_000;

/// Scores under one policy, with what does not change while a plan is made computed once.
pub(crate) struct Scorer<'a> {
    facts: &'a Facts,
    scores: Scores,
    seed: u64,
    /// Per selector: its row in `fixed`.
    row_of_selector: Vec<Option<usize>>,
    row_of_preference: HashMap<&'a BTreeMap<String, String>, usize>,
    /// Per preference and cluster: locality and failures, weighed.
    fixed: Vec<Vec<u64>>,
    /// Per cluster, in millionths; empty if none costs anything.
    cost: Vec<u64>,
    in_flight: Vec<u32>,
    /// Candidates of the present decision: cluster, and its score so far.
    found: Vec<(u32, u64)>,
    tied: Vec<u32>,
}

impl<'a> Scorer<'a> {
    pub(crate) fn new(facts: &'a Facts, scores: Scores, seed: u64) -> Self {
        let cost: Vec<u64> =
            facts.clusters.iter().map(|c| c.cluster.cost_per_hour_micro.unwrap_or(0)).collect();
        let costs = scores.cost_weight > 0 && cost.iter().any(|c| *c > 0);
        Self {
            facts,
            scores,
            seed,
            row_of_selector: vec![None; facts.dense.masks.len()],
            row_of_preference: HashMap::new(),
            fixed: Vec::new(),
            cost: if costs { cost } else { Vec::new() },
            in_flight: facts.dense.in_flight.clone(),
            found: Vec::new(),
            tied: Vec::new(),
        }
    }

    /// The best cluster for a job of this shape among those of its mask that have room and that `admits` lets pass.
    pub(crate) fn best(
        &mut self,
        pools: &Pools<'_>,
        shape: u32,
        job: u64,
        mut admits: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        let dense = pools.dense;
        let asks = dense.asks(shape);
        let row = self.fixed_row(shape);
        self.found.clear();
        let mut dearest = 0;
        for c in crate::dense::bits(dense.mask(shape)) {
            let Some(fullness) = fullness(pools, c, asks) else { continue };
            if !admits(c) {
                continue;
            }
            dearest = self.cost.get(c).copied().unwrap_or(0).max(dearest);
            let fit = match self.scores.fit {
                Fit::Spread => fullness.min(WORST),
                Fit::Pack => WORST.saturating_sub(fullness),
            };
            let changing = u64::from(self.scores.fit_weight) * fit
                + u64::from(self.scores.queue_weight) * self.queue(pools, c, asks);
            self.found.push((crate::dense::ix(c), changing + self.fixed[row][c]));
        }
        self.choose(pools, asks, job, dearest)
    }

    /// The score of one cluster, whether it has room now or not: for comparing where a job will once start.
    pub(crate) fn alone(&mut self, pools: &Pools<'_>, shape: u32, cluster: usize) -> u64 {
        let asks = pools.dense.asks(shape);
        let row = self.fixed_row(shape);
        self.fixed[row][cluster] + u64::from(self.scores.queue_weight) * self.queue(pools, cluster, asks)
    }

    pub(crate) fn placed(&mut self, cluster: usize) {
        self.in_flight[cluster] += 1;
    }

    fn choose(&mut self, pools: &Pools<'_>, asks: &Asks, job: u64, dearest: u64) -> Option<usize> {
        let mut least = u64::MAX;
        self.tied.clear();
        for (c, sum) in &self.found {
            let cost = match dearest {
                0 => 0,
                _ => u64::from(self.scores.cost_weight) * per_mille(self.cost[*c as usize], dearest),
            };
            let sum = sum + cost;
            if sum < least {
                least = sum;
                self.tied.clear();
            }
            if sum == least {
                self.tied.push(*c);
            }
        }
        match self.tied.as_slice() {
            [] => None,
            [one] => Some(*one as usize),
            several => Some(two_choices(pools, asks, several, mix(self.seed, job))),
        }
    }

    fn queue(&self, pools: &Pools<'_>, cluster: usize, asks: &Asks) -> u64 {
        let waiting = u64::from(self.in_flight[cluster].min(10)) * (WORST / 10);
        let dense = pools.dense;
        let growth = dense.elastic[cluster].as_ref().map_or(0, |(present, delay)| {
            let used = &pools.used[cluster * dense.width..][..dense.width];
            let grows = asks.iter().any(|(r, a)| used[*r as usize].saturating_add(*a) > present[*r as usize]);
            if grows { per_mille((*delay).min(600), 600) } else { 0 }
        });
        (waiting + growth).min(WORST)
    }

    /// The row in `fixed` for a shape's preferences.
    fn fixed_row(&mut self, shape: u32) -> usize {
        let facts = self.facts;
        let selector = facts.dense.shapes[shape as usize].selector as usize;
        if let Some(row) = self.row_of_selector[selector] {
            return row;
        }
        let prefer = &facts.groups[facts.dense.selector_group[selector] as usize].clusters.prefer;
        let row = *self.row_of_preference.entry(prefer).or_insert(self.fixed.len());
        if row == self.fixed.len() {
            self.fixed.push(fixed(facts, &self.scores, prefer));
        }
        self.row_of_selector[selector] = Some(row);
        row
    }
}

fn fixed(facts: &Facts, scores: &Scores, prefer: &BTreeMap<String, String>) -> Vec<u64> {
    let of = |view: &crate::ClusterView| {
        let missing = prefer.iter().filter(|(k, v)| view.cluster.labels.get(*k) != Some(*v)).count();
        let locality = (missing as u64 * WORST).checked_div(prefer.len() as u64).unwrap_or(0);
        let failures = u64::from(view.cluster.recent_failures.min(10)) * (WORST / 10);
        u64::from(scores.locality_weight) * locality + u64::from(scores.failures_weight) * failures
    };
    facts.clusters.iter().map(of).collect()
}

/// A share in thousandths.
fn per_mille(part: u64, whole: u64) -> u64 {
    match part.checked_mul(WORST) {
        Some(part) => part / whole.max(1),
        None => part / (whole / WORST).max(1),
    }
}

/// The fullest of the resources asked for with the job, in thousandths; `None` if there is no room.
fn fullness(pools: &Pools<'_>, cluster: usize, asks: &Asks) -> Option<u64> {
    let dense = pools.dense;
    let at = cluster * dense.width;
    let (used, cap) = (&pools.used[at..][..dense.width], &dense.cap[at..][..dense.width]);
    let inverse = &dense.inverse[at..][..dense.width];
    let mut fullest = 0;
    for (r, amount) in asks {
        let r = *r as usize;
        let after = used[r].saturating_add(*amount);
        if after > cap[r] {
            return None;
        }
        fullest = fullest.max((u128::from(after) * u128::from(inverse[r])) >> 54);
    }
    u64::try_from(fullest).ok()
}

/// Of two clusters drawn, the one with less in use.
fn two_choices(pools: &Pools<'_>, asks: &Asks, tied: &[u32], draw: u64) -> usize {
    let n = tied.len() as u64;
    let at = |i: u64| tied[usize::try_from(i).unwrap_or(0)] as usize;
    let first = draw % n;
    let second = (first + 1 + (draw >> 32) % (n - 1)) % n;
    let in_use = |c: usize| {
        let share = |r: u32| {
            let i = c * pools.dense.width + r as usize;
            crate::order::share(pools.used[i], pools.dense.cap[i], 1)
        };
        asks.iter().map(|(r, _)| share(*r)).max().unwrap_or(0)
    };
    let (a, b) = (at(first), at(second));
    if in_use(b) < in_use(a) { b } else { a }
}

#[cfg(test)]
mod tests {

    #[test]
    fn thousandths_are_those_of_the_exact_share() {
        for cap in [1u64, 3, 7, 1_000, 4_096, 999_999, 1 << 40, (1 << 40) + 12_345] {
            let inverse = crate::dense::inverse(cap);
            for part in [0, 1, cap / 3, cap / 2, cap - cap / 10, cap - 1, cap] {
                let exact = u128::from(part) * 1_000 / u128::from(cap);
                let got = (u128::from(part) * u128::from(inverse)) >> 54;
                assert!(got == exact || (cap > 1 << 30 && got == exact + 1), "{part} of {cap}: {got}");
            }
        }
    }
}
