//! Placements: charged on cluster and team in the same transaction, never beyond quota or capacity.

use std::collections::BTreeMap;

use yard_domain::{AccountOwner, ClusterHealth, ClusterReport, ClusterSwitch, JobState, StateName};
use yard_ports::store::{ClaimRequest, PlacementOrder, QueueView};

use super::World;
use super::world::{LONG, cluster, cluster_id, team};

fn on_cluster(id: &str) -> AccountOwner {
    AccountOwner::Cluster(cluster_id(id))
}

fn of_team(id: &str) -> AccountOwner {
    AccountOwner::Team(id.parse().unwrap())
}

/// The job is on its cluster, with its first attempt open, and both accounts are charged what it asks for.
pub async fn placing_charges_both_accounts(w: &World) {
    let jobs = w.accept("ads", 3).await;
    let lease = w.scheduler().await;
    let claimed = w.claim(&lease, 2).await;
    let report = w.commit(&lease, &claimed, "east").await;
    let wanted: Vec<_> = jobs[..2].iter().map(|id| (*id, cluster_id("east"))).collect();
    assert_eq!((report.placed, report.dropped.len(), report.stale.len()), (wanted, 0, 0));
    let view = w.view(jobs[0]).await;
    let JobState::Placed { attempt, deadline } = &view.lifecycle.state else { panic!("{view:?}") };
    assert_eq!((attempt.number.0, attempt.cluster.as_str()), (1, "east"));
    assert_eq!(*deadline, view.since.plus(LONG));
    assert_eq!((view.lifecycle.attempts, view.attempts.len()), (1, 1));
    assert_eq!((view.attempts[0].placed_at, view.attempts[0].ended_at), (view.since, None));
    let accounts = w.store.accounts().await.unwrap();
    let used = |owner: &AccountOwner| accounts.iter().find(|a| a.owner == *owner).unwrap().used.clone();
    assert_eq!((used(&on_cluster("east")).jobs, used(&on_cluster("east")).cpu_milli), (2, 2_000));
    assert_eq!(used(&of_team("ads")), used(&on_cluster("east")));
    assert!(used(&of_team("ml")).is_zero() && used(&on_cluster("west")).is_zero());
    assert_eq!(w.codes(jobs[0]).await, ["accepted", "claimed", "placed"]);
}

/// What does not fit goes back to the queue, and what fits beside it is placed.
pub async fn no_room_puts_back(w: &World) {
    let teams = [team("ads", 3), team("ml", 1_000)];
    w.store
        .apply_catalog(
            &yard_domain::Catalog::of(teams.clone(), [cluster("east", 1_000), cluster("west", 2)]),
            yard_ports::store::CatalogDocument::configuration("", "test"),
        )
        .await
        .unwrap();
    let ads = w.accept("ads", 5).await;
    let lease = w.scheduler().await;
    let claimed = w.claim(&lease, 5).await;
    let report = w.commit(&lease, &claimed, "east").await;
    assert_eq!((report.placed.len(), report.dropped), (3, ads[3..].to_vec()), "the team's quota");
    assert_eq!(w.state(ads[4]).await, StateName::Queued);
    assert_eq!(w.codes(ads[4]).await, ["accepted", "claimed", "released"]);
    w.accept("ml", 3).await;
    let claimed: Vec<_> = w.claim(&lease, 3).await.into_iter().filter(|c| c.team.as_str() == "ml").collect();
    let report = w.commit(&lease, &claimed, "west").await;
    assert_eq!((report.placed.len(), report.dropped.len()), (2, 1), "the cluster's capacity");
}

