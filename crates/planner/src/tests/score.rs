//! Which cluster is chosen: a table per part of the score.

use yard_domain::{Elastic, policy::Scores};

use super::*;

const NOTHING: Scores = Scores {
    fit: Fit::Spread,
    fit_weight: 0,
    cost_weight: 0,
    locality_weight: 0,
    failures_weight: 0,
    queue_weight: 0,
};

/// Where one job goes, of two clusters of which the first is made worse or better.
fn chosen(scores: Scores, clusters: &mut [ClusterView], job: &Group) -> String {
    let policy = Policy { scores, ..policy() };
    let places: Vec<String> = (0..20)
        .map(|seed| {
            let snapshot = snapshot(vec![team("a", 1, None)], clusters.to_vec(), vec![job.clone()]);
            plan(&snapshot, &policy, NOW, seed).placements[0].cluster.to_string()
        })
        .collect();
    if places.iter().all(|p| *p == places[0]) { places[0].clone() } else { "either".into() }
}

fn pair() -> [ClusterView; 2] {
    [cluster("c1", 8, 0, 9), cluster("c2", 8, 0, 9)]
}

fn job() -> Group {
    group("a", request(2, 0), 0, 0..1)
}

#[test]
fn equal_clusters_are_drawn_and_the_one_with_less_in_use_wins_the_draw() {
    assert_eq!(chosen(Scores::default(), &mut pair(), &job()), "either");
    let mut clusters = pair();
    clusters[0].used = request(1, 0);
    assert_eq!(chosen(NOTHING, &mut clusters, &job()), "c2", "two candidates: both are drawn");
}

#[test]
fn fit_spreads_or_packs() {
    let mut clusters = pair();
    clusters[0].used = request(1, 0);
    assert_eq!(chosen(Scores { fit_weight: 1, ..NOTHING }, &mut clusters, &job()), "c2");
    assert_eq!(chosen(Scores { fit: Fit::Pack, fit_weight: 1, ..NOTHING }, &mut clusters, &job()), "c1");
}

#[test]
fn the_dearer_the_worse() {
    let mut clusters = pair();
    clusters[0].cluster.cost_per_hour_micro = Some(2);
    clusters[1].cluster.cost_per_hour_micro = Some(3);
    assert_eq!(chosen(Scores { cost_weight: 1, ..NOTHING }, &mut clusters, &job()), "c1");
    clusters[1].cluster.cost_per_hour_micro = None;
    assert_eq!(chosen(Scores { cost_weight: 1, ..NOTHING }, &mut clusters, &job()), "c2");
}

#[test]
fn labels_preferred_draw_jobs_and_do_not_bind_them() {
    let mut job = job();
    job.clusters.prefer = BTreeMap::from([("name".to_owned(), "c1".to_owned())]);
    let scores = Scores { locality_weight: 1, ..NOTHING };
    assert_eq!(chosen(scores, &mut pair(), &job), "c1");
    let mut clusters = pair();
    clusters[0].used = request(7, 0);
    assert_eq!(chosen(scores, &mut clusters, &job), "c2");
}

#[test]
fn launches_that_failed_count_up_to_ten() {
    let mut clusters = pair();
    clusters[0].cluster.recent_failures = 3;
    let scores = Scores { failures_weight: 1, ..NOTHING };
    assert_eq!(chosen(scores, &mut clusters, &job()), "c2");
    clusters[0].cluster.recent_failures = 10;
    clusters[1].cluster.recent_failures = 99;
    assert_eq!(chosen(scores, &mut clusters, &job()), "either");
}

#[test]
fn an_autoscaler_that_must_grow_counts_by_its_delay_and_its_ceiling_is_the_capacity() {
    let scores = Scores { queue_weight: 1, ..NOTHING };
    let mut clusters = pair();
    let present = |cpu| Some(Capacity(request(cpu, 0)));
    clusters[0].cluster.elastic = Some(Elastic { present: present(2), delay: Duration::from_mins(2) });
    assert_eq!(chosen(scores, &mut clusters, &job()), "either", "it need not grow for this job");
    clusters[0].cluster.elastic = Some(Elastic { present: present(1), delay: Duration::from_mins(2) });
    assert_eq!(chosen(scores, &mut clusters, &job()), "c2");
    clusters[1].cluster.elastic = Some(Elastic { present: None, delay: Duration::from_mins(9) });
    assert_eq!(chosen(scores, &mut clusters, &job()), "c1");
    let wide = group("a", request(9, 0), 0, 0..1);
    let snapshot = snapshot(vec![team("a", 1, None)], clusters.to_vec(), vec![wide]);
    assert_eq!(plan(&snapshot, &policy(), NOW, 1).refusals[0].clusters[0].1.code(), "too_small");
}

#[test]
fn what_was_placed_and_does_not_run_yet_counts_as_a_queue() {
    let mut parts = Parts {
        teams: vec![team("a", 1, None)],
        clusters: pair().into(),
        groups: vec![job()],
        ..Parts::default()
    };
    world::open(&mut parts, 0, 0, &request(1, 0), 0, 9);
    world::open(&mut parts, 0, 1, &request(1, 0), 0, 9);
    parts.running[0].started = None;
    let policy = Policy { scores: Scores { queue_weight: 1, ..NOTHING }, ..policy() };
    for seed in 0..20 {
        let plan = plan(&Snapshot::new(parts.clone()), &policy, NOW, seed);
        assert_eq!(plan.placements[0].cluster.as_str(), "c2");
    }
}
