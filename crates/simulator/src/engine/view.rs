//! The planner's snapshot, kept from pass to pass: only what changed is put in anew.

use std::collections::HashSet;

use yard_domain::{JobId, JobState, Timestamp};
use yard_planner::{ClusterView, Group, Parts, Running, Snapshot, TeamView};

use super::calendar::Attempt;
use super::groups::Groups;
use super::state::{ClusterState, Jobs, TeamState, job_index};
use crate::model::Model;

/// The parts of the last snapshot, and what has become of open attempts since.
#[derive(Debug, Default)]
pub(super) struct View {
    parts: Parts,
    opened: Vec<Attempt>,
    closed: HashSet<JobId>,
    /// Whether the groups were cut off last time, so that they can't be mended.
    cut: bool,
}

impl View {
    /// Teams and clusters in the order of their ids, as everywhere here.
    pub(super) fn new(
        teams: &[TeamState],
        clusters: &[ClusterState],
        cohorts: Vec<yard_domain::Cohort>,
    ) -> Self {
        let team = |t: &TeamState| TeamView {
            team: t.team.clone(),
            used: yard_domain::Request::default(),
            past: yard_domain::Request::default(),
        };
        let cluster = |c: &ClusterState| ClusterView { cluster: c.cluster.clone(), used: c.used.clone() };
        let parts = Parts {
            teams: teams.iter().map(team).collect(),
            clusters: clusters.iter().map(cluster).collect(),
            cohorts,
            ..Parts::default()
        };
        Self { parts, ..Self::default() }
    }

    pub(super) fn opened(&mut self, attempt: Attempt) {
        self.opened.push(attempt);
    }

    pub(super) fn closed(&mut self, job: JobId) {
        self.closed.insert(job);
    }

    /// The snapshot as of now. Give it back with [`View::keep`].
    pub(super) fn snapshot(
        &mut self,
        model: &Model,
        groups: &mut Groups,
        jobs: &Jobs,
        (teams, clusters): (&mut [TeamState], &[ClusterState]),
        now: Timestamp,
    ) -> Snapshot {
        for (view, team) in self.parts.teams.iter_mut().zip(teams) {
            team.count_past(now);
            if view.used != team.used {
                view.used.clone_from(&team.used);
            }
            if let Some(past) = &team.past {
                view.past = past.rounded();
            }
        }
        for (view, state) in self.parts.clusters.iter_mut().zip(clusters) {
            view.used.clone_from(&state.used);
            view.cluster.switch = state.cluster.switch;
            view.cluster.health = state.cluster.health;
            if let (Some(elastic), Some(_)) = (&mut view.cluster.elastic, &state.scaling) {
                elastic.present = Some(yard_domain::Capacity(state.present()));
            }
        }
        self.update_running(groups, jobs, clusters, now);
        self.update_groups(model, groups);
        Snapshot::new(std::mem::take(&mut self.parts))
    }

    pub(super) fn keep(&mut self, snapshot: Snapshot) {
        self.parts = snapshot.into_parts();
    }

    fn update_running(&mut self, groups: &Groups, jobs: &Jobs, clusters: &[ClusterState], now: Timestamp) {
        let running = &mut self.parts.running;
        if !self.closed.is_empty() {
            running.retain(|r| !self.closed.contains(&r.job));
            self.closed.clear();
        }
        for attempt in self.opened.drain(..) {
            let Some(job) = jobs.get(attempt.job) else { continue };
            if job.life.state.open_attempt().is_none_or(|open| open.number != attempt.number) {
                continue;
            }
            let group = &groups.list[job.group];
            running.push(Running {
                job: job.life.id,
                attempt: attempt.number,
                team: job.life.team.clone(),
                shape: group.shape,
                cluster: clusters[job.cluster].cluster.id.clone(),
                request: group.request.clone(),
                priority: job.priority,
                started: None,
                ends_by: now,
                expected_end: now,
                leaving: false,
            });
        }
        for r in running {
            let Some(job) = jobs.get(job_index(r.job)) else { continue };
            let group = &groups.list[job.group];
            r.started = job.started;
            r.leaving = job.life.preempt_requested || job.life.stop_requested;
            r.ends_by = match job.life.state {
                JobState::Running { deadline, .. } => deadline,
                _ => now.plus(group.run_timeout),
            };
            let since = job.started.unwrap_or(now);
            r.expected_end = since.plus(group.expected_run()).max(now).min(r.ends_by);
        }
    }

    fn update_groups(&mut self, model: &Model, groups: &mut Groups) {
        let changed = groups.take_changed();
        let too_many = groups.waiting() > model.groups_max;
        if too_many || self.cut {
            let teams = &self.parts.teams;
            let first = groups.by_head().take(model.groups_max);
            self.parts.groups = first.map(|(_, g)| view_of(groups, g, teams, model.depth)).collect();
            self.cut = too_many;
            return;
        }
        for g in changed {
            let state = &groups.list[g];
            let team = &self.parts.teams[state.team].team.id;
            let found = self.parts.groups.binary_search_by(|v| (&v.team, v.shape).cmp(&(team, state.shape)));
            match (found, state.queue.is_empty()) {
                (Ok(at), true) => _ = self.parts.groups.remove(at),
                (Ok(at), false) => {
                    let view = &mut self.parts.groups[at];
                    view.expected_run = state.expected_run();
                    view.orders.clear();
                    view.orders.extend(state.queue.iter().take(model.depth).map(|(order, _)| *order));
                }
                (Err(at), false) => {
                    let view = view_of(groups, g, &self.parts.teams, model.depth);
                    self.parts.groups.insert(at, view);
                }
                (Err(_), true) => {}
            }
        }
    }
}

fn view_of(groups: &Groups, group: usize, teams: &[TeamView], depth: usize) -> Group {
    let state = &groups.list[group];
    Group {
        team: teams[state.team].team.id.clone(),
        shape: state.shape,
        request: state.request.clone(),
        clusters: state.clusters.clone(),
        run_timeout: state.run_timeout,
        expected_run: state.expected_run(),
        orders: state.queue.iter().take(depth).map(|(order, _)| *order).collect(),
    }
}
