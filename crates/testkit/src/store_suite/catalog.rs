//! Teams and clusters: the configuration's word, beside what operators and dispatchers have said.

use std::sync::Arc;

use yard_domain::lifecycle::AttemptEnd;
use yard_domain::{
    Capacity, Cluster, ClusterHealth, ClusterReport, ClusterSwitch, GpuBlocks, JobField, Limits, RayProfile,
    RayProfiles, Request, Team,
};

use super::World;
use super::world::{calm, cluster, cluster_id, team};

fn undeclared(id: &str) -> Cluster {
    Cluster { capacity: None, health: ClusterHealth::Unknown, ..cluster(id, 0) }
}

fn of(jobs: u64) -> Capacity {
    Capacity(Request { jobs, gpu_milli: 8_000, ..Request::default() })
}

fn ready(id: &str, jobs: u64) -> ClusterReport {
    let health = ClusterHealth::Ready;
    ClusterReport {
        ray_profiles: None,
        gpu_blocks: None,
        cluster: cluster_id(id),
        health,
        capacity: Some(of(jobs)),
        breaker_open: false,
        recent_failures: 0,
        message: None,
    }
}

async fn find(w: &World, id: &str) -> Option<Cluster> {
    w.store.clusters().await.unwrap().into_iter().find(|c| c.id.as_str() == id)
}

/// A sync brings quotas, labels and drivers; switch, health and observed capacity stay.
pub async fn syncing_keeps_what_operators_and_dispatchers_said(w: &World) {
    let teams = [team("ads", 5)];
    w.store
        .apply_catalog(
            &yard_domain::Catalog::of(teams.clone(), [undeclared("east")]),
            yard_ports::store::CatalogDocument::configuration("", "test"),
        )
        .await
        .unwrap();
    let east = find(w, "east").await.unwrap();
    assert_eq!(east.capacity, None, "a declaration taken back is gone");
    let lease = w.dispatcher("east").await;
    w.store.report_cluster(&lease, &ready("east", 9)).await.unwrap();
    assert!(w.store.switch_cluster(&cluster_id("east"), ClusterSwitch::Drained, "ann").await.unwrap());
    assert!(!w.store.switch_cluster(&cluster_id("nowhere"), ClusterSwitch::Drained, "ann").await.unwrap());
    let mut changed = Cluster { driver: "ray".to_owned(), ..undeclared("east") };
    changed.labels.insert("tier".to_owned(), "gold".to_owned());
    let quota =
        Limits { gpu_milli: Some(1), custom_milli: [("A100".to_owned(), 2)].into(), ..Limits::default() };
    let ads = Team { quota, weight: 3, ..Team::new("ads".parse().unwrap()) };
    w.store
        .apply_catalog(
            &yard_domain::Catalog::of([ads.clone()], [changed.clone()]),
            yard_ports::store::CatalogDocument::configuration("", "test"),
        )
        .await
        .unwrap();
    assert_eq!(w.store.teams().await.unwrap(), [ads]);
    let east = find(w, "east").await.unwrap();
    assert!(east.last_seen.is_some() && east.configured);
    let kept = Cluster {
        capacity: Some(of(9)),
        switch: ClusterSwitch::Drained,
        health: ClusterHealth::Ready,
        last_seen: east.last_seen,
        ..changed
    };
    assert_eq!(east, kept);
    let down = ClusterReport {
        ray_profiles: None,
        gpu_blocks: None,
        breaker_open: false,
        recent_failures: 0,
        cluster: cluster_id("east"),
        health: ClusterHealth::Unreachable,
        capacity: None,
        message: Some("connection refused".to_owned()),
    };
    w.store.report_cluster(&lease, &down).await.unwrap();
    let after = find(w, "east").await.unwrap();
    assert_eq!(
        (after.capacity, after.last_seen),
        (kept.capacity, kept.last_seen),
        "kept while it does not answer"
    );
    assert_eq!(after.message.as_deref(), Some("connection refused"));
}

/// Taken out of the configuration: it stays, not configured, until its jobs are gone.
pub async fn what_is_taken_out_stays_until_it_is_empty(w: &World) {
    w.accept("ads", 1).await;
    let (lease, attempts) = w.run_all("east").await;
    let (teams, clusters) = ([team("ml", 1)], [cluster("west", 1)]);
    w.store
        .apply_catalog(
            &yard_domain::Catalog::of(teams.clone(), clusters.clone()),
            yard_ports::store::CatalogDocument::configuration("", "test"),
        )
        .await
        .unwrap();
    let east = find(w, "east").await.unwrap();
    assert!(!east.configured && !east.takes_jobs());
    assert_eq!(w.store.teams().await.unwrap(), teams, "only configured ones");
    w.end(&lease, &attempts, &AttemptEnd::Succeeded).await;
    w.store
        .apply_catalog(
            &yard_domain::Catalog::of(teams.clone(), clusters.clone()),
            yard_ports::store::CatalogDocument::configuration("", "test"),
        )
        .await
        .unwrap();
    assert_eq!(find(w, "east").await, None);
    let owners: Vec<_> = w.store.accounts().await.unwrap().into_iter().map(|a| a.owner.to_string()).collect();
    assert_eq!(owners, ["cluster west", "team ads", "team ml"], "the team still has a job to be shown");
    w.store.purge(std::time::Duration::ZERO, 10).await.unwrap();
    w.store
        .apply_catalog(
            &yard_domain::Catalog::of(teams.clone(), clusters.clone()),
            yard_ports::store::CatalogDocument::configuration("", "test"),
        )
        .await
        .unwrap();
    assert_eq!(w.store.accounts().await.unwrap().len(), 2);
    // And back again.
    w.store
        .apply_catalog(
            &yard_domain::Catalog::of(
                [team("ads", 1), team("ml", 1)],
                [cluster("east", 1), cluster("west", 1)],
            ),
            yard_ports::store::CatalogDocument::configuration("", "test"),
        )
        .await
        .unwrap();
    assert!(find(w, "east").await.unwrap().configured);
    assert_eq!(w.store.accounts().await.unwrap().len(), 4);
}

