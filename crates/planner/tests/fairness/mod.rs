//! The planner's end state against the exact weighted DRF allocation, on cases whose demand looks divisible: many equal
//! small jobs of every team, more than there is room for.
//!
//! How near it must come. The planner gives the next job to whoever has the smallest share *before* that job, so of any
//! two siblings i and j with weights w, `(n_i - 1) / w_i <= n_j / w_j` (jobs of one size). Summed over j: nobody gets
//! more than its exact share plus one job. Summed over i: nobody gets less than its exact share minus
//! `(k - 1) · w_j / W` jobs (k siblings, W the sum of weights): one job or less, unless one team has most of the
//! weight. With jobs of unlike sizes, "one job" is the largest of them, and what is left over at the end may be filled
//! by whoever still fits.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use yard_domain::job::{QueueOrder, shape_of};
use yard_domain::{Capacity, Cluster, ClusterHealth, ClusterSelector, Cohort, Limits, Request, Team};
use yard_planner::{ClusterView, Group, Parts, Policy, Snapshot, TeamView, plan};

use crate::model::generate::{NOW, hours, priority};
use crate::properties::config;

mod exact;
use exact::{Demand, Fraction, Vessel, flat, pour, two_levels};

const JOBS: usize = 150;

fn request(asks: &[i128]) -> Request {
    let milli = |n: i128| u64::try_from(n).unwrap() * 1_000;
    Request {
        cpu_milli: milli(asks[0]),
        gpu_milli: milli(asks.get(1).copied().unwrap_or(0)),
        jobs: 1,
        ..Request::default()
    }
}

fn cluster(totals: &[i128]) -> ClusterView {
    let mut cluster = Cluster::new("c".parse().unwrap(), "process");
    cluster.capacity = Some(Capacity(Request { jobs: 100_000, ..request(totals) }));
    cluster.health = ClusterHealth::Ready;
    ClusterView { cluster, used: Request::default() }
}

fn team(i: usize, weight: i128, cohort: Option<usize>) -> TeamView {
    let mut team = Team::new(format!("t{i}").parse().unwrap());
    team.weight = u32::try_from(weight).unwrap();
    team.cohort = cohort.map(|k| format!("k{k}").parse().unwrap());
    TeamView { team, used: Request::default(), past: Request::default() }
}

fn cohort(i: usize, weight: i128) -> Cohort {
    Cohort { weight: u32::try_from(weight).unwrap(), ..Cohort::new(format!("k{i}").parse().unwrap()) }
}

fn group(i: usize, asks: &[i128], jobs: usize) -> Group {
    let request = request(asks);
    let clusters = ClusterSelector::default();
    Group {
        team: format!("t{i}").parse().unwrap(),
        shape: shape_of(&request, &clusters, hours(1)),
        request,
        clusters,
        run_timeout: hours(1),
        expected_run: hours(1),
        orders: (0..i64::try_from(jobs).unwrap()).map(|n| QueueOrder::new(priority(0), n)).collect(),
    }
}

/// How many jobs of each team are placed.
fn placed(parts: Parts, seed: u64) -> Vec<i128> {
    let teams = parts.teams.len();
    let policy = Policy { placements_max: 100_000, ..Policy::default() };
    let mut counts: BTreeMap<String, i128> = BTreeMap::new();
    for p in plan(&Snapshot::new(parts), &policy, NOW, seed).placements {
        *counts.entry(p.team.to_string()).or_default() += 1;
    }
    (0..teams).map(|i| counts.get(&format!("t{i}")).copied().unwrap_or(0)).collect()
}

/// Whether `got` is within the tolerances of the exact number of jobs.
fn near(got: i128, exact: Fraction, less: Fraction, more: Fraction) -> bool {
    let got = Fraction::whole(got);
    exact.minus(less) <= got && got <= exact.plus(more)
}

/// The most that a team may be short by, in jobs of one size: see the top.
fn shortfall(weights: &[i128], i: usize) -> Fraction {
    shortfall_beside(weights, &vec![true; weights.len()], i)
}

/// The same where only some of the siblings get more than what they start with: only their weights count.
fn shortfall_beside(weights: &[i128], filling: &[bool], i: usize) -> Fraction {
    let siblings = i128::try_from(weights.len()).unwrap();
    let all = weights.iter().zip(filling).filter(|(_, filling)| **filling).map(|(w, _)| w).sum::<i128>();
    Fraction((siblings - 1) * weights[i], all.max(1)).max(Fraction::whole(1))
}

