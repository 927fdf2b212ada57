//! Cohorts: what teams lend each other, never beyond any ceiling on the way to the top, whoever places at once.

use std::sync::Arc;

use yard_domain::lifecycle::AttemptEnd;
use yard_domain::{
    AccountOwner, Catalog, Cohort, CohortId, JobState, Lease, Limits, QuotaTree, Team, TeamId,
};
use yard_ports::store::{
    ApplyAnswer, AttemptRef, CatalogDocument, ClaimRequest, EndOrder, PlacementOrder, QueueView, Store,
};

use super::World;
use super::world::{LONG, apply, cluster, cluster_id, rules, team};

fn jobs(most: u64) -> Limits {
    Limits { jobs: Some(most), ..Limits::default() }
}

fn in_cohort(id: &str, nominal: u64, cohort: &str) -> Team {
    Team { cohort: cohort.parse().ok(), ..team(id, nominal) }
}

fn cohort(id: &str, parent: Option<&str>) -> Cohort {
    Cohort { parent: parent.and_then(|p| p.parse().ok()), ..Cohort::new(id.parse::<CohortId>().unwrap()) }
}

fn catalog(teams: impl Into<Vec<Team>>, cohorts: impl Into<Vec<Cohort>>) -> Catalog {
    let clusters = [cluster("east", 1_000), cluster("west", 1_000)];
    Catalog { cohorts: cohorts.into(), ..Catalog::of(teams, clusters) }
}

/// Claims up to `max` jobs of each group (of one team, or of all) and commits them on both clusters in turn; how many
/// were placed.
async fn place(store: &dyn Store, lease: &Lease, max: u32, of: Option<&str>) -> usize {
    place_on(store, lease, max, of, &["east", "west"]).await
}

async fn place_on(store: &dyn Store, lease: &Lease, max: u32, of: Option<&str>, clusters: &[&str]) -> usize {
    let input = store.load_placement_input(QueueView { groups: 100, depth: 1 }).await.unwrap();
    let wanted = input.heads.into_iter().filter(|h| of.is_none_or(|of| h.team.as_str() == of));
    let requests: Vec<_> = wanted.map(|h| ClaimRequest { team: h.team, shape: h.shape, max }).collect();
    let claimed = store.claim(lease, &requests).await.unwrap();
    let order = |(i, c): (usize, yard_ports::store::ClaimedJob)| PlacementOrder {
        job: c.id,
        team: c.team,
        cluster: cluster_id(clusters[i % clusters.len()]),
    };
    let orders: Vec<_> = claimed.into_iter().enumerate().map(order).collect();
    let report = store.commit_placements(lease, &orders).await.unwrap();
    assert_eq!(report.stale, [], "nobody else has our claims");
    report.placed.len()
}

/// Ends up to `max` of a cluster's open attempts that wait for their launch or run.
async fn end_some(store: &dyn Store, lease: &Lease, cluster: &str, max: u32) -> usize {
    let batch = store.begin_launches(lease, max).await.unwrap();
    let ends: Vec<_> = batch
        .orders
        .iter()
        .map(|o| EndOrder {
            attempt: AttemptRef { job: o.job.id, attempt: o.attempt },
            end: AttemptEnd::Succeeded,
            jitter: 0.5,
        })
        .collect();
    assert!(batch.orders.iter().all(|o| o.job.state.open_attempt().unwrap().cluster.as_str() == cluster));
    store.record_ends(lease, &rules(), &ends).await.unwrap().len()
}

/// A team may use what others of its cohort leave unused, up to what the cohort has, and up to its own `max`.
pub async fn a_team_borrows_what_others_leave(w: &World) {
    let teams = [in_cohort("ads", 2, "all"), in_cohort("ml", 3, "all"), team("alone", 2)];
    apply(w, &catalog(teams.clone(), [cohort("all", None)])).await;
    for team in ["ads", "ml", "alone"] {
        w.accept(team, 10).await;
    }
    let lease = w.scheduler().await;
    assert_eq!(place(&*w.store, &lease, 10, Some("ads")).await, 5, "its own two and ml's three");
    assert_eq!(place(&*w.store, &lease, 10, Some("ml")).await, 0, "lent out");
    assert_eq!(place(&*w.store, &lease, 10, Some("alone")).await, 2, "in no cohort, so its own only");
    let east = w.dispatcher("east").await;
    assert_eq!(end_some(&*w.store, &east, "east", 1).await, 1);
    assert_eq!(place(&*w.store, &lease, 10, Some("ml")).await, 1, "what has been given back");
    let bounded = Team { max: jobs(6), ..in_cohort("ads", 4, "all") };
    apply(w, &catalog([bounded, in_cohort("ml", 6, "all")], [cohort("all", None)])).await;
    assert_eq!(place(&*w.store, &lease, 10, None).await, 5, "ten in all");
    let used = w.jobs_charged(&AccountOwner::Team("ads".parse().unwrap())).await;
    assert!(used <= 6, "its own bound: {used}");
}

