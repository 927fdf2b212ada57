//! Who goes before a job, and why.

use std::fmt;

use yard_domain::job::{Priority, QueueOrder};
use yard_domain::{ClassId, ClusterId, TeamId, Timestamp};

use super::Scene;
use crate::{Policy, Snapshot, order};

/// Some who go first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ahead {
    /// Whose jobs.
    pub team: TeamId,
    /// How many of those that the snapshot has; of another team: how many the next pass places.
    pub jobs: u32,
    /// Why they go first.
    pub reason: Reason,
}

/// Why others go first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Jobs of the same team in a higher class.
    HigherClass(ClassId),
    /// Jobs of the same team and class with a higher priority.
    HigherPriority(Priority),
    /// Jobs of the same team and priority that have waited longer.
    Older,
    /// Another team has less of its share.
    LessShare {
        /// Its share for its weight, in millionths of the whole (see [`share`]), before the pass.
        theirs: u64,
        /// The asking team's.
        ours: u64,
    },
    /// Another team has its turns too, though it has as much of its share or more: what it asks for fits.
    ItsTurn {
        /// Its share for its weight, in millionths of the whole.
        theirs: u64,
        /// The asking team's.
        ours: u64,
    },
    /// Room is kept for a job that has waited longer and fits nowhere yet.
    Reserved {
        /// Where.
        cluster: ClusterId,
        /// When it starts at the latest.
        start_by: Timestamp,
    },
}

impl Reason {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::HigherClass(_) => "higher_class",
            Self::HigherPriority(_) => "higher_priority",
            Self::Older => "older",
            Self::LessShare { .. } => "less_share",
            Self::ItsTurn { .. } => "its_turn",
            Self::Reserved { .. } => "reserved",
        }
    }
}

impl fmt::Display for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { team, jobs, reason } = self;
        let these = if *jobs == 1 { "1 job".to_owned() } else { format!("{jobs} jobs") };
        match reason {
            Reason::HigherClass(class) => {
                write!(f, "{these} of the same team are of the higher class {class}")
            }
            Reason::HigherPriority(p) => {
                write!(f, "{these} of the same team have a higher priority (up to {})", p.get())
            }
            Reason::Older => write!(f, "{these} of the same team have waited longer"),
            Reason::LessShare { theirs, ours } => write!(
                f,
                "{these} of team {team} are placed first: for its weight it uses {}, this team {}",
                percent(*theirs),
                percent(*ours)
            ),
            Reason::ItsTurn { theirs, ours } => write!(
                f,
                "{these} of team {team} are placed in the same pass, because they fit (for its weight it uses {}, this \
                 team {})",
                percent(*theirs),
                percent(*ours)
            ),
            Reason::Reserved { cluster, start_by } => {
                write!(f, "room on {cluster} is kept for a job of team {team}, which starts by {start_by}")
            }
        }
    }
}

fn percent(millionths: u64) -> String {
    format!("{}.{}%", millionths / 10_000, millionths % 10_000 / 1_000)
}

/// Who goes before the job: its own team's first, then other teams', then those that room is kept for.
pub(super) fn ahead(scene: &Scene<'_>, policy: &Policy, most: usize) -> Vec<Ahead> {
    let mut list = own(scene, policy);
    list.extend(others(scene));
    list.extend(reserved(scene));
    list.truncate(most);
    list
}

fn own(scene: &Scene<'_>, policy: &Policy) -> Vec<Ahead> {
    let target = scene.target;
    let class = policy.class_of(target.order.priority());
    let (mut higher, mut prior, mut older) = (vec![0u32; class], (0u32, target.order.priority()), 0u32);
    let groups = scene.snapshot.groups.iter().filter(|g| g.team == target.team);
    let before = |o: &&QueueOrder| **o < target.order;
    for order in groups.flat_map(|g| g.orders.iter().take_while(before)) {
        let priority = order.priority();
        match higher.get_mut(policy.class_of(priority)) {
            Some(count) => *count += 1,
            None if priority > target.order.priority() => prior = (prior.0 + 1, prior.1.max(priority)),
            None => older += 1,
        }
    }
    let entry =
        |jobs: u32, reason: Reason| (jobs > 0).then(|| Ahead { team: target.team.clone(), jobs, reason });
    let classes = higher.iter().zip(&policy.classes);
    let mut list: Vec<Ahead> =
        classes.filter_map(|(n, c)| entry(*n, Reason::HigherClass(c.id.clone()))).collect();
    list.extend(entry(prior.0, Reason::HigherPriority(prior.1)));
    list.extend(entry(older, Reason::Older));
    list
}

/// Other teams that the pass gives room, those with the most placements first.
fn others(scene: &Scene<'_>) -> Vec<Ahead> {
    let (snapshot, target) = (scene.snapshot, scene.target);
    let Some(own) = snapshot.quota.node_of(&target.team) else { return Vec::new() };
    let mut counts: std::collections::BTreeMap<&TeamId, u32> = std::collections::BTreeMap::new();
    for p in scene.plan.placements.iter().filter(|p| p.team != target.team) {
        *counts.entry(&p.team).or_default() += 1;
    }
    let entry = |(team, jobs): (&TeamId, u32)| {
        let (theirs, ours) = rivals(snapshot, snapshot.quota.node_of(team)?, own);
        let [theirs, ours] = [theirs, ours].map(|node| share(snapshot, node));
        let reason =
            if theirs < ours { Reason::LessShare { theirs, ours } } else { Reason::ItsTurn { theirs, ours } };
        Some(Ahead { team: team.clone(), jobs, reason })
    };
    let mut list: Vec<Ahead> = counts.into_iter().filter_map(entry).collect();
    list.sort_by_key(|a| std::cmp::Reverse(a.jobs));
    list
}

fn reserved(scene: &Scene<'_>) -> impl Iterator<Item = Ahead> {
    let ours = |r: &&crate::Reservation| r.team == scene.target.team && r.shape == scene.target.shape;
    scene.plan.reservations.iter().filter(move |r| !ours(r)).map(|r| Ahead {
        team: r.team.clone(),
        jobs: 1,
        reason: Reason::Reserved { cluster: r.cluster.clone(), start_by: r.start_by },
    })
}

/// Where the two compete: the nodes on their ways up that lie just below what they have in common.
fn rivals(snapshot: &Snapshot, a: usize, b: usize) -> (usize, usize) {
    let up = |node: usize| {
        let mut path: Vec<usize> = snapshot.quota.path(node).collect();
        path.reverse();
        path
    };
    let (a_down, b_down) = (up(a), up(b));
    let differ = a_down.iter().zip(&b_down).find(|(x, y)| x != y);
    differ.map_or((a, b), |(x, y)| (*x, *y))
}

/// The dominant share of a node of the quota tree for its weight, in millionths, before anything is placed: the largest,
/// over resources, of what it uses (and has used, if the policy remembers) in what there is. What the order between teams
/// goes by.
pub fn share(snapshot: &Snapshot, node: usize) -> u64 {
    let dense = &snapshot.dense;
    let shares = (0..dense.width).map(|r| {
        let at = node * dense.width + r;
        let used = dense.used[dense.clusters * dense.width + at].saturating_add(dense.past[at]);
        order::share(used, dense.total[at], dense.weight[node])
    });
    shares.max().unwrap_or(0)
}
