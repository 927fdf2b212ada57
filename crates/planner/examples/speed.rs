//! How fast the planner is, on made-up work of the size that it is built for: 100,000 queued jobs, 100 clusters half
//! full (then full), 1,000 teams in nested cohorts.
//!
//! ```text
//! cargo run --release -p yard-planner --example speed [jobs] [clusters] [teams] [runs]
//! ```
//!
//! A *decision* is one queued job that the pass has dealt with: placed, refused, or skipped with its group, because the
//! group's first job was refused (all its jobs ask for the same). Jobs that a pass does not come to, because it has
//! reached `placements_max`, are none. Every time is the smallest of several runs, so that others on the same machine
//! count as little as possible; the median stands beside it, and the smallest time on a processor.

#![expect(clippy::expect_used, reason = "an example stops where its own made-up work is wrong")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use yard_domain::job::{Priority, QueueOrder, shape_of};
use yard_domain::policy::PriorityClass;
use yard_domain::{
    AttemptNumber, Capacity, Cluster, ClusterHealth, ClusterSelector, Cohort, JobId, Limits, Request, Team,
    Timestamp,
};
use yard_planner::{
    ClusterView, Group, Hold, Parts, Plan, Planner, Policy, Running, Snapshot, TeamView, plan,
};

const NOW: i64 = 1_795_386_645_000_000;
const GPU_TYPES: [&str; 3] = ["A100", "H100", "L4"];
const REGIONS: [&str; 4] = ["east", "west", "north", "south"];

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n.max(1) as u64).unwrap_or(0)
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

fn clusters(random: &mut Random, n: usize) -> Vec<ClusterView> {
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
            ..Cluster::new(format!("cluster-{i:03}").parse().expect("a name"), "process")
        };
        ClusterView { cluster, used: Request::default() }
    };
    (0..n).map(view).collect()
}

/// Teams of 25 in departments, departments in five divisions.
fn teams(random: &mut Random, n: usize) -> (Vec<TeamView>, Vec<Cohort>) {
    let departments = n.div_ceil(25);
    let named = |kind: &str, i: usize| format!("{kind}-{i:04}").parse().expect("a name");
    let mut cohorts: Vec<Cohort> = (0..5).map(|i| Cohort::new(named("division", i))).collect();
    for d in 0..departments {
        let parent = Some(named("division", d % 5));
        cohorts.push(Cohort { parent, ..Cohort::new(named("department", d)) });
    }
    let team = |i: usize| {
        let quota = Limits {
            cpu_milli: Some(1_000 * (150 + random.below(200) as u64)),
            gpu_milli: Some(1_000 * (4 + random.below(32) as u64)),
            ..Limits::default()
        };
        let team = Team {
            cohort: Some(named("department", i % departments)),
            quota,
            weight: 1 + u32::try_from(random.below(3)).unwrap_or(0),
            ..Team::new(format!("team-{i:05}").parse().expect("a name"))
        };
        TeamView { team, used: Request::default(), past: Request::default() }
    };
    let teams = (0..n).map(team).collect();
    (teams, cohorts)
}

fn allows(view: &ClusterView, request: &Request, percent: u64) -> bool {
    let capacity = view.cluster.capacity.as_ref().expect("a capacity");
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
fn run(
    random: &mut Random,
    kinds: &[Kind],
    percent: u64,
    teams: &mut [TeamView],
    clusters: &mut [ClusterView],
) -> Vec<Running> {
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
            priority: Priority::new(random.of(&[0, 0, 100])).expect("in range"),
            started: Some(Timestamp::from_micros(NOW - 60_000_000)),
            ends_by,
            expected_end: Timestamp::from_micros(NOW).plus(Duration::from_secs(40 * minutes)),
            leaving: false,
        });
    }
    running
}

fn queue(random: &mut Random, kinds: &[Kind], teams: &[TeamView], jobs: usize) -> Vec<Group> {
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
        let priority = Priority::new(random.of(&[0, 0, 0, 100])).expect("in range");
        group.orders.push(QueueOrder::new(priority, NOW - 3_600_000_000 + age));
    }
    groups.into_values().collect()
}

fn classes() -> Vec<PriorityClass> {
    [("high", 100, true, false), ("normal", -1_000, false, true)]
        .map(|(id, priority, preempts, preemptible)| PriorityClass {
            id: id.parse().expect("a name"),
            priority: Priority::new(priority).expect("in range"),
            preempts,
            preemptible,
        })
        .into()
}

/// Time on a processor so far, as Linux counts it (by the tick, so to a few milliseconds); zero elsewhere.
fn on_processor() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0))
}

