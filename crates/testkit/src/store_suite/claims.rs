//! Claims: first in the queue first, each job in one hand only, never more than asked for.

use std::collections::{BTreeMap, BTreeSet};

use yard_domain::event::ReleaseReason;
use yard_domain::{JobState, Priority, StateName};
use yard_ports::store::{ClaimRequest, QueueView, WaitNote};

use super::World;
use super::world::{LONG, cluster_id};

/// Of one shape: the higher priority first, then the older.
pub async fn priority_then_age(w: &World) {
    let priorities = [0, 5, -3, 5, 0, 1_000];
    let mut jobs = Vec::new();
    for priority in priorities {
        let set =
            |_: usize, job: &mut yard_domain::NewJob| job.spec.priority = Priority::new(priority).unwrap();
        jobs.push(w.accept_with("ads", 1, set).await[0]);
    }
    let wanted: Vec<_> = [5, 1, 3, 0, 4, 2].map(|i| jobs[i]).into();
    let input = w.store.load_placement_input(QueueView { groups: 10, depth: 4 }).await.unwrap();
    assert_eq!(input.heads.len(), 1);
    assert_eq!(input.heads[0].orders.len(), 4, "no more than asked for");
    assert!(input.heads[0].orders.is_sorted());
    assert_eq!(input.heads[0].orders[0], w.view(jobs[5]).await.order);
    assert_eq!(input.heads[0].request, w.view(jobs[5]).await.lifecycle.request);
    assert_eq!(input.heads[0].run_timeout, LONG);
    let lease = w.scheduler().await;
    let claimed: Vec<_> = w.claim(&lease, 10).await.iter().map(|c| c.id).collect();
    assert_eq!(claimed, wanted);
    let view = w.view(jobs[0]).await;
    let JobState::Claimed { lease: token, .. } = view.lifecycle.state else { panic!("{view:?}") };
    assert_eq!(token, lease.token);
    assert_eq!(w.codes(jobs[0]).await, ["accepted", "claimed"]);
    assert_eq!(w.history(jobs[0]).await[1].actor.0, "scheduler:s1");
}

/// `max` is a bound; zero is none; two requests for one group add up.
pub async fn never_more_than_asked_for(w: &World) {
    w.accept("ads", 10).await;
    let lease = w.scheduler().await;
    assert_eq!(w.claim(&lease, 0).await.len(), 0);
    assert_eq!(w.claim(&lease, 3).await.len(), 3);
    let head = w.store.load_placement_input(QueueView { groups: 1, depth: 1 }).await.unwrap().heads.remove(0);
    let request = ClaimRequest { team: head.team, shape: head.shape, max: 2 };
    let claimed = w.store.claim(&lease, &[request.clone(), request]).await.unwrap();
    let distinct: BTreeSet<_> = claimed.iter().map(|c| c.id).collect();
    assert_eq!((claimed.len(), distinct.len()), (4, 4));
    assert_eq!(w.claim(&lease, 100).await.len(), 3);
    assert_eq!(w.claim(&lease, 100).await.len(), 0);
}

/// Several teams and shapes in one call, each with its own bound.
pub async fn claims_of_several_groups(w: &World) {
    w.accept("ads", 4).await;
    w.accept_with("ads", 4, |_, job| job.spec.request.cpu_milli = 2_000).await;
    w.accept("ml", 4).await;
    let input = w.store.load_placement_input(QueueView { groups: 10, depth: 10 }).await.unwrap();
    assert_eq!(input.heads.len(), 3);
    assert!(input.heads.iter().all(|h| h.orders.len() == 4));
    let lease = w.scheduler().await;
    let claimed = w.claim(&lease, 3).await;
    let mut per_group: BTreeMap<_, u32> = BTreeMap::new();
    for c in &claimed {
        let view = w.view(c.id).await;
        assert_eq!((&view.lifecycle.team, view.shape), (&c.team, c.shape));
        *per_group.entry((c.team.clone(), c.shape)).or_default() += 1;
    }
    assert_eq!(per_group.into_values().collect::<Vec<_>>(), [3, 3, 3]);
}

