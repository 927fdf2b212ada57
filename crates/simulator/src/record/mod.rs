//! What is measured while a simulation runs.
//!
//! - *Waits* are from acceptance to the first placement.
//! - *Utilisation* is what is charged, of a cluster's capacity, averaged over time.
//! - Averages and plots cover the *window*: from the first arrival until nothing more arrives and nothing waits for the
//!   first time. What runs after that only ends.
//! - The *starvation age* is how long the longest waiting head (the first job of a team that may be placed) has waited since
//!   it came, or came back, into the queue. Looked at before every pass, so its maximum is exact.

mod fair;
mod series;

use std::time::Duration;

use yard_domain::retry::Budget;
use yard_domain::{ClusterId, Outcome, Policy, QuotaTree, Timestamp};
use yard_planner::PreemptionCause;

use crate::audit::Audit;
use crate::engine::{ClusterState, TeamState};
use crate::model::{Model, Trouble};
use crate::number::whole;
use crate::report::{
    Age, Audited, ClusterLine, Error, Jobs, Over, Preemptions, Report, ResourceUse, Retries, Runs, TeamLine,
    Waits,
};
use fair::Fairness;
use series::{Grid, Series};

/// Counts of one team and class.
#[derive(Debug, Clone, Default)]
struct Tally {
    arrived: u64,
    turned_away: u64,
    /// Microseconds.
    waits: Vec<u64>,
    succeeded: u64,
    failed: u64,
    expired: u64,
}

/// Of one cluster: its resources, each with its whole and its use over time.
#[derive(Debug)]
struct Watched {
    id: ClusterId,
    elastic: bool,
    resources: Vec<(String, u64, Series)>,
    present: Option<Series>,
}

#[derive(Debug)]
struct Watch {
    team: String,
    weight: u32,
    share: Series,
    fair: Series,
    preempted: u64,
    lost: Duration,
}

/// Writes everything down.
#[derive(Debug)]
pub(crate) struct Recorder {
    grid: Grid,
    fairness: Fairness,
    clusters: Vec<Watched>,
    teams: Vec<Watch>,
    classes: Vec<String>,
    /// By team, then class.
    tallies: Vec<Vec<Tally>>,
    error: Series,
    age: Series,
    waiting: Series,
    running: Series,
    oldest: Duration,
    retries: Retries,
    preemptions: Preemptions,
    placements: u64,
    incidents: Vec<(f64, String)>,
    notes: Vec<String>,
    start: Timestamp,
    last: Timestamp,
    last_end: Timestamp,
    closed: bool,
}

impl Recorder {
    pub(crate) fn new(
        teams: &[TeamState],
        clusters: &[ClusterState],
        quota: &QuotaTree,
        policy: &Policy,
        notes: Vec<String>,
    ) -> Self {
        let watched = |c: &ClusterState| {
            let capacity = c.cluster.capacity.iter().flat_map(|c| c.0.amounts());
            let known = capacity.filter(|(name, amount)| *amount > 0 && *name != "jobs");
            Watched {
                id: c.cluster.id.clone(),
                elastic: c.cluster.elastic.is_some(),
                resources: known.map(|(name, whole)| (name.to_owned(), whole, Series::default())).collect(),
                present: c.cluster.elastic.as_ref().map(|_| Series::default()),
            }
        };
        let watch = |t: &TeamState| Watch {
            team: t.team.id.to_string(),
            weight: t.team.weight,
            share: Series::default(),
            fair: Series::default(),
            preempted: 0,
            lost: Duration::ZERO,
        };
        let classes: Vec<String> = policy.classes.iter().map(|c| c.id.to_string()).collect();
        Self {
            grid: Grid::new(),
            fairness: Fairness::new(teams, clusters, quota),
            clusters: clusters.iter().map(watched).collect(),
            teams: teams.iter().map(watch).collect(),
            tallies: vec![vec![Tally::default(); classes.len()]; teams.len()],
            classes,
            error: Series::default(),
            age: Series::default(),
            waiting: Series::default(),
            running: Series::default(),
            oldest: Duration::ZERO,
            retries: Retries::default(),
            preemptions: Preemptions::default(),
            placements: 0,
            incidents: Vec::new(),
            notes,
            start: Timestamp::from_micros(0),
            last: Timestamp::from_micros(0),
            last_end: Timestamp::from_micros(0),
            closed: false,
        }
    }

    pub(crate) fn begin(&mut self, at: Timestamp) {
        (self.start, self.last, self.last_end) = (at, at, at);
        self.grid.begin(at);
    }

