//! What teams may use, with what they lend each other: a tree of teams in cohorts.
//!
//! The rules are those of Kueue's cohorts, told in one sentence: **a job may be placed if, with it, no node on the way
//! from its team to the top uses more than its ceiling.** The ceiling of a node below the top is its `max` (none: no
//! bound of its own). At the top nothing can be borrowed any more, so the ceiling is what the tree has: the sum of the
//! nominal quotas in it.
//!
//! - A resource that any node of a tree names in its `quota` is *governed* there: a member that does not name it has a
//!   nominal quota of zero and can only borrow. A resource that nobody names is not bounded by quota.
//! - A team in no cohort is a tree by itself: its nominal quota is its ceiling.
//!
//! Usage is kept per team only (the ledger's accounts); a cohort's is the sum of its teams', so there is nothing that
//! could drift apart, and moving a team to another cohort moves its usage with it.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use crate::ids::{CohortId, TeamId};
use crate::resources::{Limits, Request, Shortage};
use crate::team::{Cohort, Team};

/// Whose quota it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuotaOwner {
    /// A team's.
    Team(TeamId),
    /// A cohort's.
    Cohort(CohortId),
}

impl fmt::Display for QuotaOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Team(team) => write!(f, "team {team}"),
            Self::Cohort(cohort) => write!(f, "cohort {cohort}"),
        }
    }
}

/// A quota that has no room for a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct QuotaShortage {
    /// Whose.
    pub owner: QuotaOwner,
    /// Of what, and how much is left.
    pub short: Shortage,
}

impl fmt::Display for QuotaShortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.owner, self.short)
    }
}

/// A team or cohort in the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaNode {
    /// Whose.
    pub owner: QuotaOwner,
    /// The index of the cohort above it.
    pub parent: Option<usize>,
    /// What it is guaranteed: its own and, of a cohort, its members' too. Names every governed resource.
    pub nominal: Limits,
    /// What it may use at most.
    pub ceiling: Limits,
    /// Its weight among its siblings, at least 1.
    pub weight: u32,
}

/// All teams and cohorts. Nodes are in the order of teams and cohorts as given, teams first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuotaTree {
    nodes: Vec<QuotaNode>,
    by_team: HashMap<TeamId, usize>,
    /// Every node's index, members before their cohorts.
    upwards: Vec<usize>,
}

impl QuotaTree {
    /// Puts the tree together. A cohort that is not there, or that would be inside itself, counts as no cohort: see
    /// [`faults`] for what to say of that where it is configured.
    pub fn new(teams: &[Team], cohorts: &[Cohort]) -> Self {
        let by_cohort: HashMap<&CohortId, usize> =
            cohorts.iter().enumerate().map(|(i, c)| (&c.id, teams.len() + i)).collect();
        let above = |id: &Option<CohortId>| id.as_ref().and_then(|id| by_cohort.get(id).copied());
        let mut nodes: Vec<QuotaNode> = Vec::with_capacity(teams.len() + cohorts.len());
        for t in teams {
            let owner = QuotaOwner::Team(t.id.clone());
            nodes.push(node(owner, above(&t.cohort), &t.quota, &t.max, t.weight));
        }
        for c in cohorts {
            let owner = QuotaOwner::Cohort(c.id.clone());
            nodes.push(node(owner, above(&c.parent), &c.quota, &c.max, c.weight));
        }
        cut_rings(&mut nodes, teams.len());
        let upwards = upwards(&nodes);
        resolve(&mut nodes, &upwards);
        let by_team = teams.iter().enumerate().map(|(i, t)| (t.id.clone(), i)).collect();
        Self { nodes, by_team, upwards }
    }

    /// Every node.
    pub fn nodes(&self) -> &[QuotaNode] {
        &self.nodes
    }

    /// Every node's index, members before their cohorts.
    pub fn upwards(&self) -> &[usize] {
        &self.upwards
    }

    /// The index of a team's node.
    pub fn node_of(&self, team: &TeamId) -> Option<usize> {
        self.by_team.get(team).copied()
    }

    /// A node and everything above it, from below.
    pub fn path(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(Some(node), |i| self.nodes[*i].parent)
    }

    /// The top of a node's tree.
    pub fn root_of(&self, node: usize) -> usize {
        self.path(node).last().unwrap_or(node)
    }

    /// The teams whose usage bears on what this one may use: all that share its top, itself among them.
    pub fn lenders(&self, team: &TeamId) -> Vec<TeamId> {
        let Some(root) = self.node_of(team).map(|node| self.root_of(node)) else { return Vec::new() };
        let members = self.nodes.iter().enumerate().filter_map(|(i, node)| match &node.owner {
            QuotaOwner::Team(id) if self.root_of(i) == root => Some(id.clone()),
            _ => None,
        });
        members.collect()
    }

    /// What every node uses, by index, from what its teams use.
    pub fn usage<'u>(&self, used: impl Fn(&TeamId) -> Option<&'u Request>) -> Vec<Request> {
        let mut usage = vec![Request::default(); self.nodes.len()];
        for &i in &self.upwards {
            if let QuotaOwner::Team(team) = &self.nodes[i].owner
                && let Some(used) = used(team)
            {
                usage[i].add(used);
            }
            if let Some(parent) = self.nodes[i].parent {
                let own = usage[i].clone();
                usage[parent].add(&own);
            }
        }
        usage
    }

    /// Whether a job of this node's team that asks for `request` may be placed beside `usage`; else the lowest
    /// quota that is short.
    pub fn allows(&self, usage: &[Request], node: usize, request: &Request) -> Result<(), QuotaShortage> {
        for i in self.path(node) {
            let QuotaNode { owner, ceiling, .. } = &self.nodes[i];
            ceiling
                .allows(&usage[i], request)
                .map_err(|short| QuotaShortage { owner: owner.clone(), short })?;
        }
        Ok(())
    }

    /// Charges a node and everything above it.
    pub fn charge(&self, usage: &mut [Request], node: usize, request: &Request) {
        for i in self.path(node) {
            usage[i].add(request);
        }
    }
}

