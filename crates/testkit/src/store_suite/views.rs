//! What people and programs see, and what is kept and for how long.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use yard_domain::lifecycle::AttemptEnd;
use yard_domain::{AccountOwner, Priority, StateName, SubmissionKey, Verdict};
use yard_ports::store::{ClaimRequest, JobFilter, StoreError};

use super::World;
use super::world::{LONG, accepted, arrival, cluster_id, new_job};

/// Newest first, page by page, by team, states and cluster.
pub async fn lists_by_pages_and_filters(w: &World) {
    let ads = w.accept("ads", 5).await;
    let (lease, attempts) = w.run_all("east").await;
    w.end(&lease, &attempts[..2], &AttemptEnd::Succeeded).await;
    let ml = w.accept("ml", 3).await;
    let mut newest: Vec<_> = ads.iter().chain(&ml).copied().collect();
    newest.sort_unstable();
    newest.reverse();
    let list = async |filter: JobFilter| -> Vec<_> {
        w.store.jobs(&filter).await.unwrap().jobs.into_iter().map(|row| row.lifecycle.id).collect()
    };
    let any = JobFilter { limit: 100, ..JobFilter::default() };
    assert_eq!(list(any.clone()).await, newest);
    assert_eq!(list(JobFilter { limit: 3, ..any.clone() }).await, newest[..3]);
    assert_eq!(list(JobFilter { before: Some(newest[2]), limit: 3, ..any.clone() }).await, newest[3..6]);
    let team = Some("ads".parse().unwrap());
    let of_ads = list(JobFilter { team: team.clone(), ..any.clone() }).await;
    assert_eq!(of_ads.iter().copied().collect::<BTreeSet<_>>(), ads.iter().copied().collect());
    let by =
        async |states: &[StateName]| list(JobFilter { states: states.to_vec(), ..any.clone() }).await.len();
    assert_eq!(by(&[StateName::Queued]).await, 3);
    assert_eq!(by(&[StateName::Running]).await, 3);
    assert_eq!(by(&[StateName::Succeeded]).await, 2);
    assert_eq!(by(&[StateName::Queued, StateName::Running, StateName::Failed]).await, 6);
    assert_eq!(by(&[StateName::Expired]).await, 0);
    let states = vec![StateName::Succeeded];
    assert_eq!(list(JobFilter { team, states, ..any.clone() }).await.len(), 2);
    assert_eq!(list(JobFilter { cluster: Some(cluster_id("east")), ..any.clone() }).await.len(), 3);
    assert_eq!(list(JobFilter { cluster: Some(cluster_id("west")), ..any.clone() }).await.len(), 0);
    let row = w.store.jobs(&JobFilter { limit: 1, ..any }).await.unwrap().jobs.remove(0);
    let view = w.view(row.lifecycle.id).await;
    assert_eq!((&row.lifecycle, &row.key), (&view.lifecycle, &view.key));
    assert_eq!(
        (row.name, row.created_at, row.since),
        (format!("job {}", view.key), view.created_at, view.since)
    );
}