    /// The window is over.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// Everything was as it is now until `now`.
    pub(crate) fn advance(
        &mut self,
        now: Timestamp,
        teams: &[TeamState],
        clusters: &[ClusterState],
        waiting: u64,
        open: u64,
    ) {
        if self.closed {
            return;
        }
        let of_clusters = self
            .clusters
            .iter_mut()
            .flat_map(|c| c.resources.iter_mut().map(|r| &mut r.2).chain(&mut c.present));
        let of_teams = self.teams.iter_mut().flat_map(|t| [&mut t.share, &mut t.fair]);
        let own = [&mut self.error, &mut self.age, &mut self.waiting, &mut self.running];
        self.grid.reach(now, of_clusters.chain(of_teams).chain(own));
        let (from, grid) = (self.last, &self.grid);
        for (watched, state) in self.clusters.iter_mut().zip(clusters) {
            for (name, whole, series) in &mut watched.resources {
                grid.integrate(series, from, now, state.used.amount(name) as f64 / *whole as f64);
            }
            if let (Some(series), Some((name, whole, _))) = (&mut watched.present, main(&watched.resources)) {
                grid.integrate(series, from, now, state.present().amount(name) as f64 / *whole as f64);
            }
        }
        grid.integrate(&mut self.waiting, from, now, waiting as f64);
        grid.integrate(&mut self.running, from, now, open as f64);
        if let Some(at) = self.grid.sampling_point(now) {
            let shares = self.fairness.now(teams);
            self.grid.sample(&mut self.error, at, shares.error);
            for (team, (share, fair)) in self.teams.iter_mut().zip(shares.share.iter().zip(&shares.fair)) {
                self.grid.sample(&mut team.share, at, *share);
                self.grid.sample(&mut team.fair, at, *fair);
            }
            self.grid.sample(&mut self.age, at, oldest_head(at, teams).as_secs_f64());
        }
        self.last = now;
    }

    /// A pass is about to be made.
    pub(crate) fn heads(&mut self, now: Timestamp, teams: &[TeamState]) {
        let oldest = oldest_head(now, teams);
        self.oldest = self.oldest.max(oldest);
        if !self.closed {
            self.grid.sample(&mut self.age, now, oldest.as_secs_f64());
        }
    }

    pub(crate) fn arrived(&mut self, team: usize, class: usize) {
        self.tallies[team][class].arrived += 1;
    }

    pub(crate) fn turned_away(&mut self, team: usize, class: usize) {
        self.tallies[team][class].turned_away += 1;
    }

    /// `waited`: of its first attempt.
    pub(crate) fn placed(&mut self, team: usize, class: usize, waited: Option<Duration>) {
        self.placements += 1;
        let micros = waited.map(|w| u64::try_from(w.as_micros()).unwrap_or(u64::MAX));
        self.tallies[team][class].waits.extend(micros);
    }

    pub(crate) fn ended(&mut self, now: Timestamp, team: usize, class: usize, outcome: &Outcome) {
        self.last_end = now;
        let tally = &mut self.tallies[team][class];
        match outcome {
            Outcome::Succeeded => tally.succeeded += 1,
            Outcome::Failed(_) | Outcome::Stopped => tally.failed += 1,
            Outcome::Expired => tally.expired += 1,
        }
    }

    pub(crate) fn retried(&mut self, budget: Budget) {
        match budget {
            Budget::Own => self.retries.own += 1,
            Budget::Infra => self.retries.infra += 1,
            Budget::Free => self.retries.preempted += 1,
            Budget::Never => {}
        }
    }

    pub(crate) fn preemption_asked(&mut self, cause: PreemptionCause) {
        match cause {
            PreemptionCause::Reclaim => self.preemptions.reclaim += 1,
            PreemptionCause::HigherClass => self.preemptions.higher_class += 1,
        }
    }

    pub(crate) fn preempted(&mut self, team: usize, lost: Duration) {
        self.preemptions.carried_out += 1;
        self.preemptions.lost_run_s += lost.as_secs_f64();
        self.teams[team].preempted += 1;
        self.teams[team].lost += lost;
    }

    pub(crate) fn incident(&mut self, at: Timestamp, cluster: &ClusterId, trouble: Trouble) {
        self.incidents.push((at.since(self.start).as_secs_f64(), format!("{cluster}: {}", trouble.code())));
    }

