//! An account of its own of what happened, kept from the jobs' events alone: every job ends exactly once or still
//! waits, and nothing is ever placed beyond a capacity or quota. What it finds fails the run.

use std::collections::HashMap;

use yard_domain::{Capacity, Cluster, ClusterId, Event, QuotaTree, Request, TeamId, Timestamp};

/// What an event is about.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// When it happened.
    pub at: Timestamp,
    /// The job, by its number of arrival.
    pub job: u32,
    /// Whose.
    pub team: &'a TeamId,
    /// What it asks for.
    pub request: &'a Request,
}

#[derive(Debug)]
struct Account {
    id: ClusterId,
    capacity: Capacity,
    takes_jobs: bool,
    used: Request,
}

/// The account.
#[derive(Debug)]
pub struct Audit {
    quota: QuotaTree,
    /// What every node of the tree uses.
    usage: Vec<Request>,
    clusters: Vec<Account>,
    /// Where the open attempts are.
    open: HashMap<u32, usize>,
    /// By job: `None` never arrived, `Some(false)` has not ended.
    ended: Vec<Option<bool>>,
    accepted: u64,
    ends: u64,
    violations: u64,
    told: Vec<String>,
    told_max: usize,
}

impl Audit {
    /// Nothing has happened yet. At most `told_max` violations are kept in words.
    pub fn new(quota: QuotaTree, clusters: &[Cluster], told_max: usize) -> Self {
        let account = |c: &Cluster| Account {
            id: c.id.clone(),
            capacity: c.capacity.clone().unwrap_or_default(),
            takes_jobs: c.takes_jobs(),
            used: Request::default(),
        };
        Self {
            usage: vec![Request::default(); quota.nodes().len()],
            quota,
            clusters: clusters.iter().map(account).collect(),
            open: HashMap::new(),
            ended: Vec::new(),
            accepted: 0,
            ends: 0,
            violations: 0,
            told: Vec::new(),
            told_max,
        }
    }

    /// How many rules were broken.
    pub fn violations(&self) -> u64 {
        self.violations
    }

    /// The first of them, in words.
    pub fn told(&self) -> &[String] {
        &self.told
    }

    /// Notes a violation.
    pub fn violated(&mut self, at: Timestamp, what: impl FnOnce() -> String) {
        self.violations += 1;
        if self.told.len() < self.told_max {
            self.told.push(format!("{at}: {}", what()));
        }
    }

    /// Whether a cluster takes jobs from now on.
    pub fn cluster_takes_jobs(&mut self, id: &ClusterId, takes_jobs: bool) {
        for account in self.clusters.iter_mut().filter(|a| a.id == *id) {
            account.takes_jobs = takes_jobs;
        }
    }

    /// Something happened to a job.
    pub fn happened(&mut self, subject: Subject<'_>, event: &Event) {
        let job = subject.job as usize;
        match event {
            Event::Accepted { .. } => {
                if self.ended.len() <= job {
                    self.ended.resize(job + 1, None);
                }
                self.accepted += 1;
                if self.ended[job].replace(false).is_some() {
                    self.violated(subject.at, || format!("job {job} arrived twice"));
                }
            }
            Event::Placed { cluster, .. } => self.placed(subject, cluster),
            Event::Retried { .. } => self.refund(subject),
            Event::Ended { .. } => {
                self.ends += 1;
                match self.ended.get(job).copied().flatten() {
                    Some(false) => self.ended[job] = Some(true),
                    Some(true) => self.violated(subject.at, || format!("job {job} ended twice")),
                    None => self.violated(subject.at, || format!("job {job} ended and never arrived")),
                }
                if self.open.contains_key(&subject.job) {
                    self.refund(subject);
                }
            }
            _ => {}
        }
    }

    fn placed(&mut self, subject: Subject<'_>, cluster: &ClusterId) {
        let Subject { at, job, team, request } = subject;
        let Some(c) = self.clusters.iter().position(|a| a.id == *cluster) else {
            self.violated(at, || format!("job {job} was placed on {cluster}, which is not there"));
            return;
        };
        if self.open.insert(job, c).is_some() {
            self.violated(at, || format!("job {job} was placed while it had an open attempt"));
        }
        if self.ended.get(job as usize).copied().flatten() != Some(false) {
            self.violated(at, || format!("job {job} was placed and does not wait"));
        }
        if !self.clusters[c].takes_jobs {
            self.violated(at, || format!("job {job} was placed on {cluster}, which takes no jobs"));
        }
        if let Err(short) = self.clusters[c].capacity.allows(&self.clusters[c].used, request) {
            self.violated(at, || format!("job {job} was placed on {cluster} beyond its capacity ({short})"));
        }
        self.clusters[c].used.add(request);
        let Some(node) = self.quota.node_of(team) else { return };
        if let Err(short) = self.quota.allows(&self.usage, node, request) {
            self.violated(at, || format!("job {job} of team {team} was placed beyond a quota ({short})"));
        }
        self.quota.charge(&mut self.usage, node, request);
    }

    fn refund(&mut self, subject: Subject<'_>) {
        let Subject { at, job, team, request } = subject;
        let Some(cluster) = self.open.remove(&job) else {
            self.violated(at, || format!("an attempt of job {job} ended that was not open"));
            return;
        };
        let mut short = self.clusters[cluster].used.checked_sub(request).is_err();
        for node in self.quota.node_of(team).into_iter().flat_map(|n| self.quota.path(n)) {
            short |= self.usage[node].checked_sub(request).is_err();
        }
        if short {
            self.violated(at, || format!("the end of job {job} gave back more than was in use"));
        }
    }

    /// At the end: what arrived has ended, or is among the `waiting` and `open` that the engine still has, and nothing
    /// is in use that is not open.
    pub fn finish(&mut self, at: Timestamp, waiting: u64, open: u64) {
        let (accepted, ends) = (self.accepted, self.ends);
        if accepted != ends + waiting + open {
            self.violated(at, || {
                format!("{accepted} jobs arrived, but {ends} ended, {waiting} wait and {open} have an open attempt")
            });
        }
        if open != self.open.len() as u64 {
            let own = self.open.len();
            self.violated(at, || {
                format!("{open} attempts are open, but {own} were placed and have not ended")
            });
        }
        let in_use =
            self.clusters.iter().any(|c| !c.used.is_zero()) || self.usage.iter().any(|u| !u.is_zero());
        if self.open.is_empty() && in_use {
            self.violated(at, || "no attempt is open, but something is in use".to_owned());
        }
    }
}