/// One commit fills the last room of a tree; what comes behind in the same batch is put back.
pub async fn a_batch_counts_its_own_placements(w: &World) {
    let left = Cohort { max: jobs(3), ..cohort("left", Some("top")) };
    let teams = [in_cohort("a", 1, "left"), in_cohort("b", 1, "left"), in_cohort("c", 5, "top")];
    apply(w, &catalog(teams, [cohort("top", None), left])).await;
    for team in ["a", "b", "c"] {
        w.accept(team, 10).await;
    }
    let lease = w.scheduler().await;
    assert_eq!(place(&*w.store, &lease, 10, None).await, 7, "all that the tree has, in one commit");
    let accounts = w.store.accounts().await.unwrap();
    let used = |id: &str| {
        accounts.iter().find(|a| a.owner == AccountOwner::Team(id.parse().unwrap())).unwrap().used.jobs
    };
    assert_eq!((used("a") + used("b"), used("c")), (3, 4), "the inner cohort's bound first");
}

/// A team that moves to another cohort takes its usage along: nothing is kept of a cohort that could be wrong.
pub async fn a_team_moves_with_what_it_uses(w: &World) {
    let teams = |cohort| [in_cohort("ads", 3, cohort), in_cohort("b", 3, "left"), in_cohort("c", 3, "right")];
    let cohorts = [cohort("left", None), cohort("right", None)];
    apply(w, &catalog(teams("left"), cohorts.clone())).await;
    for team in ["ads", "b", "c"] {
        w.accept(team, 20).await;
    }
    let lease = w.scheduler().await;
    assert_eq!(place(&*w.store, &lease, 10, Some("ads")).await, 6);
    apply(w, &catalog(teams("right"), cohorts)).await;
    assert_eq!(place(&*w.store, &lease, 10, Some("c")).await, 0, "six of six are in use on the right");
    assert_eq!(place(&*w.store, &lease, 10, Some("b")).await, 3, "the left has its own back");
}

/// What every node of the tree uses is within its ceiling.
async fn within_ceilings(store: &dyn Store, tree: &QuotaTree) -> Vec<u64> {
    let accounts = store.accounts().await.unwrap();
    let used = |team: &TeamId| {
        let owner = AccountOwner::Team(team.clone());
        accounts.iter().find(|a| a.owner == owner).map(|a| &a.used)
    };
    let usage = tree.usage(used);
    for (node, used) in tree.nodes().iter().zip(&usage) {
        for (name, most) in node.ceiling.bounds() {
            assert!(used.amount(name) <= most, "{}: {} of {most} {name}", node.owner, used.amount(name));
        }
    }
    usage.iter().map(|used| used.jobs).collect()
}