fn node(owner: QuotaOwner, parent: Option<usize>, quota: &Limits, max: &Limits, weight: u32) -> QuotaNode {
    QuotaNode { owner, parent, nominal: quota.clone(), ceiling: max.clone(), weight: weight.max(1) }
}

/// A cohort that would be above itself is at the top instead.
fn cut_rings(nodes: &mut [QuotaNode], first_cohort: usize) {
    for start in first_cohort..nodes.len() {
        let mut at = start;
        for _ in 0..nodes.len() {
            let Some(parent) = nodes[at].parent else { break };
            if parent == start {
                nodes[start].parent = None;
                break;
            }
            at = parent;
        }
    }
}

fn upwards(nodes: &[QuotaNode]) -> Vec<usize> {
    let depth = |i: usize| std::iter::successors(nodes[i].parent, |p| nodes[*p].parent).count();
    let mut order: Vec<usize> = (0..nodes.len()).collect();
    order.sort_by_key(|i| std::cmp::Reverse(depth(*i)));
    order
}

/// From what each node was given to what it is guaranteed and may use at most.
fn resolve(nodes: &mut [QuotaNode], upwards: &[usize]) {
    let root = |nodes: &[QuotaNode], i: usize| {
        std::iter::successors(Some(i), |n| nodes[*n].parent).last().unwrap_or(i)
    };
    let mut governed: HashMap<usize, BTreeSet<String>> = HashMap::new();
    for i in 0..nodes.len() {
        let named = nodes[i].nominal.bounds().map(|(name, _)| name.to_owned());
        governed.entry(root(nodes, i)).or_default().extend(named);
    }
    for &i in upwards {
        for name in &governed[&root(nodes, i)] {
            let own = nodes[i].nominal.limit(name).unwrap_or(0);
            nodes[i].nominal.set(name, own);
        }
        let own = nodes[i].nominal.clone();
        match nodes[i].parent {
            Some(parent) => lend(&mut nodes[parent].nominal, &own),
            None => own.bounds().for_each(|(name, total)| {
                let max = nodes[i].ceiling.limit(name).unwrap_or(u64::MAX);
                nodes[i].ceiling.set(name, total.min(max));
            }),
        }
    }
}

/// Adds a member's nominal quota to its cohort's.
fn lend(cohort: &mut Limits, member: &Limits) {
    for (name, amount) in member.bounds() {
        cohort.set(name, cohort.limit(name).unwrap_or(0).saturating_add(amount));
    }
}

/// Something wrong with a declaration of teams and cohorts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaFault {
    /// Whose declaration.
    pub owner: QuotaOwner,
    /// The field: `cohort`, `parent` or `max`.
    pub field: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
}

/// Everything that is wrong with these teams and cohorts as a whole.
pub fn faults(teams: &[Team], cohorts: &[Cohort]) -> Vec<QuotaFault> {
    let known: BTreeSet<&CohortId> = cohorts.iter().map(|c| &c.id).collect();
    let parents: HashMap<&CohortId, Option<&CohortId>> =
        cohorts.iter().map(|c| (&c.id, c.parent.as_ref())).collect();
    let mut found = Vec::new();
    let absent =
        |id: &CohortId| format!("there is no cohort {id}: add [[cohort]] id = \"{id}\", or name another");
    for t in teams {
        let owner = QuotaOwner::Team(t.id.clone());
        match &t.cohort {
            Some(id) if !known.contains(id) => {
                found.push(QuotaFault { owner: owner.clone(), field: "cohort", message: absent(id) });
            }
            None if t.max != Limits::default() => found.push(QuotaFault {
                owner: owner.clone(),
                field: "max",
                message: "without a cohort there is nobody to borrow from: put the bounds into quota"
                    .to_owned(),
            }),
            _ => {}
        }
        found.extend(below_nominal(&owner, &t.quota, &t.max));
    }
    for c in cohorts {
        let owner = QuotaOwner::Cohort(c.id.clone());
        let mut above = std::iter::successors(c.parent.as_ref(), |id| parents.get(id).copied().flatten());
        let message = match &c.parent {
            Some(id) if !known.contains(id) => Some(absent(id)),
            Some(_) if above.by_ref().take(cohorts.len() + 1).any(|id| *id == c.id) => Some(format!(
                "cohort {} would be inside itself: give one of them another parent, or none",
                c.id
            )),
            _ => None,
        };
        found.extend(message.map(|message| QuotaFault { owner, field: "parent", message }));
    }
    found
}

fn below_nominal(owner: &QuotaOwner, quota: &Limits, max: &Limits) -> Option<QuotaFault> {
    let (name, _) = max.bounds().find(|(name, max)| quota.limit(name).is_some_and(|q| q > *max))?;
    let message =
        format!("{name} is below the nominal quota: a team may always use that; raise max or lower quota");
    Some(QuotaFault { owner: owner.clone(), field: "max", message })
}

#[cfg(test)]
#[path = "quota_tests.rs"]
mod tests;
