//! Versions of the catalog: each applied document is kept, the last one is in force, and nobody's is overwritten
//! unseen.

use std::time::Duration;

use yard_domain::catalog::CatalogSource;
use yard_domain::policy::{Fit, Preemption, Scores};
use yard_domain::{
    Capacity, Catalog, Cluster, ClusterHealth, ClusterReport, Cohort, Elastic, Limits, Policy, Priority,
    PriorityClass, Request, SubmitRate, Team,
};
use yard_ports::store::{ApplyAnswer, CatalogDocument, QueueView};

use super::World;
use super::world::{apply, calm, cluster, cluster_id, team};

fn by_hand(text: &str, expected: Option<u64>) -> CatalogDocument<'_> {
    CatalogDocument { text, by: "ann", source: CatalogSource::Applied, expected }
}

/// A catalog that tells which one it is.
fn nth(n: u64) -> Catalog {
    Catalog::of([team("ads", n)], [cluster("east", n)])
}

async fn quota(w: &World) -> Option<u64> {
    w.store.teams().await.unwrap()[0].quota.jobs
}

/// Numbers grow by one; the same document again makes none; what somebody applied is not a process's to replace.
pub async fn each_document_is_a_version(w: &World) {
    use ApplyAnswer::{Applied, Conflict, Unchanged};
    assert_eq!(w.store.catalog_version().await.unwrap(), 1, "what this test began with");
    let configured = |text| CatalogDocument::configuration(text, "host-1");
    let apply = async |n, document| w.store.apply_catalog(&nth(n), document).await.unwrap();
    assert_eq!(apply(2, configured("two")).await, Applied(2));
    assert_eq!(apply(2, configured("two")).await, Unchanged(2));
    assert_eq!(apply(3, by_hand("three", None)).await, Applied(3));
    assert_eq!(apply(4, configured("four")).await, Conflict(3));
    assert_eq!(apply(4, by_hand("four", Some(2))).await, Conflict(3));
    assert_eq!((quota(w).await, w.store.catalog_version().await.unwrap()), (Some(3), 3), "nothing written");
    assert_eq!(apply(3, configured("three")).await, Unchanged(3), "the same as is in force");
    assert_eq!(apply(4, by_hand("four", Some(3))).await, Applied(4));
    assert_eq!((quota(w).await, w.store.catalog_version().await.unwrap()), (Some(4), 4));
    let versions = w.store.catalog_versions(None, 3).await.unwrap();
    let shown: Vec<_> = versions.iter().map(|v| (v.number, v.text.as_str(), v.by.as_str())).collect();
    assert_eq!(shown, [(4, "four", "ann"), (3, "three", "ann"), (2, "two", "host-1")]);
    assert!(versions.is_sorted_by_key(|v| std::cmp::Reverse(v.at)), "{versions:?}");
    let sources: Vec<_> = versions.iter().map(|v| v.source).collect();
    assert_eq!(sources, [CatalogSource::Applied, CatalogSource::Applied, CatalogSource::Configuration]);
    let rest = w.store.catalog_versions(Some(2), 3).await.unwrap();
    assert_eq!(rest.iter().map(|v| v.number).collect::<Vec<_>>(), [1]);
}

fn whole() -> Catalog {
    let limits = |jobs| Limits {
        jobs: Some(jobs),
        custom_milli: [("A100".to_owned(), jobs * 1_000)].into(),
        ..Limits::default()
    };
    let cohort = |id: &str, parent: Option<&str>| Cohort {
        parent: parent.map(|p| p.parse().unwrap()),
        quota: limits(3),
        max: limits(9),
        weight: 2,
        ..Cohort::new(id.parse().unwrap())
    };
    let ads = Team {
        cohort: Some("research".parse().unwrap()),
        max: limits(8),
        request: limits(2),
        weight: 5,
        submit_rate: Some(SubmitRate { per_minute: 60, burst: 7 }),
        ..team("ads", 4)
    };
    let grows = Cluster {
        capacity: Some(Capacity(Request { jobs: 64, cpu_milli: 64_000, ..Request::default() })),
        elastic: Some(Elastic { present: None, delay: Duration::from_secs(90) }),
        cost_per_hour_micro: Some(3_500_000),
        ..Cluster::new(cluster_id("grows"), "ray")
    };
    let policy = Policy {
        placements_max: 77,
        half_life: Some(Duration::from_hours(12)),
        scores: Scores { fit: Fit::Pack, fit_weight: 1, cost_weight: 2, ..Scores::default() },
        reservations_max: 3,
        preemption: Preemption { reclaim: false, within_team: true, victims_max: 4 },
        classes: vec![PriorityClass {
            id: "urgent".parse().unwrap(),
            priority: Priority::new(-5).unwrap(),
            preempts: true,
            preemptible: false,
        }],
    };
    let cohorts = vec![cohort("lab", None), cohort("research", Some("lab"))];
    Catalog { cohorts, policy, ..Catalog::of([ads, team("ml", 2)], [cluster("east", 5), grows]) }
}

