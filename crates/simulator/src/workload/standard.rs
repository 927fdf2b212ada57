//! The standard run: 15 teams with unequal shares on 4 unlike clusters, arrivals and run times as fitted in [`super::fit`].
//!
//! What the published figures do not say is assumed here, in one place:
//! - Ten-minute bins are independent of each other; inside one, arrivals are evenly spread.
//! - What a bin has beyond its 95th percentile comes from one team: bursts are somebody's sweep.
//! - A job's shape does not depend on its run time, nor on its team.
//! - Run timeouts are guesses: the next step of a ladder above one and a half times the run.
//! - Requests follow [`SHAPES`]: 13.3 % without a gpu, 37.8 % a fraction, 48 % one, 0.9 % 2 to 8. (The classes of the
//!   published 8,152 pods; how much cpu and memory goes with them is ours.)

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use yard_domain::policy::PriorityClass;
use yard_domain::{
    Capacity, Catalog, Cluster, ClusterSelector, Cohort, CohortId, Elastic, Limits, Policy, Priority,
    Request, Team, TeamId, Timestamp,
};

use super::SimJob;
use super::fit::Quantiles;
use crate::number::{index, seconds, whole};

/// The width of the bins that arrivals are counted in.
const BIN: Duration = Duration::from_mins(10);
/// Arrivals of a bin beyond this many (its 95th percentile) are one team's.
const BURST_FROM: u64 = 23;

/// (share in thousandths, cpu, gpu in thousandths, memory in GiB).
pub const SHAPES: [(u32, u64, u64, u64); 10] = [
    (83, 4, 0, 16),
    (50, 16, 0, 64),
    (90, 2, 250, 16),
    (120, 4, 500, 32),
    (168, 6, 750, 48),
    (360, 8, 1_000, 64),
    (120, 12, 1_000, 96),
    (2, 16, 2_000, 128),
    (2, 32, 4_000, 256),
    (5, 64, 8_000, 512),
];

/// (name, cohort, weight, nominal gpus, share of the arrivals in thousandths).
const TEAMS: [(&str, &str, u32, u64, u32); 15] = [
    ("ads", "product", 4, 30, 180),
    ("bio", "research", 1, 10, 20),
    ("eval", "research", 2, 10, 60),
    ("feed", "product", 3, 20, 120),
    ("growth", "product", 1, 5, 30),
    ("infra", "product", 2, 10, 50),
    ("labs", "research", 4, 34, 150),
    ("mail", "product", 1, 5, 20),
    ("maps", "product", 2, 14, 60),
    ("rank", "product", 3, 20, 90),
    ("risk", "product", 1, 8, 20),
    ("robotics", "research", 2, 17, 40),
    ("search", "product", 4, 29, 80),
    ("speech", "research", 2, 20, 50),
    ("vision", "research", 3, 24, 30),
];

/// (priority, share in thousandths).
const PRIORITIES: [(i64, u32); 3] = [(100, 100), (0, 700), (-100, 200)];

/// Seconds.
const TIMEOUTS: [u64; 7] = [3_600, 14_400, 43_200, 86_400, 259_200, 604_800, 1_209_600];

/// How much of the workload to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// So many jobs.
    Jobs(u64),
    /// All that arrive in so long.
    Span(Duration),
}

/// The catalog of the standard run.
pub fn catalog() -> Catalog {
    let class = |id: &str, priority, preempts, preemptible| {
        let priority = Priority::new(priority)?;
        Some(PriorityClass { id: id.parse().ok()?, priority, preempts, preemptible })
    };
    let classes =
        [class("high", 100, true, false), class("normal", 0, false, false), class("low", -100, false, true)];
    let policy = Policy {
        half_life: Some(Duration::from_hours(24)),
        classes: classes.into_iter().flatten().collect(),
        ..Policy::default()
    };
    let cohort = |id: &str, parent: Option<&str>| {
        let parent: Option<CohortId> = parent.and_then(|p| p.parse().ok());
        Some(Cohort { parent, ..Cohort::new(id.parse().ok()?) })
    };
    let cohorts =
        [cohort("company", None), cohort("product", Some("company")), cohort("research", Some("company"))];
    let teams = TEAMS.iter().filter_map(|(id, cohort, weight, gpus, _)| {
        let quota = Limits { gpu_milli: Some(gpus * 1_000), ..Limits::default() };
        let team = Team::new(id.parse().ok()?);
        Some(Team { cohort: cohort.parse().ok(), quota, weight: *weight, ..team })
    });
    Catalog {
        teams: teams.collect(),
        cohorts: cohorts.into_iter().flatten().collect(),
        clusters: clusters(),
        policy,
    }
}