/// What the configuration declares, no report changes.
pub async fn declared_capacity_is_not_reported_over(w: &World) {
    let lease = w.dispatcher("east").await;
    w.store.report_cluster(&lease, &ready("east", 5)).await.unwrap();
    assert_eq!(find(w, "east").await.unwrap().capacity, cluster("east", 1_000).capacity);
    w.store
        .apply_catalog(
            &yard_domain::Catalog::of([team("ads", 1)], [undeclared("east")]),
            yard_ports::store::CatalogDocument::configuration("", "test"),
        )
        .await
        .unwrap();
    w.store.report_cluster(&lease, &ready("east", 5)).await.unwrap();
    assert_eq!(find(w, "east").await.unwrap().capacity, Some(of(5)));
    w.store
        .apply_catalog(
            &yard_domain::Catalog::of([team("ads", 1)], [cluster("east", 7)]),
            yard_ports::store::CatalogDocument::configuration("", "test"),
        )
        .await
        .unwrap();
    assert_eq!(find(w, "east").await.unwrap().capacity, cluster("east", 7).capacity);
}

/// Processes that start at once sync at once.
pub async fn concurrent_syncs(w: &World) {
    let tasks: Vec<_> = (0..8_u64)
        .map(|i| {
            let store = w.store.clone();
            tokio::spawn(async move {
                let (teams, clusters) =
                    ([team("ads", i), team("new", 5)], [cluster("east", 5), cluster("north", i)]);
                store
                    .apply_catalog(
                        &yard_domain::Catalog::of(teams.clone(), clusters.clone()),
                        yard_ports::store::CatalogDocument::configuration("", "test"),
                    )
                    .await
                    .unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let clusters: Vec<_> = w.store.clusters().await.unwrap().into_iter().map(|c| c.id.to_string()).collect();
    assert_eq!(clusters, ["east", "north"]);
    assert_eq!(w.store.teams().await.unwrap().len(), 2);
}

/// Made once; every process sees the same.
pub async fn the_instance_stays(w: &World) {
    let id = w.store.instance().await.unwrap();
    let other = w.database.open(calm()).await;
    assert_eq!(other.instance().await.unwrap(), id);
}

/// What Ray clusters can be made, and how GPUs lie, is the dispatcher's word: kept over declarations, until another driver
/// is declared. How GPUs lie is kept while it could not be read.
pub async fn what_can_be_made_is_the_dispatcher_s_word(w: &World) {
    let profile = RayProfile {
        job_may_set: JobField::ALL.into(),
        gpu_types: ["a100".to_owned()].into(),
        whole: ["fpga".to_owned()].into(),
        head_min: Request { cpu_milli: 1_500, ..Request::default() },
        ..RayProfile::default()
    };
    let profiles = Arc::new(RayProfiles {
        default: "gpu".to_owned(),
        links: true,
        profiles: [("gpu".to_owned(), profile)].into(),
    });
    let blocks = vec![GpuBlocks {
        kind: "A100".to_owned(),
        capacity: 16_000,
        free: 12_000,
        largest_free: 4_000,
        largest: 8_000,
    }];
    let lease = w.dispatcher("east").await;
    let told = ClusterReport {
        ray_profiles: Some(profiles.clone()),
        gpu_blocks: Some(blocks.clone()),
        ..ready("east", 9)
    };
    w.store.report_cluster(&lease, &told).await.unwrap();
    let east = find(w, "east").await.unwrap();
    assert_eq!((&east.ray_profiles, &east.gpu_blocks), (&Some(profiles.clone()), &blocks));
    let unread = ClusterReport { gpu_blocks: None, ..told.clone() };
    w.store.report_cluster(&lease, &unread).await.unwrap();
    let apply = async |declared: Cluster| {
        let document = yard_ports::store::CatalogDocument::configuration("", "test");
        let catalog = yard_domain::Catalog::of([team("ads", 5)], [declared]);
        w.store.apply_catalog(&catalog, document).await.unwrap();
        find(w, "east").await.unwrap()
    };
    let kept = apply(cluster("east", 3)).await;
    assert_eq!((kept.ray_profiles, kept.gpu_blocks), (Some(profiles), blocks));
    let other = apply(Cluster { driver: "other".to_owned(), ..cluster("east", 3) }).await;
    assert_eq!((other.ray_profiles, other.gpu_blocks), (None, vec![]));
    w.store.report_cluster(&lease, &told).await.unwrap();
    let none = ClusterReport { ray_profiles: None, gpu_blocks: Some(Vec::new()), ..told };
    w.store.report_cluster(&lease, &none).await.unwrap();
    let east = find(w, "east").await.unwrap();
    assert_eq!((east.ray_profiles, east.gpu_blocks), (None, vec![]));
}