/// Drained, unreachable, unknown or not configured: placements there are dropped.
pub async fn clusters_that_take_no_jobs_get_none(w: &World) {
    let jobs = w.accept("ads", 1).await;
    let lease = w.scheduler().await;
    let expect_dropped = async |cluster: &str| {
        let claimed = w.claim(&lease, 1).await;
        let report = w.commit(&lease, &claimed, cluster).await;
        assert_eq!(report.dropped, jobs, "{cluster}");
    };
    assert!(w.store.switch_cluster(&cluster_id("east"), ClusterSwitch::Drained, "me").await.unwrap());
    expect_dropped("east").await;
    assert!(w.store.switch_cluster(&cluster_id("east"), ClusterSwitch::Open, "me").await.unwrap());
    let dispatcher = w.dispatcher("east").await;
    let down = ClusterReport {
        ray_profiles: None,
        gpu_blocks: None,
        breaker_open: false,
        recent_failures: 0,
        cluster: cluster_id("east"),
        health: ClusterHealth::Unreachable,
        capacity: None,
        message: Some("refused".to_owned()),
    };
    w.store.report_cluster(&dispatcher, &down).await.unwrap();
    expect_dropped("east").await;
    expect_dropped("nowhere").await;
    w.store
        .apply_catalog(
            &yard_domain::Catalog::of([team("ads", 1), team("ml", 1)], [cluster("east", 1)]),
            yard_ports::store::CatalogDocument::configuration("", "test"),
        )
        .await
        .unwrap();
    expect_dropped("west").await;
    let up = ClusterReport { health: ClusterHealth::Ready, message: None, ..down };
    w.store.report_cluster(&dispatcher, &up).await.unwrap();
    let claimed = w.claim(&lease, 1).await;
    assert_eq!(w.commit(&lease, &claimed, "east").await.placed.len(), 1);
}

/// Only what this lease has claimed is placed; the rest is told as stale and untouched.
pub async fn claims_of_others_are_stale(w: &World) {
    let jobs = w.accept("ads", 4).await;
    let (ours, theirs) = (w.scheduler_for("s1", LONG).await, w.scheduler_for("s2", LONG).await);
    let mine = w.claim(&ours, 1).await;
    let other = w.claim(&theirs, 1).await;
    let order = |job| PlacementOrder { job, team: "ads".parse().unwrap(), cluster: cluster_id("east") };
    let absent = super::world::fresh_id();
    let orders = [order(mine[0].id), order(mine[0].id), order(other[0].id), order(jobs[3]), order(absent)];
    let report = w.store.commit_placements(&ours, &orders).await.unwrap();
    assert_eq!(report.placed, [(mine[0].id, cluster_id("east"))]);
    assert_eq!(report.stale, [mine[0].id, other[0].id, jobs[3], absent]);
    assert_eq!(w.state(other[0].id).await, StateName::Claimed);
    assert_eq!(w.state(jobs[3]).await, StateName::Queued);
}

/// Eight schedulers place as fast as they can: neither quota nor capacity is ever exceeded, all room is used.
pub async fn concurrent_schedulers_never_exceed_limits(w: &World) {
    let teams = [team("ads", 70), team("ml", 60)];
    w.store
        .apply_catalog(
            &yard_domain::Catalog::of(teams.clone(), [cluster("east", 50), cluster("west", 50)]),
            yard_ports::store::CatalogDocument::configuration("", "test"),
        )
        .await
        .unwrap();
    w.accept("ads", 100).await;
    w.accept("ml", 100).await;
    let mut tasks = Vec::new();
    for i in 0..8_usize {
        let (store, lease) = (w.store.clone(), w.scheduler_for(&format!("s{i}"), LONG).await);
        tasks.push(tokio::spawn(async move {
            for round in 0..15 {
                let input = store.load_placement_input(QueueView { groups: 10, depth: 1 }).await.unwrap();
                let requests: Vec<_> = input
                    .heads
                    .into_iter()
                    .map(|h| ClaimRequest { team: h.team, shape: h.shape, max: 5 })
                    .collect();
                let claimed = store.claim(&lease, &requests).await.unwrap();
                let place = |(n, c): (usize, yard_ports::store::ClaimedJob)| {
                    let cluster = cluster_id(if (n + i + round) % 2 == 0 { "east" } else { "west" });
                    PlacementOrder { job: c.id, team: c.team, cluster }
                };
                let orders: Vec<_> = claimed.into_iter().enumerate().map(place).collect();
                let report = store.commit_placements(&lease, &orders).await.unwrap();
                assert_eq!(report.stale, [], "nobody else has our claims");
                for account in store.accounts().await.unwrap() {
                    let most = match &account.owner {
                        AccountOwner::Cluster(_) => 50,
                        AccountOwner::Team(team) if team.as_str() == "ads" => 70,
                        AccountOwner::Team(_) => 60,
                    };
                    assert!(account.used.jobs <= most, "{account:?}");
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let mut placed: BTreeMap<String, u64> = BTreeMap::new();
    for job in w.all_jobs().await {
        if let Some(open) = job.state.open_attempt() {
            *placed.entry(open.cluster.to_string()).or_default() += 1;
        }
    }
    assert_eq!(placed.into_values().collect::<Vec<_>>(), [50, 50], "no room is left over");
}