fn clusters() -> Vec<Cluster> {
    let cluster = |id: &str, (cpu, gpu, memory_gib): (u64, u64, u64), label: &str, cost: u64| {
        let capacity = Request {
            cpu_milli: cpu * 1_000,
            gpu_milli: gpu * 1_000,
            memory_bytes: memory_gib << 30,
            jobs: 400,
            ..Request::default()
        };
        Some(Cluster {
            labels: BTreeMap::from([("gpu-type".to_owned(), label.to_owned())]),
            capacity: Some(Capacity(capacity)),
            cost_per_hour_micro: Some(cost * 1_000_000),
            ..Cluster::new(id.parse().ok()?, "ray")
        })
    };
    let mut burst = cluster("burst", (384, 32, 3_072), "a10", 60);
    if let Some(burst) = &mut burst {
        burst.elastic = Some(Elastic { present: None, delay: Duration::from_mins(5) });
    }
    [
        burst,
        cluster("east", (1_280, 120, 10_240), "a100", 300),
        cluster("north", (640, 64, 5_120), "t4", 40),
        cluster("west", (640, 40, 5_120), "h100", 250),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The jobs of the standard run, made as they are asked for.
#[derive(Debug)]
pub struct Standard {
    rng: Xoshiro256PlusPlus,
    arrivals: Quantiles,
    run_times: Quantiles,
    teams: Vec<TeamId>,
    next_bin: Timestamp,
    /// Those of the current bin, last first.
    bin: Vec<SimJob>,
    jobs_left: u64,
    until: Timestamp,
}

impl Standard {
    /// Arrivals begin at `start`.
    pub fn new(seed: u64, start: Timestamp, size: Size) -> Self {
        let (jobs_left, until) = match size {
            Size::Jobs(n) => (n, Timestamp::from_micros(i64::MAX)),
            Size::Span(span) => (u64::MAX, start.plus(span)),
        };
        Self {
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            arrivals: Quantiles::arrivals(),
            run_times: Quantiles::run_times(),
            teams: TEAMS.iter().filter_map(|t| t.0.parse().ok()).collect(),
            next_bin: start,
            bin: Vec::new(),
            jobs_left,
            until,
        }
    }

    fn fill_bin(&mut self) {
        let start = self.next_bin;
        self.next_bin = start.plus(BIN);
        let count = whole(self.arrivals.at(self.rng.random()));
        let burst_team = self.pick(&TEAMS.map(|t| t.4));
        for i in 0..count {
            let team = if i < BURST_FROM { self.pick(&TEAMS.map(|t| t.4)) } else { burst_team };
            let at = start.plus(seconds(self.rng.random_range(0.0..BIN.as_secs_f64())));
            let job = self.job(at, team);
            self.bin.push(job);
        }
        self.bin.sort_by_key(|job| std::cmp::Reverse(job.at));
    }

    fn job(&mut self, at: Timestamp, team: usize) -> SimJob {
        let (_, cpu, gpu_milli, memory_gib) = SHAPES[self.pick(&SHAPES.map(|s| s.0))];
        let run = self.run_times.at(self.rng.random());
        let guess = whole(run * 1.5);
        let timeout = TIMEOUTS.into_iter().find(|t| *t >= guess).unwrap_or(TIMEOUTS[TIMEOUTS.len() - 1]);
        let (priority, _) = PRIORITIES[self.pick(&PRIORITIES.map(|p| p.1))];
        SimJob {
            at,
            team: self.teams[team].clone(),
            priority: Priority::new(priority).unwrap_or_default(),
            request: Request {
                cpu_milli: cpu * 1_000,
                gpu_milli,
                memory_bytes: memory_gib << 30,
                jobs: 1,
                ..Request::default()
            },
            clusters: ClusterSelector::default(),
            run: seconds(run),
            run_timeout: Duration::from_secs(timeout),
            queue_timeout: Duration::from_hours(24 * 30),
            max_retries: 1,
        }
    }

    /// An index, by the shares given.
    fn pick<const N: usize>(&mut self, shares: &[u32; N]) -> usize {
        let total: u32 = shares.iter().sum();
        let mut at = index(self.rng.random(), total as usize);
        for (i, share) in shares.iter().enumerate() {
            if at < *share as usize {
                return i;
            }
            at -= *share as usize;
        }
        N - 1
    }
}

impl Iterator for Standard {
    type Item = SimJob;

    fn next(&mut self) -> Option<SimJob> {
        while self.bin.is_empty() && self.jobs_left > 0 && self.next_bin < self.until {
            self.fill_bin();
        }
        if self.jobs_left == 0 {
            return None;
        }
        self.jobs_left -= 1;
        self.bin.pop().filter(|job| job.at < self.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantile(sorted: &[f64], p: f64) -> f64 {
        sorted[index(p, sorted.len())]
    }

    /// What docs/simulate.md states: over 26,000 bins, medians and p90/p95 within 5 % (counts: within one), p99 within
    /// 15 %, nothing above the maximum.
    #[test]
    fn generated_quantiles_match_the_published_ones() {
        let start = Timestamp::from_micros(0);
        let span = BIN * 26_000;
        let jobs: Vec<SimJob> = Standard::new(7, start, Size::Span(span)).collect();
        let mut bins = vec![0.0; 26_000];
        for job in &jobs {
            bins[usize::try_from(job.at.since(start).as_secs() / BIN.as_secs()).unwrap()] += 1.0;
        }
        bins.sort_by(f64::total_cmp);
        for (p, want, tolerance) in [(0.5, 4.0, 0.0), (0.95, 23.0, 1.0), (0.99, 127.0, 19.0)] {
            let got = quantile(&bins, p);
            assert!((got - want).abs() <= tolerance, "p{p} of arrivals is {got}, not {want}");
        }
        let max = bins.last().copied().unwrap();
        assert!((1_000.0..=3_475.0).contains(&max), "the largest bin has {max}");
        let mut runs: Vec<f64> = jobs.iter().map(|j| j.run.as_secs_f64()).collect();
        runs.sort_by(f64::total_cmp);
        for (p, want, tolerance) in [(0.5, 1_186.0, 0.05), (0.9, 12_860.0, 0.05), (0.99, 287_333.0, 0.15)] {
            let got = quantile(&runs, p);
            assert!((got / want - 1.0).abs() <= tolerance, "p{p} of run times is {got}, not {want}");
        }
    }

    #[test]
    fn requests_are_mostly_one_gpu_or_a_fraction() {
        let jobs: Vec<SimJob> = Standard::new(3, Timestamp::from_micros(0), Size::Jobs(50_000)).collect();
        assert_eq!(jobs.len(), 50_000);
        assert!(jobs.is_sorted_by_key(|j| j.at));
        let share = |of: &dyn Fn(u64) -> bool| {
            jobs.iter().filter(|j| of(j.request.gpu_milli)).count() as f64 / jobs.len() as f64
        };
        for (what, got, want) in [
            ("none", share(&|g| g == 0), 0.133),
            ("a fraction", share(&|g| g > 0 && g < 1_000), 0.378),
            ("one", share(&|g| g == 1_000), 0.48),
            ("more", share(&|g| g > 1_000), 0.009),
        ] {
            assert!((got - want).abs() < 0.01, "{what}: {got}, not {want}");
        }
        assert!(jobs.iter().all(|j| j.run <= j.run_timeout));
    }

    #[test]
    fn the_catalog_is_sound() {
        let catalog = catalog();
        assert_eq!((catalog.teams.len(), catalog.clusters.len(), catalog.faults()), (15, 4, Vec::new()));
        assert_eq!(TEAMS.iter().map(|t| t.4).sum::<u32>(), 1_000);
        assert_eq!(SHAPES.iter().map(|s| s.0).sum::<u32>(), 1_000);
        let gpus: u64 = catalog.clusters.iter().filter_map(|c| Some(c.capacity.as_ref()?.0.gpu_milli)).sum();
        assert_eq!(
            TEAMS.iter().map(|t| t.3).sum::<u64>() * 1_000,
            gpus,
            "what is guaranteed is what is there"
        );
    }
}