proptest! {
    #![proptest_config(config(60))]

    /// One resource, jobs of one size, any weights.
    #[test]
    fn equal_jobs_are_shared_by_weight(weights in vec(1i128..6, 1..6), size in 1i128..4, room in 5i128..100, seed: u64) {
        let parts = Parts {
            teams: weights.iter().enumerate().map(|(i, w)| team(i, *w, None)).collect(),
            clusters: vec![cluster(&[room * size])],
            groups: (0..weights.len()).map(|i| group(i, &[size], JOBS)).collect(),
            ..Parts::default()
        };
        let demands: Vec<Demand> = weights.iter().map(|w| Demand { weight: *w, asks: vec![size] }).collect();
        let exact = flat(&[room * size], &demands);
        let got = placed(parts, seed);
        for i in 0..weights.len() {
            prop_assert!(near(got[i], exact[i], shortfall(&weights, i), Fraction::whole(1)), "{got:?} {exact:?}");
        }
    }

    /// Two resources, each team with its own shape of job, weights: dominant shares are even to within one job.
    #[test]
    fn unlike_jobs_have_even_dominant_shares(
        raw in vec((1i128..3, 1i128..4, 0i128..4), 1..4), totals in (60i128..120, 60i128..120), seed: u64,
    ) {
        let totals = [totals.0, totals.1];
        let demands: Vec<Demand> =
            raw.iter().map(|(weight, cpu, gpu)| Demand { weight: *weight, asks: vec![*cpu, *gpu] }).collect();
        let parts = Parts {
            teams: raw.iter().enumerate().map(|(i, (w, ..))| team(i, *w, None)).collect(),
            clusters: vec![cluster(&totals)],
            groups: demands.iter().enumerate().map(|(i, d)| group(i, &d.asks, JOBS)).collect(),
            ..Parts::default()
        };
        let exact = flat(&totals, &demands);
        let got = placed(parts, seed);
        // Every team's last job may come before all the others' or after: that is one job of each, in whichever resource
        // is used up.
        for (i, d) in demands.iter().enumerate() {
            let rounds = (0..2).filter(|r| d.asks[*r] > 0).map(|r| {
                let round: i128 = demands.iter().map(|d| d.asks[r]).sum();
                Fraction(round, d.asks[r])
            });
            let less = rounds.max().unwrap();
            prop_assert!(near(got[i], exact[i], less, Fraction::whole(JOBS as i128)), "{got:?} {exact:?}");
        }
        // And nobody is a whole job ahead of anybody with jobs that are no larger.
        let share = |i: usize, jobs: i128| {
            let of = |r: usize| Fraction(jobs * demands[i].asks[r], totals[r] * demands[i].weight);
            of(0).max(of(1))
        };
        for i in 0..demands.len() {
            for j in 0..demands.len() {
                // Whenever i's last job was placed, j's smaller one would have fitted too.
                let smaller = demands[j].asks.iter().zip(&demands[i].asks).all(|(of_j, of_i)| of_j <= of_i);
                let too_early = share(i, (got[i] - 1).max(0)) > share(j, got[j]).plus(Fraction(4, 1_000_000));
                prop_assert!(!(smaller && too_early), "{i} before {j}: {got:?} {exact:?}");
            }
        }
    }

    /// Two levels: cohorts by weight, teams inside by weight.
    #[test]
    fn cohorts_share_by_weight_and_teams_inside_them(
        tree in vec((1i128..4, vec(1i128..4, 1..4)), 1..4), asks in (1i128..3, 1i128..3), room in 20i128..120, seed: u64,
    ) {
        let asks = vec![asks.0, asks.1];
        let totals = [asks[0] * room, asks[1] * room];
        let mut parts = Parts { clusters: vec![cluster(&totals)], ..Parts::default() };
        let mut cohorts = Vec::new();
        for (k, (weight, teams)) in tree.iter().enumerate() {
            parts.cohorts.push(cohort(k, *weight));
            for w in teams {
                let i = parts.teams.len();
                parts.teams.push(team(i, *w, Some(k)));
                parts.groups.push(group(i, &asks, JOBS));
            }
            cohorts.push((*weight, teams.iter().map(|w| Demand { weight: *w, asks: asks.clone() }).collect()));
        }
        let exact = two_levels(&totals, &cohorts);
        let got = placed(parts, seed);
        let tops: Vec<i128> = tree.iter().map(|(w, _)| *w).collect();
        let mut first = 0;
        for (k, (_, teams)) in tree.iter().enumerate() {
            let of_cohort = &got[first..first + teams.len()];
            let exact_sum = exact[k].iter().copied().fold(Fraction::whole(0), Fraction::plus);
            let sum: i128 = of_cohort.iter().sum();
            prop_assert!(near(sum, exact_sum, shortfall(&tops, k), Fraction::whole(1)), "{got:?} {exact:?}");
            // Inside: against what the cohort has got.
            let weights: i128 = teams.iter().sum();
            for (i, w) in teams.iter().enumerate() {
                let share = Fraction(sum * w, weights);
                prop_assert!(near(of_cohort[i], share, shortfall(teams, i), Fraction::whole(1)), "{got:?} {exact:?}");
            }
            first += teams.len();
        }
    }

    /// A cohort with quotas: each has its nominal share for certain, and what the cohort has beside is shared by weight.
    #[test]
    fn what_is_lent_is_shared_by_weight(
        raw in vec((1i128..4, 0i128..15), 2..5), spare in 0i128..40, seed: u64,
    ) {
        let total = spare + raw.iter().map(|(_, quota)| quota).sum::<i128>();
        prop_assume!(total > 0);
        let cpu = |n: i128| Limits { cpu_milli: Some(u64::try_from(n).unwrap() * 1_000), ..Limits::default() };
        let mut parts = Parts { clusters: vec![cluster(&[1_000])], ..Parts::default() };
        parts.cohorts.push(Cohort { quota: cpu(spare), ..cohort(0, 1) });
        for (i, (weight, quota)) in raw.iter().enumerate() {
            let mut view = team(i, *weight, Some(0));
            view.team.quota = cpu(*quota);
            parts.teams.push(view);
            parts.groups.push(group(i, &[1], JOBS));
        }
        let vessels: Vec<Vessel> =
            raw.iter().map(|(weight, floor)| Vessel { weight: *weight, floor: *floor, past: 0 }).collect();
        let exact = pour(total, &vessels);
        let got = placed(parts, seed);
        prop_assert_eq!(got.iter().sum::<i128>(), total);
        let weights: Vec<i128> = raw.iter().map(|(w, _)| *w).collect();
        let floor = |v: &Vessel| Fraction::whole(v.floor);
        let filling: Vec<bool> = exact.iter().zip(&vessels).map(|(x, v)| *x > floor(v)).collect();
        for (i, (_, quota)) in raw.iter().enumerate() {
            prop_assert!(got[i] >= *quota, "less than its quota: {got:?} {exact:?}");
            prop_assert!(near(got[i], exact[i], shortfall_beside(&weights, &filling, i), Fraction::whole(1)), "{got:?} {exact:?}");
        }
    }

    /// Who has used more in the past gets less, until past and present together are even.
    #[test]
    fn past_use_is_made_up_for(raw in vec((1i128..4, 0i128..30), 2..5), room in 10i128..120, seed: u64) {
        let mut parts = Parts { clusters: vec![cluster(&[room])], ..Parts::default() };
        for (i, (weight, past)) in raw.iter().enumerate() {
            let mut view = team(i, *weight, None);
            view.past = Request { jobs: 0, ..self::request(&[*past]) };
            parts.teams.push(view);
            parts.groups.push(group(i, &[1], JOBS));
        }
        let vessels: Vec<Vessel> =
            raw.iter().map(|(weight, past)| Vessel { weight: *weight, floor: 0, past: *past }).collect();
        let exact = pour(room, &vessels);
        let got = placed(parts, seed);
        let weights: Vec<i128> = raw.iter().map(|(w, _)| *w).collect();
        let floor = |v: &Vessel| Fraction::whole(v.floor);
        let filling: Vec<bool> = exact.iter().zip(&vessels).map(|(x, v)| *x > floor(v)).collect();
        for i in 0..raw.len() {
            prop_assert!(near(got[i], exact[i], shortfall_beside(&weights, &filling, i), Fraction::whole(1)), "{got:?} {exact:?}");
        }
    }
}
