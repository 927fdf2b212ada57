//! What could be different, and a snapshot in which it is.

use std::collections::HashSet;
use std::fmt;

use yard_domain::job::{Priority, QueueOrder, shape_of};
use yard_domain::resources::show_quantity;
use yard_domain::{
    ClassId, Cluster, ClusterHealth, ClusterId, ClusterSwitch, JobId, Limits, QuotaOwner, TeamId, Timestamp,
};

use super::{Target, group_of, names};
use crate::{Group, Parts, Refusal, Snapshot};

/// Something that could be different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A team or cohort has more quota.
    Quota {
        /// Whose.
        owner: QuotaOwner,
        /// How much more; of its `max` too, where that is set.
        extra: Vec<Extra>,
    },
    /// Open attempts have ended.
    Ends(Vec<Ending>),
    /// A cluster takes jobs again.
    Cluster {
        /// Which one.
        cluster: ClusterId,
        /// What is in the way now.
        obstacles: Vec<Obstacle>,
    },
    /// The job has a higher priority.
    Priority {
        /// The least that does.
        priority: Priority,
        /// The class that it falls into, if classes are declared.
        class: Option<ClassId>,
    },
    /// The job asks for less of one resource.
    Request {
        /// Of what.
        resource: String,
        /// How much it asks for now, in the base unit.
        asked: u64,
        /// The most with which it starts.
        amount: u64,
    },
}

/// More of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extra {
    /// Of what.
    pub resource: String,
    /// How much more, in the base unit.
    pub amount: u64,
}

/// The end of an open attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Which job.
    pub job: JobId,
    /// Whose.
    pub team: TeamId,
    /// Where it is.
    pub cluster: ClusterId,
    /// When probably.
    pub expected: Timestamp,
    /// When at the latest.
    pub by: Timestamp,
}

/// What keeps a cluster from taking jobs, and can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Obstacle {
    /// An operator drained it.
    Drained,
    /// It answers, and can't begin anything now.
    NotReady,
    /// It does not answer.
    Unreachable,
    /// It has not answered yet.
    NotSeenYet,
    /// Launches there keep failing.
    BreakerOpen,
}

impl Obstacle {
    /// The code of the refusal that it causes.
    pub fn code(self) -> &'static str {
        match self {
            Self::Drained => Refusal::Drained.code(),
            Self::NotReady => Refusal::NotReady.code(),
            Self::Unreachable => Refusal::Unreachable.code(),
            Self::NotSeenYet => Refusal::NotSeenYet.code(),
            Self::BreakerOpen => Refusal::BreakerOpen.code(),
        }
    }

    /// Everything of the kind that is in a cluster's way.
    pub fn of(cluster: &Cluster) -> Vec<Self> {
        let health = match cluster.health {
            ClusterHealth::Ready => None,
            ClusterHealth::Unknown => Some(Self::NotSeenYet),
            ClusterHealth::NotReady => Some(Self::NotReady),
            ClusterHealth::Unreachable => Some(Self::Unreachable),
        };
        let switch = (cluster.switch == ClusterSwitch::Drained).then_some(Self::Drained);
        let breaker = cluster.breaker_open.then_some(Self::BreakerOpen);
        [switch, health, breaker].into_iter().flatten().collect()
    }
}

impl fmt::Display for Obstacle {
    /// What would have to happen to the cluster.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Drained => "is resumed",
            Self::NotReady => "can begin jobs again",
            Self::Unreachable => "answers again",
            Self::NotSeenYet => "answers",
            Self::BreakerOpen => "takes launches again",
        })
    }
}

impl Change {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Quota { .. } => "more_quota",
            Self::Ends(jobs) if jobs.len() == 1 => "job_ends",
            Self::Ends(_) => "jobs_end",
            Self::Cluster { obstacles, .. } if obstacles[..] == [Obstacle::Drained] => "cluster_resumed",
            Self::Cluster { .. } => "cluster_back",
            Self::Priority { .. } => "higher_priority",
            Self::Request { .. } => "smaller_request",
        }
    }

    /// When it is to be expected by itself.
    pub fn expected(&self) -> Option<Timestamp> {
        match self {
            Self::Ends(jobs) => jobs.iter().map(|j| j.expected).max(),
            _ => None,
        }
    }

    /// A snapshot in which it is so, and the job there.
    pub fn apply(&self, snapshot: &Snapshot, target: &Target) -> (Snapshot, Target) {
        let mut parts = snapshot.clone().into_parts();
        let mut moved = target.clone();
        match self {
            Self::Quota { owner, extra } => raise(&mut parts, snapshot, owner, extra),
            Self::Ends(jobs) => end(&mut parts, jobs),
            Self::Cluster { cluster, .. } => {
                for view in parts.clusters.iter_mut().filter(|c| c.cluster.id == *cluster) {
                    view.cluster.switch = ClusterSwitch::Open;
                    view.cluster.health = ClusterHealth::Ready;
                    view.cluster.breaker_open = false;
                }
            }
            Self::Priority { priority, .. } => {
                let order = QueueOrder::new(*priority, target.order.accepted_at_micros());
                if let Some(group) = group_of(snapshot, target) {
                    take_out(&mut parts.groups[group], target.order);
                    parts.groups[group].orders.push(order);
                }
                moved.order = order;
            }
            Self::Request { resource, amount, .. } => {
                if let Some(group) = group_of(snapshot, target) {
                    let mut own = Group { orders: vec![target.order], ..parts.groups[group].clone() };
                    own.request.set(resource, *amount);
                    own.shape = shape_of(&own.request, &own.clusters, own.run_timeout);
                    moved.shape = own.shape;
                    take_out(&mut parts.groups[group], target.order);
                    join(&mut parts.groups, own);
                }
            }
        }
        (Snapshot::new(parts), moved)
    }
}

