//! Turns between teams.

use super::world::{cohort, member};
use super::*;

#[test]
fn who_stays_within_its_nominal_quota_comes_before_who_would_borrow() {
    let mut lender = member("lender", "both", 4);
    lender.used = request(3, 0);
    let teams = vec![lender, member("taker", "both", 0)];
    let groups = vec![group("lender", request(1, 0), 0, 5..6), group("taker", request(1, 0), 0, 0..1)];
    let mut clusters = vec![cluster("east", 4, 0, 100)];
    clusters[0].used = request(3, 0);
    let parts = Parts { teams, cohorts: vec![cohort("both", None)], clusters, groups, ..Parts::default() };
    let plan = plan(&Snapshot::new(parts), &policy(), NOW, 1);
    assert_eq!(
        plan.placements[0].team.as_str(),
        "lender",
        "though it has more in use and its job is younger"
    );
}

#[test]
fn cohorts_share_before_their_teams_do() {
    let teams =
        vec![member("a1", "a", 12), member("b1", "b", 12), member("b2", "b", 12), member("b3", "b", 12)];
    let cohorts = vec![cohort("a", Some("all")), cohort("b", Some("all")), cohort("all", None)];
    let groups = ["a1", "b1", "b2", "b3"].map(|t| group(t, request(1, 0), 0, 0..20)).into();
    let clusters = vec![cluster("east", 12, 0, 100)];
    let parts = Parts { teams, cohorts, clusters, groups, ..Parts::default() };
    let plan = plan(&Snapshot::new(parts), &policy(), NOW, 1);
    let got = counts(&plan);
    assert_eq!(["a1", "b1", "b2", "b3"].map(|t| got[&(t.into(), "east".into())]), [6, 2, 2, 2]);
}

#[test]
fn past_use_counts_like_use() {
    let mut teams = vec![team("a", 1, None), team("b", 1, None)];
    teams[0].past = request(6, 0);
    let groups = vec![group("a", request(1, 0), 0, 0..20), group("b", request(1, 0), 0, 0..20)];
    let plan = plan(&snapshot(teams, vec![cluster("east", 10, 0, 100)], groups), &policy(), NOW, 1);
    assert_eq!(counts(&plan)[&("b".into(), "east".into())], 8);
}

#[test]
fn the_dominant_resource_decides() {
    let teams = vec![team("cpu", 1, None), team("gpu", 1, None)];
    // DRF's own example (Ghodsi et al. 2011, section 4.1): 9 cpus and 18 of the other; 3 tasks and 2.
    let groups = vec![group("cpu", request(1, 4), 0, 0..20), group("gpu", request(3, 1), 0, 0..20)];
    let plan = plan(&snapshot(teams, vec![cluster("east", 9, 18, 100)], groups), &policy(), NOW, 1);
    let got = counts(&plan);
    assert_eq!([got[&("cpu".into(), "east".into())], got[&("gpu".into(), "east".into())]], [3, 2]);
}