/// What no index knows is looked for in bounded stretches; cursors bring every job once, whatever the filter.
pub async fn searches_are_bounded_and_miss_nothing(w: &World) {
    let before = w.now().await;
    let ads = w
        .accept_with("ads", 30, |i, job| {
            job.key = format!("key-{i:02}");
            job.spec.name = format!("name {}", i % 3);
            job.spec.clusters.labels = BTreeMap::from([("Zone".to_owned(), format!("z{}", i % 2))]);
            job.document = format!(
                "{{\"metadata\":{{\"dag.id\":\"Nightly {}\",\"häuser\":\"ä\",\"n\":\"{i}\"}}}}",
                i % 5
            );
        })
        .await;
    w.accept("ml", 5).await;
    let (lease, attempts) = w.run_all("east").await;
    w.end(&lease, &attempts[..3], &AttemptEnd::Succeeded).await;
    let search = async |filter: JobFilter| -> (Vec<_>, u32) {
        let (mut found, mut calls) = (Vec::new(), 0);
        let mut filter = JobFilter { limit: 4, scan_max: 7, ..filter };
        loop {
            let page = w.store.jobs(&filter).await.unwrap();
            assert!(page.jobs.len() <= 4);
            (calls, filter.before) = (calls + 1, page.next);
            found.extend(page.jobs.into_iter().map(|row| row.lifecycle.id));
            if page.next.is_none() {
                assert!(found.is_sorted_by(|a, b| a > b), "newest first, each once");
                return (found, calls);
            }
        }
    };
    let any = JobFilter::default;
    let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let (found, calls) = search(JobFilter { metadata: pair("n", "0"), ..any() }).await;
    assert_eq!((found, calls), (vec![ads[0]], 6), "seven of 35 in each call, and one that finds the end");
    let dag = JobFilter { metadata: pair("dag.id", "Nightly 2"), ..any() };
    assert_eq!(search(dag.clone()).await.0.len(), 6);
    assert_eq!(search(JobFilter { metadata: pair("dag.id", "nightly 2"), ..any() }).await.0.len(), 0);
    assert_eq!(search(JobFilter { metadata: pair("häuser", "ä"), ..any() }).await.0.len(), 30);
    let both = [pair("dag.id", "Nightly 2"), pair("n", "7")].concat();
    assert_eq!(search(JobFilter { metadata: both, ..any() }).await.0, [ads[7]]);
    assert_eq!(search(JobFilter { labels: pair("Zone", "z1"), ..any() }).await.0.len(), 15);
    assert_eq!(search(JobFilter { labels: pair("zone", "z1"), ..any() }).await.0.len(), 0);
    assert_eq!(search(JobFilter { key_prefix: Some("key-1".to_owned()), ..any() }).await.0.len(), 10);
    assert_eq!(search(JobFilter { key_prefix: Some("KEY".to_owned()), ..any() }).await.0.len(), 0);
    assert_eq!(search(JobFilter { name: Some("name 1".to_owned()), ..any() }).await.0.len(), 10);
    let team = Some("ads".parse().unwrap());
    assert_eq!(search(JobFilter { team: team.clone(), ..dag }).await.0.len(), 6);
    assert_eq!(search(JobFilter { team: team.clone(), ..any() }).await.0.len(), 30);
    let cluster = Some(cluster_id("east"));
    let states = vec![StateName::Running];
    let (on_east, _) = search(JobFilter { cluster, team, states, ..any() }).await;
    assert!((27..=30).contains(&on_east.len()), "all of ads but those of the three that ended");
    let after = w.now().await.plus(Duration::from_secs(1));
    assert_eq!(search(JobFilter { accepted_from: Some(before), ..any() }).await.0.len(), 35);
    assert_eq!(search(JobFilter { accepted_from: Some(after), ..any() }).await.0.len(), 0);
    assert_eq!(search(JobFilter { accepted_before: Some(after), ..any() }).await.0.len(), 35);
    assert_eq!(search(JobFilter { accepted_before: Some(before), ..any() }).await.0.len(), 0);
}

/// How many go before a job: by priority, then age, of its own team, and only those that may be placed now.
pub async fn a_job_knows_its_place(w: &World) {
    let older = w.accept("ads", 3).await;
    let mut job = new_job("ads", "urgent");
    job.spec.priority = Priority::new(5).unwrap();
    let urgent = accepted(&w.store.accept(&[arrival(job)]).await.unwrap()[0]);
    let later = w.accept("ads", 2).await;
    w.accept("ml", 4).await;
    let place = async |id| {
        let place = w.store.queue_place(id).await.unwrap();
        place.map(|p| (p.ahead_of_team, p.ahead_of_group))
    };
    assert_eq!(place(urgent).await, Some((0, 0)));
    assert_eq!(place(older[0]).await, Some((1, 1)));
    assert_eq!(place(older[2]).await, Some((3, 3)));
    assert_eq!(place(later[1]).await, Some((5, 5)));
    let scheduler = w.scheduler().await;
    let view = w.view(urgent).await;
    let claim = ClaimRequest { team: view.lifecycle.team.clone(), shape: view.shape, max: 2 };
    w.store.claim(&scheduler, &[claim]).await.unwrap();
    assert_eq!(place(urgent).await, None, "it is not queued any more");
    assert_eq!(place(later[1]).await, Some((3, 3)), "two are in a scheduler's hands");
    let whole = w.store.queue_place(later[1]).await.unwrap().unwrap();
    let view = w.view(later[1]).await;
    assert_eq!((&whole.head.team, whole.head.shape), (&view.lifecycle.team, view.shape));
    assert_eq!((&whole.head.orders[..], &whole.head.request), (&[view.order][..], &view.lifecycle.request));
    assert_eq!(whole.head.run_timeout, view.lifecycle.run_timeout);
    assert_eq!(place(super::world::fresh_id()).await, None);
}