/// Eight schedulers on one deep queue: no job twice, none lost, none refused to all.
pub async fn concurrent_claimers_share_without_overlap(w: &World) {
    let all: BTreeSet<_> = w.accept("ads", 600).await.into_iter().collect();
    let head = w.store.load_placement_input(QueueView { groups: 1, depth: 1 }).await.unwrap().heads.remove(0);
    let mut tasks = Vec::new();
    for i in 0..8 {
        let lease = w.scheduler_for(&format!("s{i}"), LONG).await;
        let (store, request) =
            (w.store.clone(), ClaimRequest { team: head.team.clone(), shape: head.shape, max: 17 });
        tasks.push(tokio::spawn(async move {
            let mut mine = Vec::new();
            let mut idle = 0;
            // Rows in other hands are skipped, so an empty answer is only final when it repeats.
            while idle < 3 {
                let claimed = store.claim(&lease, std::slice::from_ref(&request)).await.unwrap();
                assert!(claimed.len() <= 17);
                idle = if claimed.is_empty() { idle + 1 } else { 0 };
                mine.extend(claimed.into_iter().map(|c| c.id));
            }
            mine
        }));
    }
    let mut claimed = Vec::new();
    for task in tasks {
        claimed.extend(task.await.unwrap());
    }
    assert_eq!(claimed.len(), 600);
    assert_eq!(claimed.into_iter().collect::<BTreeSet<_>>(), all);
}

/// A claim given back stands where it stood.
pub async fn releasing_puts_back_in_place(w: &World) {
    let jobs = w.accept("ads", 3).await;
    let lease = w.scheduler().await;
    w.claim(&lease, 2).await;
    let released = w.store.release_claims(&lease, &jobs, ReleaseReason::Shutdown).await.unwrap();
    assert_eq!(released, 2, "the third was not claimed");
    assert_eq!(w.state(jobs[0]).await, StateName::Queued);
    assert_eq!(w.codes(jobs[0]).await, ["accepted", "claimed", "released"]);
    let again: Vec<_> = w.claim(&lease, 10).await.iter().map(|c| c.id).collect();
    assert_eq!(again, jobs);
}

/// Few groups of many: every team has its turn before any has a second.
pub async fn the_view_is_bounded_and_fair(w: &World) {
    w.accept_with("ads", 20, |i, job| job.spec.request.cpu_milli = 1_000 + i as u64).await;
    w.accept("ml", 1).await;
    let input = w.store.load_placement_input(QueueView { groups: 3, depth: 1 }).await.unwrap();
    let mut teams: Vec<_> = input.heads.iter().map(|h| h.team.to_string()).collect();
    teams.sort();
    assert_eq!(teams, ["ads", "ads", "ml"]);
    let mut ads: Vec<_> = input.heads.iter().filter(|h| h.team.as_str() == "ads").collect();
    ads.sort_by_key(|h| h.orders[0]);
    assert_eq!(ads.iter().map(|h| h.request.cpu_milli).collect::<Vec<_>>(), [1_000, 1_001], "oldest first");
    assert_eq!((input.clusters.len(), input.teams.len(), input.accounts.len()), (2, 2, 4));
    // Asked for again, the meaning of a shape is the same (stores may remember it).
    let again = w.store.load_placement_input(QueueView { groups: 3, depth: 1 }).await.unwrap();
    assert_eq!(again.heads, input.heads);
}

/// The last note of a group is shown with each of its jobs that waits.
pub async fn notes_tell_why_a_job_waits(w: &World) {
    let jobs = w.accept("ads", 2).await;
    assert_eq!(w.view(jobs[0]).await.waiting, None);
    let lease = w.scheduler().await;
    let view = w.view(jobs[0]).await;
    let expected_start = Some(w.now().await.plus(LONG));
    let note = |code: &str| WaitNote {
        team: view.lifecycle.team.clone(),
        shape: view.shape,
        code: code.to_owned(),
        message: "the team's quota is used up".to_owned(),
        clusters: BTreeMap::from([(cluster_id("east"), "full".to_owned())]),
        expected_start,
    };
    w.store.note_waits(&lease, &[note("capacity")]).await.unwrap();
    w.store.note_waits(&lease, &[note("quota")]).await.unwrap();
    assert_eq!(w.view(jobs[0]).await.waiting, Some(note("quota")));
    let unknown = WaitNote { expected_start: None, ..note("quota") };
    w.store.note_waits(&lease, std::slice::from_ref(&unknown)).await.unwrap();
    assert_eq!(w.view(jobs[0]).await.waiting, Some(unknown));
    w.store.note_waits(&lease, &[note("quota")]).await.unwrap();
    w.claim(&lease, 1).await;
    assert_eq!(w.view(jobs[0]).await.waiting, None, "it does not wait now");
    assert_eq!(w.view(jobs[1]).await.waiting, Some(note("quota")));
}
