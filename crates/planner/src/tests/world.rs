//! Random worlds with cohorts and open attempts, and the state of a world at a later time.

use super::*;
use yard_domain::{AttemptNumber, Cohort, JobId, QuotaTree};

use crate::Running;

pub const MINUTE: Duration = Duration::from_mins(1);

pub fn minutes(n: u64) -> Duration {
    MINUTE * u32::try_from(n).unwrap()
}

pub fn in_minutes(n: u64) -> Timestamp {
    NOW.plus(minutes(n))
}

/// A group whose jobs run for so many minutes at most.
pub fn lasting(group: Group, run: u64) -> Group {
    let run = minutes(run);
    Group {
        shape: shape_of(&group.request, &group.clusters, run),
        run_timeout: run,
        expected_run: run / 2,
        ..group
    }
}

/// An open attempt, already charged to its team and cluster.
pub fn open(parts: &mut Parts, team: usize, cluster: usize, request: &Request, priority: i64, ends: u64) {
    let (team, view) = (&mut parts.teams[team], &mut parts.clusters[cluster]);
    team.used.add(request);
    view.used.add(request);
    let n = u8::try_from(parts.running.len()).unwrap();
    parts.running.push(Running {
        job: JobId::new(1, [n; 10]),
        attempt: AttemptNumber(1),
        team: team.team.id.clone(),
        shape: shape_of(request, &ClusterSelector::default(), RUN),
        cluster: view.cluster.id.clone(),
        request: request.clone(),
        priority: Priority::new(priority).unwrap(),
        started: Some(Timestamp::from_micros(NOW.as_micros() - 60_000_000 * (1 + i64::from(n)))),
        ends_by: in_minutes(ends),
        expected_end: in_minutes(ends / 2),
        leaving: false,
    });
}

pub fn cohort(id: &str, parent: Option<&str>) -> Cohort {
    Cohort { parent: parent.map(|p| p.parse().unwrap()), ..Cohort::new(id.parse().unwrap()) }
}

pub fn member(id: &str, of: &str, cpu: u64) -> TeamView {
    let mut view = team(id, 1, Some(cpu));
    view.team.cohort = Some(of.parse().unwrap());
    view
}

prop_compose! {
    /// Two cohorts under one, teams in and outside them, clusters partly full.
    pub fn any_world()(
        clusters in prop::collection::vec((1u64..8, 0u64..4, 3u64..9), 1..4),
        quotas in prop::collection::vec((prop::option::of(0u64..8), 0usize..4, 1u32..4), 1..5),
        running in prop::collection::vec((0usize..5, 0usize..4, 1u64..4, 0u64..3, 0u64..90, 0i64..2), 0..12),
        groups in prop::collection::vec((0usize..5, 1u64..6, 0u64..3, 0i64..2, 1i64..4, 0i64..100, 1u64..100), 0..8),
    ) -> Parts {
        let clusters = clusters.iter().enumerate()
            .map(|(i, (cpu, gpu, jobs))| cluster(&format!("c{i}"), *cpu, *gpu, *jobs)).collect();
        let teams: Vec<_> = quotas.iter().enumerate().map(|(i, (cpu, of, weight))| {
            let mut view = team(&format!("t{i}"), *weight, *cpu);
            view.team.cohort = ["left", "right", "top"].get(*of).map(|id| id.parse().unwrap());
            view
        }).collect();
        let cohorts = vec![cohort("left", Some("top")), cohort("right", Some("top")), cohort("top", None)];
        let mut parts = Parts { teams, cohorts, clusters, ..Parts::default() };
        for (t, c, cpu, gpu, ends, priority) in running {
            let (t, c, request) = (t % parts.teams.len(), c % parts.clusters.len(), request(cpu, gpu));
            let view = &parts.clusters[c];
            if view.cluster.capacity.as_ref().unwrap().allows(&view.used, &request).is_ok() {
                open(&mut parts, t, c, &request, priority, ends);
            }
        }
        let mut seen = HashMap::new();
        for (t, cpu, gpu, priority, n, age, run) in groups {
            let name = format!("t{}", t % parts.teams.len());
            let g = lasting(group(&name, request(cpu, gpu), priority, age..age + n), run);
            seen.insert((g.team.clone(), g.shape), g);
        }
        parts.groups = seen.into_values().collect();
        parts
    }
}

/// What is in use at a later time, if everything lasts as long as it may.
pub struct Later {
    pub clusters: Vec<Request>,
    pub nodes: Vec<Request>,
}

impl Later {
    /// `extra`: further jobs placed now, by group and cluster.
    pub fn at(snapshot: &Snapshot, plan: &Plan, at: Timestamp, extra: &[(usize, usize)]) -> Self {
        let mut teams: Vec<Request> = snapshot.teams.iter().map(|t| t.used.clone()).collect();
        let mut clusters: Vec<Request> = snapshot.clusters.iter().map(|c| c.used.clone()).collect();
        let cluster = |id| snapshot.clusters.iter().position(|c| c.cluster.id == id).unwrap();
        for run in snapshot.running.iter().filter(|r| r.ends_by.max(NOW) <= at) {
            let team = snapshot.teams.iter().position(|t| t.team.id == run.team).unwrap();
            teams[team].checked_sub(&run.request).unwrap();
            clusters[cluster(run.cluster.clone())].checked_sub(&run.request).unwrap();
        }
        let group =
            |team, shape| snapshot.groups.iter().position(|g| g.team == team && g.shape == shape).unwrap();
        let placed =
            plan.placements.iter().map(|p| (group(p.team.clone(), p.shape), cluster(p.cluster.clone())));
        let mut charge = |g: usize, c: usize| {
            teams[snapshot.team_of(g)].add(&snapshot.groups[g].request);
            clusters[c].add(&snapshot.groups[g].request);
        };
        for (g, c) in placed.chain(extra.iter().copied()) {
            if NOW.plus(snapshot.groups[g].run_timeout) > at {
                charge(g, c);
            }
        }
        for r in &plan.reservations {
            let g = group(r.team.clone(), r.shape);
            if r.start_by <= at && at < r.start_by.plus(snapshot.groups[g].run_timeout) {
                charge(g, cluster(r.cluster.clone()));
            }
        }
        let tree: &QuotaTree = &snapshot.quota;
        let nodes = tree.usage(|id| snapshot.teams.iter().position(|t| t.team.id == *id).map(|i| &teams[i]));
        Self { clusters, nodes }
    }

    /// Whether nothing that this reservation needs is used beyond what there is.
    pub fn holds(&self, snapshot: &Snapshot, reservation: &crate::Reservation) -> bool {
        let c = snapshot.clusters.iter().position(|c| c.cluster.id == reservation.cluster).unwrap();
        let g = snapshot
            .groups
            .iter()
            .find(|g| g.team == reservation.team && g.shape == reservation.shape)
            .unwrap();
        let asked = |request: &Request| {
            let mut of = Request::default();
            for (name, _) in g.request.amounts().filter(|(_, a)| *a > 0) {
                of.set(name, request.amount(name));
            }
            of
        };
        let none = Request::default();
        let fits =
            snapshot.clusters[c].cluster.capacity.as_ref().unwrap().allows(&none, &asked(&self.clusters[c]));
        let node = snapshot.quota.node_of(&reservation.team).unwrap();
        let mut path = snapshot.quota.path(node);
        fits.is_ok()
            && path.all(|n| snapshot.quota.nodes()[n].ceiling.allows(&none, &asked(&self.nodes[n])).is_ok())
    }
}
