//! Tables and properties of [`super`].

use proptest::prelude::*;

use super::*;

fn cpu(n: u64) -> Request {
    Request { cpu_milli: n, jobs: 1, ..Request::default() }
}

fn limit(cpu: Option<u64>) -> Limits {
    Limits { cpu_milli: cpu, ..Limits::default() }
}

fn team(id: &str, cohort: Option<&str>, quota: Option<u64>, max: Option<u64>) -> Team {
    let cohort = cohort.map(|c| c.parse().unwrap());
    Team { cohort, quota: limit(quota), max: limit(max), ..Team::new(id.parse().unwrap()) }
}

fn cohort(id: &str, parent: Option<&str>, quota: Option<u64>, max: Option<u64>) -> Cohort {
    let parent = parent.map(|c| c.parse().unwrap());
    Cohort { parent, quota: limit(quota), max: limit(max), ..Cohort::new(id.parse().unwrap()) }
}

/// What `team` can still be given, one thousandth of a cpu at a time, beside what the others use.
fn room(tree: &QuotaTree, used: &[(&str, u64)], team: &str) -> u64 {
    let used: HashMap<TeamId, Request> = used.iter().map(|(t, n)| (t.parse().unwrap(), cpu(*n))).collect();
    let mut usage = tree.usage(|t| used.get(t));
    let node = tree.node_of(&team.parse().unwrap()).unwrap();
    let one = cpu(1);
    (0..10_000)
        .take_while(|_| tree.allows(&usage, node, &one).map(|()| tree.charge(&mut usage, node, &one)).is_ok())
        .count() as u64
}

#[test]
fn a_team_alone_has_its_quota_and_no_more() {
    let tree = QuotaTree::new(&[team("a", None, Some(5), None), team("b", None, None, None)], &[]);
    assert_eq!(room(&tree, &[("a", 2)], "a"), 3);
    assert_eq!(room(&tree, &[], "b"), 10_000, "what nobody names is not bounded");
}

#[test]
fn members_of_a_cohort_use_what_the_others_do_not() {
    let teams = [
        team("a", Some("c"), Some(4), None),
        team("b", Some("c"), Some(6), Some(8)),
        team("none", Some("c"), None, None),
        team("other", None, Some(1), None),
    ];
    let tree = QuotaTree::new(&teams, &[cohort("c", None, Some(2), None)]);
    assert_eq!(room(&tree, &[], "a"), 12, "4 of its own, 6 of b's, 2 of the cohort's");
    assert_eq!(room(&tree, &[], "b"), 8, "its max");
    assert_eq!(room(&tree, &[("a", 5), ("other", 1)], "b"), 7, "what is left");
    assert_eq!(room(&tree, &[("b", 6)], "none"), 6, "nothing of its own, but it may borrow");
    let used = Request { cpu_milli: 8, ..Request::default() };
    let usage = tree.usage(|t| (t.as_str() == "b").then_some(&used));
    let short = tree.allows(&usage, 1, &cpu(1)).unwrap_err();
    assert_eq!(short.to_string(), "team b, cpu: asks 0.001, 0 free");
}

#[test]
fn nested_cohorts_borrow_up_to_their_max() {
    let teams = [team("a", Some("left"), Some(2), None), team("b", Some("right"), Some(10), None)];
    let cohorts = [
        cohort("left", Some("all"), None, Some(5)),
        cohort("right", Some("all"), None, None),
        cohort("all", None, None, None),
    ];
    let tree = QuotaTree::new(&teams, &cohorts);
    assert_eq!(room(&tree, &[], "a"), 5, "left may borrow 3");
    assert_eq!(room(&tree, &[("b", 9)], "a"), 3, "12 in all");
    assert_eq!(tree.lenders(&"a".parse().unwrap()).len(), 2);
    assert_eq!(tree.nodes()[tree.root_of(0)].nominal.cpu_milli, Some(12));
}

#[test]
fn what_is_wrong_is_said_of_each() {
    let teams = [team("a", Some("nowhere"), Some(5), Some(4)), team("b", None, None, Some(1))];
    let cohorts = [
        cohort("x", Some("y"), None, None),
        cohort("y", Some("x"), None, None),
        cohort("z", Some("q"), None, None),
        cohort("under", Some("x"), None, None),
    ];
    let said: Vec<String> = faults(&teams, &cohorts)
        .into_iter()
        .map(|f| format!("{} {}: {}", f.owner, f.field, f.message))
        .collect();
    assert_eq!(
        said,
        [
            "team a cohort: there is no cohort nowhere: add [[cohort]] id = \"nowhere\", or name another",
            "team a max: cpu is below the nominal quota: a team may always use that; raise max or lower quota",
            "team b max: without a cohort there is nobody to borrow from: put the bounds into quota",
            "cohort x parent: cohort x would be inside itself: give one of them another parent, or none",
            "cohort y parent: cohort y would be inside itself: give one of them another parent, or none",
            "cohort z parent: there is no cohort q: add [[cohort]] id = \"q\", or name another",
        ]
    );
    let tree = QuotaTree::new(&teams, &cohorts);
    assert_eq!(tree.upwards().len(), 6, "a ring is cut, not followed");
}

proptest! {
    /// Whatever is allowed one after the other: no tree uses more than the sum of its quotas, no node more than its
    /// max, and a team alone in its demand gets at least its nominal quota.
    #[test]
    fn never_over_and_nominal_is_there(
        teams in prop::collection::vec((0usize..4, prop::option::of(0u64..6), prop::option::of(6u64..12)), 1..5),
        cohorts in prop::collection::vec((0usize..5, prop::option::of(0u64..4), prop::option::of(10u64..30)), 1..4),
        turns in prop::collection::vec(0usize..5, 0..60),
    ) {
        let name = |i: usize| format!("c{i}");
        let cohorts: Vec<Cohort> = cohorts.iter().enumerate()
            .map(|(i, (p, q, m))| cohort(&name(i), (*p < i).then(|| name(*p)).as_deref(), *q, *m)).collect();
        let teams: Vec<Team> = teams.iter().enumerate()
            .map(|(i, (c, q, m))| team(&format!("t{i}"), (*c < cohorts.len()).then(|| name(*c)).as_deref(), *q, *m)).collect();
        let tree = QuotaTree::new(&teams, &cohorts);
        let mut usage = tree.usage(|_| None);
        let one = cpu(1);
        for turn in turns {
            let node = turn % teams.len();
            if tree.allows(&usage, node, &one).is_ok() {
                tree.charge(&mut usage, node, &one);
            }
        }
        for (node, used) in tree.nodes().iter().zip(&usage) {
            prop_assert!(node.ceiling.limit("cpu").is_none_or(|bound| used.cpu_milli <= bound));
            if node.parent.is_none() {
                prop_assert!(node.nominal.limit("cpu").is_none_or(|bound| used.cpu_milli <= bound));
            }
        }
        for (i, t) in teams.iter().enumerate() {
            let above_max = tree.path(i).any(|n| tree.nodes()[n].ceiling.limit("cpu").is_some_and(|b| b < t.quota.cpu_milli.unwrap_or(0)));
            if let Some(nominal) = t.quota.cpu_milli.filter(|_| !above_max) {
                prop_assert!(room(&tree, &[], t.id.as_str()) >= nominal);
            }
        }
    }
}