/// Open jobs by team and state; what has ended is not counted.
pub async fn counts_by_team_and_state(w: &World) {
    w.accept("ads", 6).await;
    let (lease, attempts) = w.run_all("east").await;
    w.end(&lease, &attempts[..1], &AttemptEnd::Succeeded).await;
    let lost = yard_domain::Failure::new(yard_domain::FailureClass::Lost, None, "gone");
    let backoff =
        yard_domain::RetryRules { backoff_initial: LONG, backoff_max: LONG, ..super::world::rules() };
    let ends = super::world::ends(&attempts[1..3], &AttemptEnd::Failed(lost));
    w.store.record_ends(&lease, &backoff, &ends).await.unwrap();
    w.accept("ads", 2).await;
    w.accept("ml", 3).await;
    let scheduler = w.scheduler().await;
    w.claim(&scheduler, 1).await;
    let open = w.store.stats().await.unwrap().open;
    let shown: Vec<_> = open.iter().map(|((team, state), n)| (team.as_str(), *state, *n)).collect();
    let wanted = [
        ("ads", StateName::Queued, 3),
        ("ads", StateName::Claimed, 1),
        ("ads", StateName::Running, 3),
        ("ml", StateName::Queued, 2),
        ("ml", StateName::Claimed, 1),
    ];
    assert_eq!(shown, wanted);
}

/// A purge deletes what ended long ago, as much as asked for; the key stays taken for ever.
pub async fn receipts_and_keys_outlive_a_purge(w: &World) {
    let job = accepted(&w.store.accept(&[arrival(new_job("ads", "k"))]).await.unwrap()[0]);
    w.accept("ads", 2).await;
    let (lease, attempts) = w.run_all("east").await;
    w.end(&lease, &attempts, &AttemptEnd::Succeeded).await;
    let open = w.accept("ads", 1).await[0];
    assert_eq!(w.store.purge(LONG, 10).await.unwrap(), 0, "not long enough ago");
    assert_eq!(w.store.purge(Duration::ZERO, 2).await.unwrap(), 2);
    assert_eq!(w.store.purge(Duration::ZERO, 10).await.unwrap(), 1);
    assert_eq!(w.store.purge(Duration::ZERO, 10).await.unwrap(), 0);
    assert!(w.store.job(job).await.unwrap().is_none());
    assert_eq!(w.store.history(job, 0, 10).await.unwrap(), []);
    assert_eq!(w.state(open).await, StateName::Queued);
    let again = w.store.accept(&[arrival(new_job("ads", "k"))]).await.unwrap();
    assert_eq!(again, [Verdict::Accepted { job, first: false }]);
    let key = SubmissionKey { team: "ads".to_owned(), key: "k".to_owned() };
    let receipt = w.store.receipt(&key).await.unwrap().unwrap();
    assert_eq!(receipt.verdict, Verdict::Accepted { job, first: true });
}

/// A row that fits no state is an error that names table and row, never a default.
pub async fn an_unknown_state_is_an_error_that_names_the_row(w: &World) {
    let jobs = w.accept("ads", 3).await;
    w.tamper(&format!("UPDATE jobs SET state = 'dreaming' WHERE id = x'{}'", jobs[0].0.simple())).await;
    w.tamper(&format!("UPDATE jobs SET state = 'running' WHERE id = x'{}'", jobs[1].0.simple())).await;
    for (id, problem) in [(jobs[0], "dreaming"), (jobs[1], "NULL")] {
        match w.store.job(id).await {
            Err(StoreError::Inconsistent { table: "jobs", row, problem: found }) => {
                assert_eq!(row, id.to_string());
                assert!(found.contains(problem), "{found}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(w.state(jobs[2]).await, StateName::Queued);
}

/// A stored sum that is not the sum of the open attempts is found and told.
pub async fn the_audit_finds_drift(w: &World) {
    w.accept("ads", 2).await;
    w.run_all("east").await;
    assert_eq!(w.store.audit().await.unwrap(), []);
    let used = "{\"cpu_milli\":1,\"gpu_milli\":0,\"memory_bytes\":0,\"jobs\":9,\"custom_milli\":{}}";
    w.tamper(&format!("UPDATE accounts SET used = '{used}' WHERE owner = 'team:ads'")).await;
    let drift = w.store.audit().await.unwrap();
    assert_eq!(drift.len(), 1);
    assert_eq!(drift[0].owner, AccountOwner::Team("ads".parse().unwrap()));
    assert_eq!((drift[0].stored.jobs, drift[0].recomputed.jobs), (9, 2));
    w.tamper("DELETE FROM accounts WHERE owner = 'cluster:east'").await;
    assert_eq!(w.store.audit().await.unwrap().len(), 2, "an account that is missing is drift, too");
}

/// From where one has read to, as many as asked for, in order.
pub async fn history_by_pages(w: &World) {
    let job = w.accept("ads", 1).await[0];
    w.run_all("east").await;
    let all = w.history(job).await;
    assert_eq!(all.len(), 5);
    assert_eq!(w.store.history(job, 0, 2).await.unwrap(), all[..2]);
    assert_eq!(w.store.history(job, 2, 2).await.unwrap(), all[2..4]);
    assert_eq!(w.store.history(job, 5, 2).await.unwrap(), []);
    assert!(w.store.job(super::world::fresh_id()).await.unwrap().is_none());
}