/// Smallest and median.
fn timed<T>(runs: usize, mut once: impl FnMut() -> (Duration, T)) -> (Duration, Duration, T) {
    let mut took = Vec::new();
    let mut last = None;
    for _ in 0..runs.max(1) {
        let (time, result) = once();
        took.push(time);
        last = Some(result);
    }
    took.sort_unstable();
    (took[0], took[took.len() / 2], last.expect("at least one run"))
}

fn decisions(snapshot: &Snapshot, plan: &Plan) -> usize {
    let mut left: BTreeMap<_, _> = BTreeMap::new();
    for group in &snapshot.groups {
        left.insert((group.team.as_str(), group.shape), group.orders.len());
    }
    for placed in &plan.placements {
        *left.get_mut(&(placed.team.as_str(), placed.shape)).expect("a group") -= 1;
    }
    let refused = plan.refusals.iter().filter(|r| r.hold != Hold::PassFull);
    plan.placements.len() + refused.map(|r| left[&(r.team.as_str(), r.shape)]).sum::<usize>()
}

fn measure(label: &str, snapshot: &Snapshot, policy: &Policy, runs: usize) {
    let now = Timestamp::from_micros(NOW);
    let mut processor = Duration::MAX;
    let (least, median, made) = timed(runs, || {
        let (start, before) = (Instant::now(), on_processor());
        let made = plan(snapshot, policy, now, 7);
        let took = start.elapsed();
        processor = processor.min(on_processor().saturating_sub(before));
        (took, made)
    });
    let mut planner = Planner::default();
    planner.plan(snapshot, policy, now, 7);
    let (again, _, _) = timed(runs, || {
        let start = Instant::now();
        let made = planner.plan(snapshot, policy, now, 7);
        (start.elapsed(), made)
    });
    let mut copies: Vec<Snapshot> = (0..2).map(|_| Snapshot::new(snapshot.clone().into_parts())).collect();
    let (equal, _, _) = timed(copies.len(), || {
        let copy = copies.pop().expect("one per run");
        let start = Instant::now();
        let made = planner.plan(&copy, policy, now, 7);
        (start.elapsed(), made)
    });
    let dealt = decisions(snapshot, &made);
    println!(
        "{label}\n  pass {:.1} ms (median {:.1}; on a processor {:.0}); nothing changed {:.3} ms (put together anew from equal parts {:.2} ms)",
        ms(least),
        ms(median),
        ms(processor),
        ms(again),
        ms(equal)
    );
    println!(
        "  {} placed, {} groups refused, {} kept room, {} stopped; {dealt} decisions, {:.0} per second",
        made.placements.len(),
        made.refusals.iter().filter(|r| r.hold != Hold::PassFull).count(),
        made.reservations.len(),
        made.preemptions.len(),
        dealt as f64 / least.as_secs_f64()
    );
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn main() {
    let args: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let arg = |i: usize, default| args.get(i).copied().unwrap_or(default);
    let (jobs, n_clusters, n_teams, runs) = (arg(0, 100_000), arg(1, 100), arg(2, 1_000), arg(3, 15));
    let cases = [
        ("300 shapes, half full", 300, 50),
        ("all shapes distinct, half full", jobs, 50),
        ("300 shapes, full", 300, 100),
    ];
    for (label, unlike, percent) in cases {
        let mut random = Random(1);
        let kinds = kinds(&mut random, unlike);
        let mut clusters = clusters(&mut random, n_clusters);
        let (mut teams, cohorts) = teams(&mut random, n_teams);
        let running =
            self::run(&mut random, &kinds[..kinds.len().min(300)], percent, &mut teams, &mut clusters);
        let groups = queue(&mut random, &kinds, &teams, jobs);
        println!(
            "== {jobs} jobs, {n_clusters} clusters, {n_teams} teams, {label}: {} groups, {} running",
            groups.len(),
            running.len()
        );
        let parts = Parts { teams, cohorts, clusters, groups, running };
        let (least, median, snapshot) = timed(runs, || {
            let mut parts = Snapshot::new(Parts { ..clone(&parts) }).into_parts();
            parts.groups.reverse();
            let start = Instant::now();
            let snapshot = Snapshot::new(parts);
            (start.elapsed(), snapshot)
        });
        println!("Snapshot::new {:.1} ms (median {:.1})", ms(least), ms(median));
        for placements_max in [100_000, 1_000] {
            let policy = Policy { placements_max, ..Policy::default() };
            measure(&format!("at most {placements_max} placements"), &snapshot, &policy, runs);
            let policy = Policy { classes: classes(), ..policy };
            measure(
                &format!("at most {placements_max} placements, with preemption"),
                &snapshot,
                &policy,
                runs,
            );
        }
    }
}

fn clone(parts: &Parts) -> Parts {
    Parts {
        teams: parts.teams.clone(),
        cohorts: parts.cohorts.clone(),
        clusters: parts.clusters.clone(),
        groups: parts.groups.clone(),
        running: parts.running.clone(),
    }
}