/// Eight teams in a nested cohort, and nothing else that makes their placements wait for one another: each is placed by
/// a process of its own on a cluster of its own, whose dispatcher ends what was placed. At no moment is any ceiling
/// exceeded, and in the end all that the tree has is in use.
pub async fn concurrent_schedulers_never_exceed_a_cohort(w: &World) {
    let inner = |id, most, own| Cohort { max: jobs(most), quota: jobs(own), ..cohort(id, Some("top")) };
    let nominal = |i: u64| Team {
        max: jobs(if i == 0 { 5 } else { 1_000 }),
        ..in_cohort(&format!("t{i}"), i % 3, if i < 4 { "left" } else { "right" })
    };
    let teams: Vec<Team> = (0..8).map(nominal).collect();
    let cohorts = [cohort("top", None), inner("left", 7, 2), inner("right", 9, 1)];
    let tree = Arc::new(QuotaTree::new(&teams, &cohorts));
    let clusters: Vec<_> = (0..8).map(|i| cluster(&format!("c{i}"), 1_000)).collect();
    let declared = Catalog { cohorts: cohorts.into(), ..Catalog::of(teams.clone(), clusters) };
    apply(w, &declared).await;
    let mut tasks = Vec::new();
    for (i, team) in teams.iter().enumerate() {
        w.accept(team.id.as_str(), 150).await;
        let store = w.database.open(super::world::calm()).await;
        let scheduler = w.scheduler_for(&format!("s{i}"), LONG).await;
        let (team, cluster, tree) = (team.id.to_string(), format!("c{i}"), Arc::clone(&tree));
        let dispatcher = w.dispatcher(&cluster).await;
        tasks.push(tokio::spawn(async move {
            let (mut placed, mut ended) = (0, 0);
            for _ in 0..25 {
                placed += place_on(&*store, &scheduler, 5, Some(&team), &[&cluster]).await;
                within_ceilings(&*store, &tree).await;
                ended += end_some(&*store, &dispatcher, &cluster, 2).await;
            }
            (placed, ended)
        }));
    }
    let (mut placed, mut ended) = (0, 0);
    for task in tasks {
        let (p, e) = task.await.unwrap();
        (placed, ended) = (placed + p, ended + e);
    }
    let top = teams.len();
    let used = within_ceilings(&*w.store, &tree).await[top];
    assert_eq!((placed - ended) as u64, used);
    assert!(ended > 20, "room came and went: {ended}");
    let lease = w.scheduler().await;
    while place_on(&*w.store, &lease, 5, None, &["c0", "c7"]).await > 0 {}
    assert_eq!(within_ceilings(&*w.store, &tree).await[top], 10, "seven of the teams, three of the cohorts");
}

/// Catalogs are applied while others place: what was applied last is what counts, in every process.
pub async fn placements_and_catalogs_at_once(w: &World) {
    let version = |nominal: u64, cohort: &str| {
        let teams = [in_cohort("ads", nominal, cohort), in_cohort("ml", nominal, "left")];
        catalog(teams, [cohort_named("left"), cohort_named("right")])
    };
    apply(w, &version(2, "left")).await;
    w.accept("ads", 200).await;
    w.accept("ml", 200).await;
    let mut tasks = Vec::new();
    for i in 0..4 {
        let store = w.database.open(super::world::calm()).await;
        let lease = w.scheduler_for(&format!("s{i}"), LONG).await;
        tasks.push(tokio::spawn(async move {
            for _ in 0..12 {
                place(&*store, &lease, 1, None).await;
            }
        }));
    }
    for round in 3..9 {
        apply(w, &version(round, if round % 2 == 0 { "left" } else { "right" })).await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    let last = version(20, "left");
    apply(w, &last).await;
    let lease = w.scheduler().await;
    let other = w.database.open(super::world::calm()).await;
    while place(&*w.store, &lease, 3, None).await + place(&*other, &lease, 3, None).await > 0 {}
    let tree = QuotaTree::new(&last.teams, &last.cohorts);
    let used = within_ceilings(&*other, &tree).await;
    assert_eq!(used[0] + used[1], 40);
    let open = w.all_jobs().await.iter().filter(|j| matches!(j.state, JobState::Placed { .. })).count();
    assert_eq!(open, 40);
}

fn cohort_named(id: &str) -> Cohort {
    cohort(id, None)
}

/// A cohort of many teams, of which each batch places for a few.
pub async fn cohorts_of_many_teams(w: &World) {
    let teams: Vec<Team> = (0..300).map(|i| in_cohort(&format!("t{i}"), 1, "all")).collect();
    let many = catalog(teams, [cohort("all", None)]);
    let document = CatalogDocument::configuration("many", "test");
    assert_eq!(w.store.apply_catalog(&many, document).await.unwrap(), ApplyAnswer::Applied(2));
    w.accept("t7", 200).await;
    w.accept("t299", 200).await;
    let lease = w.scheduler().await;
    assert_eq!(place(&*w.store, &lease, 160, None).await, 300);
    assert_eq!(place(&*w.store, &lease, 10, None).await, 0);
}
