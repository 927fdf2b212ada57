//! Whose turn it is: the weighted dominant shares, level by level.

use super::world::{Amounts, Load, World, amounts};

/// A node's claim to the next turn: who would borrow comes after who would not, then the smaller share per weight.
type Key = (bool, i128);

/// What a node could do with a turn.
#[derive(Default)]
struct Options {
    /// Groups that could be the ones to place a job.
    placeable: Vec<usize>,
    /// Groups whose next job could be the node's next, for all that anybody knows before trying to place it.
    heads: Vec<usize>,
}

/// What the plan has come to when it places the next job.
pub struct Moment<'m, 'a> {
    pub world: &'m World<'a>,
    pub load: &'m Load,
    /// How many jobs of each group have been placed.
    pub placed: &'m [usize],
    /// Whether one more job of a group could be placed at all.
    pub open: &'m dyn Fn(usize) -> bool,
}

impl Moment<'_, '_> {
    /// The groups that may be the next to place a job: one, but for ties.
    pub fn next(&self) -> Vec<usize> {
        self.options(None).placeable
    }

    fn options(&self, node: Option<usize>) -> Options {
        if let Some(team) = node.filter(|n| *n < self.world.snapshot.teams.len()) {
            return self.options_of_team(team);
        }
        let children: Vec<(usize, Options)> =
            self.world.children(node).into_iter().map(|c| (c, self.options(Some(c)))).collect();
        // Nobody comes before a sibling whose key is smaller by more than the rounding, whichever job that places.
        let last = |c: usize, o: &Options| o.heads.iter().map(|g| self.key(c, *g)).max().unwrap();
        let comes = |c: usize, group: usize| {
            let (borrows, share) = self.key(c, group);
            let others = children.iter().filter(|(d, o)| *d != c && !o.placeable.is_empty());
            others.into_iter().all(|(d, o)| (borrows, share - 2) <= last(*d, o))
        };
        let mut options = Options::default();
        for (c, o) in &children {
            options.placeable.extend(o.placeable.iter().filter(|g| comes(*c, **g)));
            options.heads.extend(o.heads.iter().filter(|g| comes(*c, **g)));
        }
        options
    }

    /// Priority, then age; what cannot be placed is passed over, once somebody has found that out.
    fn options_of_team(&self, team: usize) -> Options {
        let groups = &self.world.snapshot.groups;
        let next = |g: usize| groups[g].orders.get(self.placed[g]);
        let of_team = |g: &usize| groups[*g].team == self.world.snapshot.teams[team].team.id;
        let mut waiting: Vec<usize> =
            (0..groups.len()).filter(of_team).filter(|g| next(*g).is_some()).collect();
        waiting.sort_by_key(|g| next(*g));
        let first = waiting.iter().position(|g| (self.open)(*g));
        Options {
            placeable: first.map(|i| waiting[i]).into_iter().collect(),
            heads: waiting[..first.map_or(waiting.len(), |i| i + 1)].to_vec(),
        }
    }

    fn key(&self, node: usize, group: usize) -> Key {
        let request = amounts(&self.world.snapshot.groups[group].request);
        (self.borrows(node, &request), self.share(node) / self.world.nodes[node].weight)
    }

    /// Whether the node would use more than its nominal quota of something asked for.
    fn borrows(&self, node: usize, request: &Amounts) -> bool {
        request.iter().any(|(name, amount)| {
            let nominal = self.world.nominal(node, name);
            nominal.is_some_and(|nominal| self.world.used(self.load, node, name) + amount > nominal)
        })
    }

    /// The dominant share, past use counted in, in millionths.
    fn share(&self, node: usize) -> i128 {
        let past = Load {
            teams: self.world.snapshot.teams.iter().map(|t| amounts(&t.past)).collect(),
            clusters: Vec::new(),
        };
        let shares = self.resources().into_iter().filter_map(|name| {
            let total = self.total(node, &name)?;
            let used = self.world.used(self.load, node, &name) + self.world.used(&past, node, &name);
            (total > 0).then(|| used * 1_000_000 / total)
        });
        shares.max().unwrap_or(0)
    }

    fn total(&self, node: usize, name: &str) -> Option<i128> {
        let governed = self.world.nominal(self.world.root(node), name);
        if governed.is_some() || name == "jobs" {
            return governed;
        }
        let configured = self.world.snapshot.clusters.iter().filter(|c| c.cluster.configured);
        let capacities = configured.filter_map(|c| c.cluster.capacity.as_ref());
        Some(capacities.map(|capacity| i128::from(capacity.0.amount(name))).sum())
    }

    fn resources(&self) -> Vec<String> {
        let past = self.world.snapshot.teams.iter().flat_map(|t| amounts(&t.past).into_keys());
        let used = self.load.teams.iter().flat_map(|used| used.keys().cloned());
        let names: std::collections::BTreeSet<String> = used.chain(past).collect();
        names.into_iter().collect()
    }
}
