//! Shares, fair shares, and how far one is from the other.
//!
//! - A team's *share* is its dominant share as the planner counts it (docs/placement.md): the largest, over resources,
//!   of what it uses divided by the nominal quota of its tree (where that is governed) or by all configured clusters.
//! - Its *demand* is the same of what it uses and what its waiting jobs ask for, together.
//! - Its *fair share* is what it would have if what all teams now use together (the sum S of their shares) were handed out
//!   by weight: at the top of the tree, and again inside each cohort, every member gets the smallest of its demand and
//!   weight × level, with one level for all siblings, so that the sum is kept (weighted max-min, or water-filling). Quotas
//!   don't count here: it is a distance from what weights promise, not from what is allowed.
//! - The *share error* is ½ · Σ |share − fair share| / S: the part of what is in use that is in the wrong hands. 0 is
//!   perfectly fair, and so is an idle system.

use yard_domain::{QuotaOwner, QuotaTree};

use crate::engine::{ClusterState, TeamState};

/// The tree, prepared.
#[derive(Debug)]
pub(super) struct Fairness {
    /// By team: the totals that its share is counted against.
    totals: Vec<Vec<(String, f64)>>,
    weights: Vec<f64>,
    parents: Vec<Option<usize>>,
    /// Members before their cohorts.
    upwards: Vec<usize>,
    tops: Vec<usize>,
    members: Vec<Vec<usize>>,
}

/// By team.
#[derive(Debug, Clone, Default)]
pub(super) struct Shares {
    pub(super) share: Vec<f64>,
    pub(super) fair: Vec<f64>,
    pub(super) error: f64,
}

impl Fairness {
    /// Nodes of teams are the first ones of the tree, in the order of `teams`.
    pub(super) fn new(teams: &[TeamState], clusters: &[ClusterState], quota: &QuotaTree) -> Self {
        let mut all = yard_domain::Request::default();
        for capacity in clusters.iter().filter_map(|c| c.cluster.capacity.as_ref()) {
            all.add(&capacity.0);
        }
        let nodes = quota.nodes();
        let totals = |team: usize| {
            let nominal = &nodes[quota.root_of(team)].nominal;
            let mut totals: Vec<(String, f64)> =
                nominal.bounds().map(|(name, total)| (name.to_owned(), total as f64)).collect();
            let open = all.amounts().filter(|(name, _)| *name != "jobs" && nominal.limit(name).is_none());
            totals.extend(open.map(|(name, total)| (name.to_owned(), total as f64)));
            totals.retain(|(_, total)| *total > 0.0);
            totals
        };
        let mut members = vec![Vec::new(); nodes.len()];
        for (i, node) in nodes.iter().enumerate() {
            if let Some(parent) = node.parent {
                members[parent].push(i);
            }
        }
        debug_assert!(nodes.iter().take(teams.len()).all(|n| matches!(n.owner, QuotaOwner::Team(_))));
        Self {
            totals: (0..teams.len()).map(totals).collect(),
            weights: nodes.iter().map(|n| f64::from(n.weight)).collect(),
            parents: nodes.iter().map(|n| n.parent).collect(),
            upwards: quota.upwards().to_vec(),
            tops: (0..nodes.len()).filter(|i| nodes[*i].parent.is_none()).collect(),
            members,
        }
    }

    pub(super) fn now(&self, teams: &[TeamState]) -> Shares {
        let dominant = |team: usize, wanted: bool| {
            let TeamState { used, wanted: queue, .. } = &teams[team];
            let amount = |name: &str| used.amount(name) + if wanted { queue.amount(name) } else { 0 };
            self.totals[team].iter().map(|(name, total)| amount(name) as f64 / total).fold(0.0, f64::max)
        };
        let share: Vec<f64> = (0..teams.len()).map(|t| dominant(t, false)).collect();
        let demand: Vec<f64> = (0..teams.len()).map(|t| dominant(t, true)).collect();
        let sum: f64 = share.iter().sum();
        let fair = self.fair(&demand, sum);
        let apart: f64 = share.iter().zip(&fair).map(|(s, f)| (s - f).abs()).sum();
        let error = if sum > 0.0 { 0.5 * apart / sum } else { 0.0 };
        Shares { share, fair, error }
    }

    /// Hands out `sum` by weight to teams with these demands.
    fn fair(&self, demand: &[f64], sum: f64) -> Vec<f64> {
        let mut wants = vec![0.0; self.weights.len()];
        wants[..demand.len()].copy_from_slice(demand);
        for &node in &self.upwards {
            if let Some(parent) = self.parents[node] {
                wants[parent] += wants[node];
            }
        }
        let mut gets = vec![0.0; self.weights.len()];
        self.hand_out(sum, &self.tops, &wants, &mut gets);
        for &node in self.upwards.iter().rev().filter(|n| !self.members[**n].is_empty()) {
            let amount = gets[node];
            self.hand_out(amount, &self.members[node], &wants, &mut gets);
        }
        gets.truncate(demand.len());
        gets
    }

    fn hand_out(&self, amount: f64, to: &[usize], wants: &[f64], gets: &mut [f64]) {
        let mut order: Vec<usize> = to.iter().copied().filter(|n| wants[*n] > 0.0).collect();
        let modesty = |n: usize| wants[n] / self.weights[n];
        order.sort_by(|a, b| modesty(*a).total_cmp(&modesty(*b)).then(a.cmp(b)));
        let mut weights: f64 = order.iter().map(|n| self.weights[*n]).sum();
        let mut left = amount;
        for n in order {
            gets[n] = wants[n].min(left * self.weights[n] / weights);
            left -= gets[n];
            weights -= self.weights[n];
        }
    }
}

#[cfg(test)]
mod tests {
    use yard_domain::{Cohort, Team};

    use super::*;

    fn fairness(weights: &[u32]) -> Fairness {
        let teams: Vec<Team> = weights
            .iter()
            .enumerate()
            .map(|(i, w)| Team { weight: *w, ..Team::new(format!("t{i}").parse().unwrap()) })
            .collect();
        Fairness::new(&[], &[], &QuotaTree::new(&teams, &[]))
    }

    #[test]
    fn what_one_does_not_want_goes_to_the_others_by_weight() {
        let fair = fairness(&[1, 1, 2]).fair(&[0.1, 0.9, 0.9], 1.0);
        for (got, want) in fair.iter().zip([0.1, 0.3, 0.6]) {
            assert!((got - want).abs() < 1e-9, "{fair:?}");
        }
        assert!(fairness(&[1, 3]).fair(&[0.0, 0.5], 0.5)[0].abs() < 1e-9, "no demand, no share");
    }

    #[test]
    fn cohorts_are_handed_their_share_first() {
        let cohort = Cohort::new("a".parse().unwrap());
        let team = |id: &str, cohort: Option<&Cohort>| Team {
            cohort: cohort.map(|c| c.id.clone()),
            ..Team::new(id.parse().unwrap())
        };
        let teams = [team("x", Some(&cohort)), team("y", Some(&cohort)), team("z", None)];
        let fairness = Fairness::new(&[], &[], &QuotaTree::new(&teams, &[cohort]));
        let fair = fairness.fair(&[1.0, 1.0, 1.0], 1.0);
        for (got, want) in fair.iter().zip([0.25, 0.25, 0.5]) {
            assert!((got - want).abs() < 1e-9, "{fair:?}");
        }
    }
}
