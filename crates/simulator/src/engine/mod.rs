//! The simulation: events in virtual time, the real state machine, the real planner.
//!
//! A pass is made when something has changed (an arrival, an end, a cluster, a reservation that is due) and the shortest
//! time between passes is over. It plans on the same view that the store gives, places at once what is planned, and asks
//! victims to leave. Nothing corrects the planner: what it places beyond a capacity or quota, [`crate::audit`] finds.
//!
//! Left out: claims that come too late, launch rates and circuit breakers of dispatchers, wishes to stop, submit rates.
//!
//! | file | |
//! |---|---|
//! | `calendar.rs` | what is due when |
//! | `state.rs` | teams, clusters, jobs |
//! | `groups.rs` | what waits, and how long such jobs ran |
//! | `view.rs` | the planner's snapshot, kept from pass to pass |
//! | `pass.rs` | placing and preempting |
//! | `attempts.rs` | what becomes of attempts |
//! | `autoscaler.rs` | elastic clusters |

mod attempts;
mod autoscaler;
mod calendar;
mod groups;
mod pass;
mod state;
mod view;

use std::time::Duration;

use yard_domain::job::{QueueOrder, shape_of};
use yard_domain::lifecycle::TransitionError;
use yard_domain::retry::RetryCounts;
use yard_domain::{
    Catalog, Event, JobState, Lifecycle, Outcome, Policy, QuotaTree, Request, RetryPolicy, Team, TeamId,
    Timestamp,
};
use yard_planner::{Plan, Snapshot};

use crate::audit::{Audit, Subject};
use crate::model::{Incident, Model};
use crate::record::Recorder;
use crate::report::Report;
use crate::workload::SimJob;

use calendar::{Calendar, Due};
use groups::Groups;
pub(crate) use state::{ClusterState, TeamState};
use state::{Job, Jobs, job_id};
use view::View;

/// The planner: [`yard_planner::Promises::plan`], or the same inside something that measures it.
pub type Decide<'p> = dyn FnMut(&Snapshot, &Policy, Timestamp, u64) -> Plan + 'p;

/// A run.
pub struct Simulation<'p> {
    model: Model,
    policy: Policy,
    incidents: Vec<Incident>,
    decide: Box<Decide<'p>>,
    quota: QuotaTree,
    teams: Vec<TeamState>,
    clusters: Vec<ClusterState>,
    groups: Groups,
    jobs: Jobs,
    view: View,
    calendar: Calendar,
    audit: Audit,
    recorder: Recorder,
    now: Timestamp,
    /// Whether something has changed since the last pass.
    changed: bool,
    last_pass: Option<Timestamp>,
    /// When the next reservation is due.
    reservation_due: Option<Timestamp>,
    passes: u64,
    considered: u64,
    /// Jobs that arrived and have not ended: those that wait (backoffs included), those with an open attempt.
    waiting: u64,
    open: u64,
}

