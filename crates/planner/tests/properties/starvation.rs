//! No starvation: however many small jobs arrive, and whoever's turn it would be, a wide job starts by its bound.

use proptest::collection::vec;
use proptest::prelude::*;
use yard_domain::job::{QueueOrder, shape_of};
use yard_domain::{
    Capacity, Cluster, ClusterHealth, ClusterSelector, Cohort, Limits, Request, Team, TeamId, Timestamp,
};
use yard_planner::{ClusterView, Group, Parts, Policy, TeamView};

use super::config;
use crate::model::Rounds;
use crate::model::generate::{NOW, hours, priority, request};

/// Longest run timeout of any job here, in hours.
const RUN_MAX: u64 = 4;
const CPUS: u64 = 4;

/// What the adversary does.
#[derive(Debug, Clone)]
struct Game {
    /// How many other teams have wide jobs that are older.
    older: usize,
    /// How many such jobs each of them has: the next one is the head when the one before has started.
    depth: usize,
    /// CPUs of the wide jobs, the last one being that which must not starve.
    widths: Vec<u64>,
    /// Small teams' jobs: CPUs and run timeout; each comes again and again.
    small: Vec<(u64, u64)>,
    /// What the wide job's team has used lately: as long as it has used more, it is never its turn.
    past: u64,
    /// Whether quota or the cluster is what is short.
    by_quota: bool,
    /// What runs at the start: hours left.
    open: Vec<u64>,
    reservations: u32,
    seed: u64,
}

prop_compose! {
    fn game()(older in 0usize..3, depth in 1usize..3, widths in vec(2..=CPUS, 3), small in vec((1u64..3, 1..=RUN_MAX), 1..4), past in 0u64..20,
        by_quota: bool, open in vec(1..=RUN_MAX, 1..=usize::try_from(CPUS).unwrap()), seed: u64) -> Game {
        Game { older, depth, widths, small, past, by_quota, open, reservations: 16, seed }
    }
}

fn group(team: &TeamId, cpu: u64, run: u64) -> Group {
    let request = request(cpu, 0, 0);
    let clusters = ClusterSelector::default();
    Group {
        team: team.clone(),
        shape: shape_of(&request, &clusters, hours(run)),
        request,
        clusters,
        run_timeout: hours(run),
        expected_run: hours(run),
        orders: Vec::new(),
    }
}

fn team(name: &str) -> TeamView {
    let team = Team { cohort: Some("all".parse().unwrap()), ..Team::new(name.parse().unwrap()) };
    TeamView { team, used: Request::default(), past: Request::default() }
}

impl Game {
    fn wide(&self) -> TeamId {
        format!("wide{}", self.older).parse().unwrap()
    }

    /// The first moment: some small jobs run, the wide ones wait, the oldest first.
    fn start(&self) -> Rounds {
        let mut cluster = Cluster::new("c".parse().unwrap(), "process");
        let cpus = if self.by_quota { 100 } else { CPUS };
        cluster.capacity = Some(Capacity(Request { jobs: 1_000, ..request(cpus, 0, 0) }));
        cluster.health = ClusterHealth::Ready;
        let quota = if self.by_quota {
            Limits { cpu_milli: Some(CPUS * 1_000), ..Limits::default() }
        } else {
            Limits::default()
        };
        let mut parts = Parts {
            cohorts: vec![Cohort { quota, ..Cohort::new("all".parse().unwrap()) }],
            clusters: vec![ClusterView { cluster, used: Request::default() }],
            ..Parts::default()
        };
        for i in 0..=self.older {
            parts.teams.push(team(&format!("wide{i}")));
        }
        for i in 0..self.small.len() {
            parts.teams.push(team(&format!("small{i}")));
        }
        parts.teams[self.older].past = Request { jobs: 0, ..request(self.past, 0, 0) };
        let mut rounds = Rounds::new(
            parts,
            Policy { reservations_max: self.reservations, ..Policy::default() },
            NOW,
            self.seed,
        );
        for run in &self.open {
            rounds.submit(group(&"small0".parse().unwrap(), 1, *run), QueueOrder::new(priority(0), 0));
        }
        let plan = rounds.plan().unwrap();
        rounds.apply(&plan);
        for i in 0..=self.older {
            let jobs = if i < self.older { self.depth } else { 1 };
            for j in 0..jobs {
                let accepted = NOW.as_micros() - 1_000_000 + i64::try_from(i * 10 + j).unwrap();
                let group = group(&format!("wide{i}").parse().unwrap(), self.widths[i], RUN_MAX);
                rounds.submit(group, QueueOrder::new(priority(0), accepted));
            }
        }
        rounds
    }

    /// Plays until the wide job starts. How long it waited; `Err`: longer than `bound`, or a plan was wrong.
    fn play(&self, bound: u64) -> Result<std::time::Duration, String> {
        let mut rounds = self.start();
        let mut arrivals = 0;
        loop {
            for (i, (cpu, run)) in self.small.iter().enumerate() {
                // There is always a small job that waits; it is younger than the wide ones.
                let team: TeamId = format!("small{i}").parse().unwrap();
                arrivals += 1;
                if rounds.parts.groups.iter().filter(|g| g.team == team).all(|g| g.orders.is_empty()) {
                    let order = QueueOrder::new(priority(0), NOW.as_micros() + arrivals);
                    rounds.submit(group(&team, *cpu, *run), order);
                }
            }
            let plan = rounds.plan()?;
            rounds.apply(&plan);
            if plan.placements.iter().any(|p| p.team == self.wide()) {
                return Ok(rounds.now.since(NOW));
            }
            if plan.placements.is_empty() && !rounds.pass_to_next_end() {
                return Err("nothing runs, and still it waits".to_owned());
            }
            if rounds.now > Timestamp::plus(NOW, hours(bound)) {
                return Err(format!("it still waits after {:?}", rounds.now.since(NOW)));
            }
        }
    }
}

proptest! {
    #![proptest_config(config(200))]

    /// The head of a team starts at the latest after (older jobs that are or become blocked heads + 2) × the longest run
    /// timeout.
    #[test]
    fn a_wide_job_starts_by_its_bound(game in game()) {
        let bound = ((game.older * game.depth) as u64 + 2) * RUN_MAX;
        let waited = game.play(bound);
        prop_assert!(waited.is_ok(), "{:?} after a bound of {} h", waited, bound);
    }
}

/// That the game can be lost: without reservations, one small team is enough.
#[test]
fn without_reservations_a_wide_job_starves() {
    let game = Game {
        older: 0,
        depth: 1,
        widths: vec![CPUS; 3],
        small: vec![(1, 1), (1, 2), (1, 3)],
        past: 10,
        by_quota: false,
        open: vec![1, 2, 3, 4],
        reservations: 0,
        seed: 1,
    };
    assert!(game.play(100 * RUN_MAX).unwrap_err().contains("still waits"));
}