fn take_out(group: &mut Group, order: QueueOrder) {
    if let Ok(at) = group.orders.binary_search(&order) {
        group.orders.remove(at);
    }
}

/// Adds jobs to the group of their team and shape, which may not be there yet.
pub(crate) fn join(groups: &mut Vec<Group>, jobs: Group) {
    match groups.iter_mut().find(|g| g.team == jobs.team && g.shape == jobs.shape) {
        Some(group) => group.orders.extend(jobs.orders),
        None => groups.push(jobs),
    }
}

/// Raises what the owner is guaranteed, where its tree governs the resource at all (a quota on a resource that nobody
/// names would be a new bound, not a wider one), and its ceiling where it has one of its own.
fn raise(parts: &mut Parts, snapshot: &Snapshot, owner: &QuotaOwner, extra: &[Extra]) {
    let Some(node) = snapshot.quota.nodes().iter().find(|n| n.owner == *owner) else { return };
    let teams = parts
        .teams
        .iter_mut()
        .map(|t| (QuotaOwner::Team(t.team.id.clone()), &mut t.team.quota, &mut t.team.max));
    let cohorts =
        parts.cohorts.iter_mut().map(|c| (QuotaOwner::Cohort(c.id.clone()), &mut c.quota, &mut c.max));
    let Some((_, quota, max)) = teams.chain(cohorts).find(|(id, _, _)| id == owner) else { return };
    for Extra { resource, amount } in extra {
        let more = |limits: &mut Limits, from: u64| limits.set(resource, from.saturating_add(*amount));
        if node.nominal.limit(resource).is_some() {
            let from = quota.limit(resource).unwrap_or(0);
            more(quota, from);
        }
        if let Some(from) = max.limit(resource) {
            more(max, from);
        }
    }
}

/// Takes open attempts away with what they hold. One that the accounts do not hold any more has ended already.
fn end(parts: &mut Parts, jobs: &[Ending]) {
    let gone: HashSet<JobId> = jobs.iter().map(|j| j.job).collect();
    for running in parts.running.extract_if(.., |r| gone.contains(&r.job)) {
        release(&mut parts.teams, &mut parts.clusters, &running);
    }
}

/// Gives back what an open attempt holds.
pub(crate) fn release(
    teams: &mut [crate::TeamView],
    clusters: &mut [crate::ClusterView],
    running: &crate::Running,
) {
    if let Ok(i) = teams.binary_search_by(|t| t.team.id.cmp(&running.team)) {
        _ = teams[i].used.checked_sub(&running.request);
    }
    if let Ok(i) = clusters.binary_search_by(|c| c.cluster.id.cmp(&running.cluster)) {
        _ = clusters[i].used.checked_sub(&running.request);
    }
}

impl fmt::Display for Change {
    /// The condition, as the end of "it starts …".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quota { owner, extra } => {
                let show = |e: &Extra| format!("+{} {}", show_quantity(&e.resource, e.amount), e.resource);
                let extra: Vec<String> = extra.iter().map(show).collect();
                write!(f, "with {} of quota for {owner}", extra.join(", "))
            }
            Self::Ends(jobs) => match &jobs[..] {
                [one] => {
                    write!(f, "when job {} of team {} on {} ends", one.job, one.team, one.cluster)
                }
                many => {
                    let ids: Vec<JobId> = many.iter().map(|j| j.job).collect();
                    write!(f, "when {} jobs have ended ({})", many.len(), names(&ids))
                }
            },
            Self::Cluster { cluster, obstacles } => {
                let conditions: Vec<String> = obstacles.iter().map(ToString::to_string).collect();
                write!(f, "if {cluster} {}", conditions.join(" and "))
            }
            Self::Priority { priority, class: Some(class) } => {
                write!(f, "with priority class {class} (priority {})", priority.get())
            }
            Self::Priority { priority, class: None } => write!(f, "with priority {}", priority.get()),
            Self::Request { resource, asked, amount } => {
                let show = |v| show_quantity(resource, v);
                write!(f, "if it asked for {} {resource} instead of {}", show(*amount), show(*asked))
            }
        }
    }
}