impl<'p> Simulation<'p> {
    /// A run of this catalog. `teams` are those of the workload: one that the catalog does not declare gets weight 1 and
    /// no quota, and the report says so. Errors: everything about the catalog that can't be simulated.
    pub fn new(
        catalog: &Catalog,
        teams: impl IntoIterator<Item = TeamId>,
        model: Model,
        incidents: Vec<Incident>,
        decide: Box<Decide<'p>>,
    ) -> Result<Self, Vec<String>> {
        let mut faults: Vec<String> = catalog
            .faults()
            .into_iter()
            .map(|fault| format!("{}: {}: {}", fault.owner, fault.field, fault.message))
            .collect();
        for c in catalog.clusters.iter().filter(|c| c.capacity.is_none()) {
            faults.push(format!(
                "cluster {}: capacity is not stated: a simulation can't ask the cluster; add it",
                c.id
            ));
        }
        for i in incidents.iter().filter(|i| catalog.clusters.iter().all(|c| c.id != i.cluster)) {
            faults.push(format!("incident: there is no cluster {}: name one of the catalog", i.cluster));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let (declared, notes) = with_strangers(&catalog.teams, teams);
        let policy = Policy { placements_max: model.placements_max, ..catalog.policy.clone() };
        let start = Timestamp::from_micros(0);
        let quota = QuotaTree::new(&declared, &catalog.cohorts);
        let mut clusters: Vec<ClusterState> =
            catalog.clusters.iter().cloned().map(ClusterState::new).collect();
        clusters.sort_by(|a, b| a.cluster.id.cmp(&b.cluster.id));
        let teams: Vec<TeamState> = declared.into_iter().map(|t| TeamState::new(t, &policy, start)).collect();
        let known: Vec<_> = clusters.iter().map(|c| c.cluster.clone()).collect();
        Ok(Self {
            view: View::new(&teams, &clusters, catalog.cohorts.clone()),
            audit: Audit::new(quota.clone(), &known, model.violations_max),
            recorder: Recorder::new(&teams, &clusters, &quota, &policy, notes),
            model,
            policy,
            incidents,
            decide,
            quota,
            teams,
            clusters,
            groups: Groups::default(),
            jobs: Jobs::default(),
            calendar: Calendar::default(),
            now: start,
            changed: false,
            last_pass: None,
            reservation_due: None,
            passes: 0,
            considered: 0,
            waiting: 0,
            open: 0,
        })
    }

    /// Runs until every job has ended (or nothing will happen any more to those that wait).
    pub fn run(mut self, workload: impl IntoIterator<Item = SimJob>) -> Report {
        let mut workload = workload.into_iter().peekable();
        if let Some(first) = workload.peek() {
            self.begin(first.at);
        }
        loop {
            let arrival = workload.peek().map(|job| job.at);
            if arrival.is_none() && self.waiting == 0 {
                self.recorder.close();
            }
            let next = [arrival, self.calendar.next_at(), self.pass_due()].into_iter().flatten().min();
            let Some(next) = next else { break };
            if next > self.now {
                self.recorder.advance(next, &self.teams, &self.clusters, self.waiting, self.open);
                self.now = next;
            }
            while let Some(job) = workload.next_if(|job| job.at <= self.now) {
                self.arrive(job);
            }
            while let Some(due) = self.calendar.take(self.now) {
                self.due(due);
            }
            if self.pass_due().is_some_and(|at| at <= self.now) {
                self.pass();
            }
        }
        self.audit.finish(self.now, self.waiting, self.open);
        let (passes, considered) = (self.passes, self.considered);
        self.recorder.report(&self.model, &self.audit, (passes, considered), (self.waiting, self.open))
    }

    fn begin(&mut self, at: Timestamp) {
        self.now = at;
        self.recorder.begin(at);
        for team in &mut self.teams {
            if let Some(past) = &mut team.past {
                past.as_of = at;
            }
        }
        for (i, incident) in self.incidents.iter().enumerate() {
            self.calendar.put(at.plus(incident.after), Due::Incident(i));
        }
    }

    /// When the next pass is to be made, if nothing else happens before.
    fn pass_due(&self) -> Option<Timestamp> {
        if self.groups.is_empty() {
            return None;
        }
        let earliest = self.last_pass.map_or(self.now, |last| last.plus(self.model.pass_interval));
        if self.changed {
            return Some(earliest.max(self.now));
        }
        self.reservation_due.map(|due| due.max(earliest))
    }

    fn arrive(&mut self, job: SimJob) {
        let index = u32::try_from(self.jobs.0.len()).unwrap_or(u32::MAX);
        let Ok(team) = self.teams.binary_search_by(|t| t.team.id.cmp(&job.team)) else {
            // The caller names every team of the workload.
            self.audit.violated(self.now, || format!("team {} was not announced", job.team));
            return;
        };
        let class = self.policy.class_of(job.priority);
        let shape = shape_of(&job.request, &job.clusters, job.run_timeout);
        let group = self.groups.find(team, shape).unwrap_or_else(|| {
            let fits = self.could_fit(team, &job);
            self.groups.add(team, shape, (&job.request, &job.clusters, job.run_timeout), fits)
        });
        self.recorder.arrived(team, class);
        if !self.groups.list[group].fits {
            self.recorder.turned_away(team, class);
            self.jobs.0.push(None);
            return;
        }
        let deadline = self.now.plus(job.queue_timeout);
        let life = Lifecycle {
            id: job_id(self.now, index),
            team: self.teams[team].team.id.clone(),
            request: job.request,
            retry: RetryPolicy { max_retries: job.max_retries },
            queue_timeout: job.queue_timeout,
            run_timeout: job.run_timeout,
            version: 1,
            state: JobState::Queued { not_before: None, deadline },
            stop_requested: false,
            preempt_requested: false,
            attempts: 0,
            counts: RetryCounts::default(),
        };
        let accepted = Event::Accepted { queue_deadline: deadline };
        let request = &life.request;
        self.audit.happened(Subject { at: self.now, job: index, team: &life.team, request }, &accepted);
        self.jobs.0.push(Some(Box::new(Job {
            team,
            group,
            class,
            order: QueueOrder::new(job.priority, self.now.as_micros()),
            priority: job.priority,
            accepted_at: self.now,
            run: job.run,
            cluster: 0,
            started: None,
            life,
        })));
        self.waiting += 1;
        self.enqueue(index, self.now);
        self.calendar.put(deadline, Due::Expires(index, 1));
    }

    /// Whether a job of this kind could run if everything were free: the same question as at the door.
    fn could_fit(&self, team: usize, job: &SimJob) -> bool {
        let nothing = Request::default();
        let somewhere = self.clusters.iter().any(|c| {
            let capacity = c.cluster.capacity.as_ref();
            job.clusters.admits(&c.cluster)
                && capacity.is_some_and(|c| c.allows(&nothing, &job.request).is_ok())
        });
        let free = vec![nothing.clone(); self.quota.nodes().len()];
        somewhere && self.quota.allows(&free, team, &job.request).is_ok()
    }

    /// Puts a queued job where a pass finds it, now or when its backoff is over.
    fn enqueue(&mut self, index: u32, not_before: Timestamp) {
        if not_before > self.now {
            self.calendar.put(not_before, Due::Wakes(index));
            return;
        }
        let Some(job) = self.jobs.get(index) else { return };
        let team = &mut self.teams[job.team];
        team.waiting.insert((job.order, index), self.now);
        team.wanted.add(&job.life.request);
        self.groups.push(job.group, job.order, index);
        self.changed = true;
    }

    /// Applies a decision of the state machine. `false` (and a violation) if it was refused.
    fn apply(&mut self, index: u32, decision: Result<Event, TransitionError>) -> Option<Event> {
        let applied = decision.and_then(|event| {
            let job = self.jobs.get_mut(index);
            job.map_or(Ok(()), |job| job.life.apply(&event)).map(|()| event)
        });
        match applied {
            Ok(event) => {
                let job = self.jobs.get(index)?;
                let subject =
                    Subject { at: self.now, job: index, team: &job.life.team, request: &job.life.request };
                self.audit.happened(subject, &event);
                Some(event)
            }
            Err(refused) => {
                self.audit.violated(self.now, || refused.to_string());
                None
            }
        }
    }

    fn due(&mut self, due: Due) {
        match due {
            Due::Started(attempt) => self.started(attempt),
            Due::Ends(attempt, how) => self.ends(attempt, how),
            Due::Leaves(attempt) => self.leaves(attempt),
            Due::Wakes(index) => {
                let queued = |job: &Job| matches!(job.life.state, JobState::Queued { .. });
                if self.jobs.get(index).is_some_and(queued) {
                    self.enqueue(index, self.now);
                }
            }
            Due::Expires(index, version) => self.expires(index, version),
            Due::Grown(cluster, up_to) => {
                if let Some(scaling) = &mut self.clusters[cluster].scaling {
                    scaling.grown(&up_to, self.now);
                    self.changed = true;
                }
            }
            Due::Idle(cluster) => self.idle(cluster),
            Due::Buried(cluster, death) => {
                if self.clusters[cluster].dead && self.clusters[cluster].deaths == death {
                    self.bury(cluster);
                }
            }
            Due::Incident(incident) => self.incident(incident),
        }
    }

    fn expires(&mut self, index: u32, version: u32) {
        let Some(job) = self.jobs.get(index).filter(|job| job.life.version == version) else { return };
        let decision = job.life.expire(self.now);
        let (team, group, order, class) = (job.team, job.group, job.order, job.class);
        let request = job.life.request.clone();
        if self.apply(index, decision).is_none() {
            return;
        }
        if self.groups.remove(group, order, index) {
            self.leave_queue(team, order, index, &request);
        }
        self.waiting -= 1;
        self.recorder.ended(self.now, team, class, &Outcome::Expired);
        self.jobs.remove(index);
    }

    fn leave_queue(&mut self, team: usize, order: QueueOrder, index: u32, request: &Request) {
        let team = &mut self.teams[team];
        team.waiting.remove(&(order, index));
        if let Err(short) = team.wanted.checked_sub(request) {
            self.audit.violated(self.now, || format!("more left the queue than waited ({short})"));
        }
    }
}

/// The declared teams, by id, with those of the workload that are not among them; and a note on these.
fn with_strangers(declared: &[Team], named: impl IntoIterator<Item = TeamId>) -> (Vec<Team>, Vec<String>) {
    let mut teams = declared.to_vec();
    let mut strangers: Vec<TeamId> =
        named.into_iter().filter(|id| declared.iter().all(|t| t.id != *id)).collect();
    strangers.sort();
    strangers.dedup();
    let notes = if strangers.is_empty() {
        Vec::new()
    } else {
        let names: Vec<_> = strangers.iter().take(10).map(TeamId::to_string).collect();
        let more = if strangers.len() > names.len() { ", …" } else { "" };
        vec![format!(
            "{} teams of the workload are not in the catalog and have weight 1 and no quota: {}{more}",
            strangers.len(),
            names.join(", ")
        )]
    };
    teams.extend(strangers.into_iter().map(Team::new));
    teams.sort_by(|a, b| a.id.cmp(&b.id));
    (teams, notes)
}

/// Long enough that no launch or placement deadline passes: those clocks are not simulated.
const FAR: Duration = Duration::from_hours(24 * 3_650);
