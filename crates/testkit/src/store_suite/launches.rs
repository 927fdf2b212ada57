//! Launches: begun under the cluster's lease, before anything is sent; seen running once.

use yard_domain::{AttemptNumber, JobState, StateName};
use yard_ports::store::{AttemptRef, Recorded};

use super::World;
use super::world::{LONG, cluster_id, fresh_id};

/// As many as asked for, longest placed first, each with what its launch needs.
pub async fn longest_placed_first(w: &World) {
    let first = w.accept("ads", 2).await;
    w.place_all("east").await;
    let second = w.accept("ads", 2).await;
    w.place_all("east").await;
    w.accept("ml", 1).await;
    w.place_all("west").await;
    let lease = w.dispatcher("east").await;
    let batch = w.store.begin_launches(&lease, 3).await.unwrap();
    let begun: Vec<_> = batch.orders.iter().map(|o| o.job.id).collect();
    assert_eq!((begun, batch.stopped.len()), (vec![first[0], first[1], second[0]], 0));
    let order = &batch.orders[0];
    assert_eq!(order.attempt, AttemptNumber(1));
    let view = w.view(first[0]).await;
    assert_eq!((&order.document, &order.job), (&view.document, &view.lifecycle));
    let JobState::Launching { deadline, .. } = view.lifecycle.state else { panic!("{view:?}") };
    assert_eq!(deadline, view.since.plus(LONG));
    assert_eq!(view.attempts[0].launched_at, Some(view.since));
    assert_eq!(w.history(first[0]).await.last().unwrap().actor.0, "dispatcher:d1");
    let rest = w.store.begin_launches(&lease, 10).await.unwrap();
    assert_eq!(rest.orders.iter().map(|o| o.job.id).collect::<Vec<_>>(), [second[1]]);
    assert_eq!(w.store.begin_launches(&lease, 10).await.unwrap().orders.len(), 0);
}

/// What a dispatcher must know of its cluster, by pages: launching and running, not placed, not elsewhere.
pub async fn attempts_of_a_cluster_by_pages(w: &World) {
    let mut jobs = w.accept("ads", 7).await;
    let (lease, attempts) = w.launch_all("east").await;
    w.store.record_started(&lease, &attempts[..3]).await.unwrap();
    w.accept("ml", 1).await;
    w.place_all("west").await;
    w.accept("ml", 1).await;
    w.place_all("east").await;
    jobs.sort_unstable();
    let (east, mut after, mut seen) = (cluster_id("east"), None, Vec::new());
    loop {
        let page = w.store.active_attempts(&east, after, 3).await.unwrap();
        assert!(page.len() <= 3);
        let Some(last) = page.last() else { break };
        after = Some(last.job);
        seen.extend(page);
    }
    assert_eq!(seen.iter().map(|a| a.job).collect::<Vec<_>>(), jobs);
    let running = seen.iter().filter(|a| a.state == StateName::Running).count();
    assert_eq!((running, seen.len()), (3, 7));
    for active in &seen {
        let view = w.view(active.job).await;
        assert_eq!(
            (active.state, Some(active.deadline)),
            (view.lifecycle.state.name(), view.lifecycle.state.deadline())
        );
        assert_eq!(
            (active.attempt, active.stopping.is_some(), active.team.as_str()),
            (AttemptNumber(1), false, "ads")
        );
    }
}

/// Seen running: the run timeout runs. Seen again, or about another attempt: stale.
pub async fn starting_once(w: &World) {
    let jobs = w.accept("ads", 2).await;
    let (lease, attempts) = w.launch_all("east").await;
    let other = AttemptRef { attempt: AttemptNumber(2), ..attempts[1] };
    let absent = AttemptRef { job: fresh_id(), attempt: AttemptNumber(1) };
    let recorded = w.store.record_started(&lease, &[attempts[0], other, absent, attempts[0]]).await.unwrap();
    let view = w.view(jobs[0]).await;
    let deadline = view.since.plus(LONG);
    let wanted = [Recorded::Started { deadline }, Recorded::Stale, Recorded::Stale, Recorded::Stale];
    assert_eq!(recorded, wanted);
    let JobState::Running { deadline: stored, .. } = view.lifecycle.state else { panic!("{view:?}") };
    assert_eq!(stored, deadline);
    assert_eq!(view.attempts[0].started_at, Some(view.since));
    assert_eq!(w.state(jobs[1]).await, StateName::Launching);
    assert_eq!(w.store.record_started(&lease, &attempts[..1]).await.unwrap(), [Recorded::Stale]);
    assert_eq!(w.codes(jobs[0]).await, ["accepted", "claimed", "placed", "launch_begun", "started"]);
}

/// What runs on a cluster is current only as the open attempt of its job on that very cluster.
pub async fn currency_of_attempts(w: &World) {
    w.accept("ads", 2).await;
    let (lease, attempts) = w.run_all("east").await;
    let later = AttemptRef { attempt: AttemptNumber(2), ..attempts[0] };
    let absent = AttemptRef { job: fresh_id(), attempt: AttemptNumber(1) };
    let ask = [attempts[0], later, absent, attempts[1]];
    let (east, west) = (cluster_id("east"), cluster_id("west"));
    assert_eq!(w.store.are_current(&east, &ask).await.unwrap(), [true, false, false, true]);
    assert_eq!(w.store.are_current(&west, &ask).await.unwrap(), [false; 4]);
    w.end(&lease, &attempts[..1], &yard_domain::lifecycle::AttemptEnd::Succeeded).await;
    assert_eq!(w.store.are_current(&east, &ask).await.unwrap(), [false, false, false, true]);
    assert_eq!(w.store.are_current(&east, &[]).await.unwrap(), [] as [bool; 0]);
}