/// Everything declared reads back, in every process, also in one that had read what was before.
pub async fn the_whole_catalog_reads_back(w: &World) {
    let other = w.database.open(calm()).await;
    let view = QueueView { groups: 1, depth: 1 };
    let before = other.load_placement_input(view).await.unwrap();
    assert_eq!((before.cohorts.len(), before.policy), (0, Policy::default()));
    let whole = whole();
    apply(w, &whole).await;
    assert_eq!(w.store.catalog().await.unwrap(), whole);
    let input = other.load_placement_input(view).await.unwrap();
    assert_eq!((&input.teams, &input.cohorts, &input.policy), (&whole.teams, &whole.cohorts, &whole.policy));
    let configured: Vec<_> = input.clusters.into_iter().filter(|c| c.configured).collect();
    assert_eq!(configured, whole.clusters);
    // And away again.
    apply(w, &nth(1)).await;
    assert_eq!(w.store.catalog().await.unwrap(), nth(1));
    assert_eq!(other.load_placement_input(view).await.unwrap().cohorts, []);
}

/// What somebody has changed past the store is put right by the document in force.
pub async fn rows_follow_an_unchanged_document(w: &World) {
    let document = by_hand("five", None);
    assert_eq!(w.store.apply_catalog(&nth(5), document).await.unwrap(), ApplyAnswer::Applied(2));
    w.tamper("UPDATE teams SET weight = 9, max_quota = NULL").await;
    assert_eq!(w.store.apply_catalog(&nth(5), document).await.unwrap(), ApplyAnswer::Unchanged(2));
    let teams = w.store.load_placement_input(QueueView { groups: 1, depth: 1 }).await.unwrap().teams;
    assert_eq!((teams[0].weight, &teams), (1, &nth(5).teams));
}

/// Eight at once: each becomes a version of its own; of eight that know the same version, one wins.
pub async fn concurrent_catalogs_make_versions_in_a_row(w: &World) {
    let at_once = async |expected: Option<u64>| {
        let tasks: Vec<_> = (0..8_u64)
            .map(|i| {
                let store = w.store.clone();
                tokio::spawn(async move {
                    let text = format!("{expected:?} {i}");
                    store.apply_catalog(&nth(i + 1), by_hand(&text, expected)).await.unwrap()
                })
            })
            .collect();
        let mut numbers = Vec::new();
        for task in tasks {
            if let ApplyAnswer::Applied(number) = task.await.unwrap() {
                numbers.push(number);
            }
        }
        numbers.sort_unstable();
        numbers
    };
    assert_eq!(at_once(None).await, (2..=9).collect::<Vec<_>>());
    assert_eq!(at_once(Some(9)).await, [10]);
    let last = w.store.catalog_versions(None, 1).await.unwrap().remove(0);
    let winner: u64 = last.text.rsplit(' ').next().unwrap().parse().unwrap();
    assert_eq!((last.number, quota(w).await), (10, Some(winner + 1)), "rows and document are of one writer");
}

/// An autoscaler's ceiling is declared; what is there is observed, and kept over declarations.
pub async fn elastic_clusters_keep_their_ceiling(w: &World) {
    let of = |jobs| Capacity(Request { jobs, ..Request::default() });
    let elastic = |ceiling, delay_s| {
        let elastic = Some(Elastic { present: None, delay: Duration::from_secs(delay_s) });
        Catalog::of(
            [team("ads", 1)],
            [Cluster { capacity: Some(of(ceiling)), elastic, ..Cluster::new(cluster_id("east"), "ray") }],
        )
    };
    apply(w, &elastic(64, 90)).await;
    let lease = w.dispatcher("east").await;
    let report = ClusterReport {
        ray_profiles: None,
        gpu_blocks: None,
        cluster: cluster_id("east"),
        health: ClusterHealth::Ready,
        capacity: Some(of(2)),
        breaker_open: true,
        recent_failures: 3,
        message: None,
    };
    w.store.report_cluster(&lease, &report).await.unwrap();
    let east = async || w.store.clusters().await.unwrap().remove(0);
    let seen = east().await;
    assert_eq!((&seen.capacity, seen.breaker_open, seen.recent_failures), (&Some(of(64)), true, 3));
    assert_eq!(seen.elastic, Some(Elastic { present: Some(of(2)), delay: Duration::from_secs(90) }));
    let silent = ClusterReport { capacity: None, breaker_open: false, recent_failures: 0, ..report.clone() };
    w.store.report_cluster(&lease, &silent).await.unwrap();
    apply(w, &elastic(32, 60)).await;
    let kept = east().await;
    assert_eq!((kept.capacity, kept.breaker_open), (Some(of(32)), false));
    assert_eq!(kept.elastic, Some(Elastic { present: Some(of(2)), delay: Duration::from_mins(1) }));
    // No autoscaler any more: what is observed is the capacity again.
    let plain = Catalog::of([team("ads", 1)], [Cluster::new(cluster_id("east"), "ray")]);
    apply(w, &plain).await;
    assert_eq!((east().await.elastic, east().await.capacity), (None, None));
    w.store.report_cluster(&lease, &report).await.unwrap();
    assert_eq!((east().await.elastic, east().await.capacity), (None, Some(of(2))));
}
