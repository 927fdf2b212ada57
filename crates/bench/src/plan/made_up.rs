//! Made-up work of the size that the planner is built for: unlike clusters, teams in nested cohorts, a deep queue.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use yard_domain::job::{Priority, QueueOrder, shape_of};
use yard_domain::policy::PriorityClass;
use yard_domain::{
    AttemptNumber, Capacity, Cluster, ClusterHealth, ClusterSelector, Cohort, JobId, Limits, Request, Team,
    Timestamp,
};
use yard_planner::{ClusterView, Group, Parts, Running, TeamView};

use crate::Result;

/// When the passes are made, in microseconds.
pub const NOW: i64 = 1_795_386_645_000_000;
const GPU_TYPES: [&str; 3] = ["A100", "H100", "L4"];
const REGIONS: [&str; 4] = ["east", "west", "north", "south"];

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Jobs in the queue.
    pub jobs: usize,
    /// Clusters.
    pub clusters: usize,
    /// Teams.
    pub teams: usize,
    /// Unlike shapes.
    pub shapes: usize,
    /// How full the clusters are, in hundredths.
    pub percent: u64,
}

/// The parts of a snapshot of this size.
pub fn parts(size: Size) -> Result<Parts> {
    let mut random = Random(SmallRng::seed_from_u64(1));
    let kinds = kinds(&mut random, size.shapes);
    let mut clusters = clusters(&mut random, size.clusters)?;
    let (mut teams, cohorts) = teams(&mut random, size.teams)?;
    let open = &kinds[..kinds.len().min(300)];
    let running = fill(&mut random, open, size.percent, &mut teams, &mut clusters)?;
    let groups = queue(&mut random, &kinds, &teams, size.jobs)?;
    Ok(Parts { teams, cohorts, clusters, groups, running })
}

struct Random(SmallRng);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0.random_range(0..n.max(1))
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// What jobs ask for: `kinds` unlike ones.
struct Kind {
    request: Request,
    clusters: ClusterSelector,
    run: Duration,
}

fn kinds(random: &mut Random, kinds: usize) -> Vec<Kind> {
    let kind = |i: usize| {
        let cpu = random.of(&[1, 1, 2, 4, 4, 8, 16]) * 1_000 + i as u64 % 997;
        let mut request = Request { cpu_milli: cpu, memory_bytes: cpu << 21, jobs: 1, ..Request::default() };
        if i.is_multiple_of(2) {
            let gpus = random.of(&[1, 1, 1, 2, 4, 8]) * 1_000;
            request.gpu_milli = gpus;
            request.custom_milli = BTreeMap::from([(random.of(&GPU_TYPES).to_owned(), gpus)]);
        }
        let mut clusters = ClusterSelector::default();
        if i.is_multiple_of(5) {
            clusters.labels = BTreeMap::from([("region".to_owned(), random.of(&REGIONS).to_owned())]);
        }
        if i.is_multiple_of(7) {
            clusters.prefer = BTreeMap::from([("region".to_owned(), random.of(&REGIONS).to_owned())]);
        }
        let run = Duration::from_secs(60 * random.of(&[10, 60, 240, 1_440]) + i as u64 / 997);
        Kind { request, clusters, run }
    };
    (0..kinds).map(kind).collect()
}

fn clusters(random: &mut Random, n: usize) -> Result<Vec<ClusterView>> {
    let view = |i: usize| {
        let (cpus, gpus) = (1_000 + 100 * random.below(20) as u64, 64 * random.below(5) as u64);
        let custom_milli = BTreeMap::from([(GPU_TYPES[i % 3].to_owned(), (gpus * 1_000).max(1))]);
        let capacity = Request {
            cpu_milli: cpus * 1_000,
            gpu_milli: gpus * 1_000,
            memory_bytes: cpus << 31,
            jobs: 600,
            custom_milli,
        };
        let cluster = Cluster {
            labels: BTreeMap::from([("region".to_owned(), REGIONS[i % 4].to_owned())]),
            capacity: Some(Capacity(capacity)),
            health: ClusterHealth::Ready,
            cost_per_hour_micro: Some(1_000_000 * (1 + random.below(9) as u64)),
            recent_failures: u32::try_from(random.below(3)).unwrap_or(0),
            ..Cluster::new(format!("cluster-{i:03}").parse()?, "null")
        };
        Ok(ClusterView { cluster, used: Request::default() })
    };
    (0..n).map(view).collect()
}

