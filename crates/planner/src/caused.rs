//! What the preemptions of a plan change for those after them: who leaves, and who comes in their place.

use crate::dense::{Asks, NONE};
use crate::preempt::Way;
use crate::reserve::Head;
use crate::snapshot::Facts;

/// Amounts per quota node and resource.
#[derive(Debug)]
pub(crate) struct Sums {
    width: usize,
    amounts: Vec<u64>,
    touched: Vec<usize>,
}

impl Sums {
    pub(crate) fn new(facts: &Facts) -> Self {
        Self { width: facts.dense.width, amounts: vec![0; facts.dense.nominal.len()], touched: Vec::new() }
    }

    pub(crate) fn add(&mut self, path: &[u32], asks: &Asks) {
        for node in path {
            for (r, amount) in asks {
                let at = *node as usize * self.width + *r as usize;
                self.amounts[at] = self.amounts[at].saturating_add(*amount);
                self.touched.push(at);
            }
        }
    }

    pub(crate) fn of(&self, node: u32, resource: u32) -> u64 {
        self.amounts[node as usize * self.width + resource as usize]
    }

    pub(crate) fn clear(&mut self) {
        for at in self.touched.drain(..) {
            self.amounts[at] = 0;
        }
    }
}

/// What earlier heads of this plan caused.
#[derive(Debug)]
pub(crate) struct Caused {
    /// Attempts asked to stop, before this plan or by it.
    pub(crate) leaving: Vec<u32>,
    /// What will be gone with them.
    pub(crate) away: Sums,
    /// What beneficiaries will use.
    pub(crate) coming: Sums,
}

impl Caused {
    pub(crate) fn new(facts: &Facts) -> Self {
        let mut caused = Self { leaving: Vec::new(), away: Sums::new(facts), coming: Sums::new(facts) };
        for (a, i) in facts.dense.attempts.iter().zip(0u32..).filter(|(a, _)| a.leaving) {
            caused.leave(facts, a.team, i);
        }
        caused
    }

    fn leave(&mut self, facts: &Facts, team: u32, attempt: u32) {
        self.leaving.push(attempt);
        if team != NONE {
            self.away.add(facts.dense.path(team), facts.dense.held.row(attempt as usize));
        }
    }

    pub(crate) fn note(&mut self, facts: &Facts, head: Head, way: &Way) {
        let dense = &facts.dense;
        self.coming.add(dense.path(head.team), dense.asks(head.shape));
        for (v, _) in &way.victims {
            self.leave(facts, dense.attempts[*v as usize].team, *v);
        }
    }
}