    pub(crate) fn report(
        mut self,
        model: &Model,
        audit: &Audit,
        (passes, considered): (u64, u64),
        (waiting, open): (u64, u64),
    ) -> Report {
        let mut all = Vec::new();
        let mut classes: Vec<(String, Vec<u64>, u64)> =
            self.classes.iter().map(|c| (c.clone(), Vec::new(), 0)).collect();
        let mut jobs = Jobs { waiting, open, ..Jobs::default() };
        let mut teams = Vec::new();
        for (watch, tallies) in self.teams.iter().zip(&mut self.tallies) {
            let mut of_team = Vec::new();
            let mut count = 0;
            for (tally, class) in tallies.iter_mut().zip(&mut classes) {
                jobs.count(tally.arrived, tally.turned_away, (tally.succeeded, tally.failed, tally.expired));
                let taken = tally.arrived - tally.turned_away;
                count += taken;
                class.2 += taken;
                class.1.extend(&tally.waits);
                of_team.append(&mut tally.waits);
            }
            all.extend(&of_team);
            teams.push(TeamLine {
                team: watch.team.clone(),
                weight: watch.weight,
                waits: waits(of_team, count),
                share: watch.share.mean(),
                fair_share: watch.fair.mean(),
                preempted: watch.preempted,
                lost_run_s: watch.lost.as_secs_f64(),
            });
        }
        let classes =
            classes.into_iter().map(|(class, waited, taken)| (class, waits(waited, taken))).collect();
        let total = jobs.arrived - jobs.turned_away;
        Report {
            seed: model.seed,
            jobs,
            runs: Runs {
                window_s: self.last.since(self.start).as_secs_f64(),
                whole_s: self.last_end.since(self.start).as_secs_f64(),
                passes,
                considered,
                placements: self.placements,
            },
            clusters: self.clusters.iter().map(cluster_line).collect(),
            waits: waits(all, total),
            teams,
            classes,
            share_error: Error { mean: self.error.mean(), max: self.error.max() },
            starvation: Age { max_s: self.oldest.as_secs_f64() },
            preemptions: self.preemptions,
            retries: self.retries,
            audit: Audited { violations: audit.violations(), first: audit.told().to_vec() },
            over_time: Over {
                bucket_s: self.grid.width().as_secs_f64(),
                share_error: self.error.means(),
                starvation_s: self.age.maxima(),
                waiting: self.waiting.means(),
                open: self.running.means(),
                incidents: self.incidents,
            },
            notes: self.notes,
            wall: None,
        }
    }
}

fn oldest_head(now: Timestamp, teams: &[TeamState]) -> Duration {
    teams.iter().filter_map(TeamState::head_waits_since).map(|at| now.since(at)).max().unwrap_or_default()
}

/// The resource that a cluster is plotted by: gpus, if it has any; else the first it has.
fn main(resources: &[(String, u64, Series)]) -> Option<&(String, u64, Series)> {
    resources.iter().find(|(name, ..)| name == "gpu").or(resources.first())
}

fn cluster_line(watched: &Watched) -> ClusterLine {
    let main = main(&watched.resources);
    let used = |(name, whole, series): &(String, u64, Series)| ResourceUse {
        resource: name.clone(),
        whole: *whole,
        mean: series.mean(),
        max: series.max(),
    };
    ClusterLine {
        cluster: watched.id.to_string(),
        elastic: watched.elastic,
        plotted: main.map(|m| m.0.clone()).unwrap_or_default(),
        over_time: main.map(|m| m.2.means()).unwrap_or_default(),
        present: watched.present.as_ref().map(Series::mean),
        resources: watched.resources.iter().map(used).collect(),
    }
}

/// Quantiles by the nearest rank: the smallest wait that at least such a share of the waits does not exceed.
fn waits(mut micros: Vec<u64>, jobs: u64) -> Waits {
    micros.sort_unstable();
    let seconds = |micros: u64| micros as f64 / 1e6;
    let started = micros.len() as u64;
    let at = |p: f64| {
        // A hair less, so that 0.07 × 100 is 7 and not a little more.
        let rank = usize::try_from(whole((p * micros.len() as f64 - 1e-9).ceil())).unwrap_or(usize::MAX);
        micros.get(rank.saturating_sub(1)).copied().map_or(0.0, seconds)
    };
    let sum: f64 = micros.iter().copied().map(seconds).sum();
    Waits {
        jobs,
        never_started: jobs.saturating_sub(started),
        mean_s: if started > 0 { sum / started as f64 } else { 0.0 },
        p50_s: at(0.5),
        p95_s: at(0.95),
        p99_s: at(0.99),
        max_s: micros.last().copied().map_or(0.0, seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_ranks() {
        let seconds = |n: u64| (1..=n).rev().map(|s| s * 1_000_000).collect::<Vec<u64>>();
        let hundred = waits(seconds(100), 101);
        let got = [hundred.p50_s, hundred.p95_s, hundred.p99_s, hundred.max_s, hundred.mean_s];
        for (got, want) in got.into_iter().zip([50.0, 95.0, 99.0, 100.0, 50.5]) {
            assert!((got - want).abs() < 1e-9, "{hundred:?}");
        }
        assert_eq!(hundred.never_started, 1);
        assert!((waits(seconds(1), 1).p99_s - 1.0).abs() < 1e-9);
        assert!(waits(Vec::new(), 3).max_s.abs() < 1e-9);
        assert!((waits(seconds(3), 3).p50_s - 2.0).abs() < 1e-9);
    }
}