/// Teams of 25 in departments, departments in five divisions.
fn teams(random: &mut Random, n: usize) -> Result<(Vec<TeamView>, Vec<Cohort>)> {
    let departments = n.div_ceil(25);
    let named = |kind: &str, i: usize| format!("{kind}-{i:04}").parse::<yard_domain::CohortId>();
    let mut cohorts = Vec::new();
    for i in 0..5 {
        cohorts.push(Cohort::new(named("division", i)?));
    }
    for d in 0..departments {
        let parent = Some(named("division", d % 5)?);
        cohorts.push(Cohort { parent, ..Cohort::new(named("department", d)?) });
    }
    let team = |i: usize| {
        let quota = Limits {
            cpu_milli: Some(1_000 * (150 + random.below(200) as u64)),
            gpu_milli: Some(1_000 * (4 + random.below(32) as u64)),
            ..Limits::default()
        };
        let team = Team {
            cohort: Some(named("department", i % departments)?),
            quota,
            weight: 1 + u32::try_from(random.below(3)).unwrap_or(0),
            ..Team::new(format!("team-{i:05}").parse()?)
        };
        Ok(TeamView { team, used: Request::default(), past: Request::default() })
    };
    let teams = (0..n).map(team).collect::<Result<_>>()?;
    Ok((teams, cohorts))
}

fn allows(view: &ClusterView, request: &Request, percent: u64) -> bool {
    let Some(capacity) = &view.cluster.capacity else { return false };
    let part = |amount: u64| amount / 100 * percent;
    let whole = &capacity.0;
    let mut bound = Request {
        cpu_milli: part(whole.cpu_milli),
        gpu_milli: part(whole.gpu_milli),
        memory_bytes: part(whole.memory_bytes),
        jobs: part(whole.jobs),
        ..Request::default()
    };
    for (name, amount) in &whole.custom_milli {
        bound.set(name, part(*amount));
    }
    Capacity(bound).allows(&view.used, request).is_ok()
}

/// Fills the clusters to about so many hundredths.
fn fill(
    random: &mut Random,
    kinds: &[Kind],
    percent: u64,
    teams: &mut [TeamView],
    clusters: &mut [ClusterView],
) -> Result<Vec<Running>> {
    let mut running = Vec::new();
    let mut misses = 0;
    while misses < 1_000 {
        let kind = &kinds[random.below(kinds.len())];
        let (t, c) = (random.below(teams.len()), random.below(clusters.len()));
        if !allows(&clusters[c], &kind.request, percent) {
            misses += 1;
            continue;
        }
        misses = 0;
        teams[t].used.add(&kind.request);
        clusters[c].used.add(&kind.request);
        let minutes = 1 + random.below(600) as u64;
        let ends_by = Timestamp::from_micros(NOW).plus(Duration::from_secs(60 * minutes));
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&(running.len() as u64).to_be_bytes());
        running.push(Running {
            job: JobId::new(1_795_000_000_000, bytes),
            attempt: AttemptNumber(1),
            team: teams[t].team.id.clone(),
            shape: shape_of(&kind.request, &kind.clusters, kind.run),
            cluster: clusters[c].cluster.id.clone(),
            request: kind.request.clone(),
            priority: Priority::new(random.of(&[0, 0, 100])).ok_or("a priority out of range")?,
            started: Some(Timestamp::from_micros(NOW - 60_000_000)),
            ends_by,
            expected_end: Timestamp::from_micros(NOW).plus(Duration::from_secs(40 * minutes)),
            leaving: false,
        });
    }
    Ok(running)
}

fn queue(random: &mut Random, kinds: &[Kind], teams: &[TeamView], jobs: usize) -> Result<Vec<Group>> {
    let mut groups: BTreeMap<(usize, usize), Group> = BTreeMap::new();
    for (i, age) in (0..jobs).zip((0i64..).step_by(1_000)) {
        let t = random.below(teams.len());
        let k = if kinds.len() >= jobs { i } else { random.below(kinds.len()) };
        let kind = &kinds[k];
        let group = groups.entry((t, k)).or_insert_with(|| Group {
            team: teams[t].team.id.clone(),
            shape: shape_of(&kind.request, &kind.clusters, kind.run),
            request: kind.request.clone(),
            clusters: kind.clusters.clone(),
            run_timeout: kind.run,
            expected_run: kind.run / 3,
            orders: Vec::new(),
        });
        let priority = Priority::new(random.of(&[0, 0, 0, 100])).ok_or("a priority out of range")?;
        group.orders.push(QueueOrder::new(priority, NOW - 3_600_000_000 + age));
    }
    Ok(groups.into_values().collect())
}

/// Two classes, of which the higher may have the lower stopped.
pub fn classes() -> Result<Vec<PriorityClass>> {
    let class = |(id, priority, preempts, preemptible): (&str, i64, bool, bool)| {
        let priority = Priority::new(priority).ok_or("a priority out of range")?;
        Ok(PriorityClass { id: id.parse()?, priority, preempts, preemptible })
    };
    [("high", 100, true, false), ("normal", -1_000, false, true)].into_iter().map(class).collect()
}
