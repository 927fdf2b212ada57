//! Making room: an attempt is asked once, stops with its cause known, and its job is queued again at nobody's expense.

use std::collections::BTreeSet;

use yard_domain::event::Event;
use yard_domain::lifecycle::AttemptEnd;
use yard_domain::{AccountOwner, AttemptNumber, Failure, FailureClass, Outcome, StateName};
use yard_ports::store::{AttemptRef, PreemptOrder, Recorded, StopAnswer, StopCause};

use super::World;
use super::world::{LONG, cluster_id, eventually, fresh_id, rules};

fn order(attempt: AttemptRef) -> PreemptOrder {
    PreemptOrder { attempt, for_team: "ml".parse().unwrap(), reason: "ml wants its share".to_owned() }
}

fn orders(attempts: &[AttemptRef]) -> Vec<PreemptOrder> {
    attempts.iter().copied().map(order).collect()
}

fn preempted() -> AttemptEnd {
    AttemptEnd::Failed(Failure::new(FailureClass::Preempted, None, "made room"))
}

async fn wishes(w: &World) -> Vec<(AttemptRef, StopCause)> {
    w.store.stop_wishes(&cluster_id("east")).await.unwrap()
}

/// Asked: seen by its dispatcher and by placement, told in its history; ended: queued again, and the next attempt
/// knows nothing of it.
pub async fn an_attempt_is_asked_to_make_room_once(w: &World) {
    let jobs = w.accept("ads", 2).await;
    let (lease, attempts) = w.run_all("east").await;
    let scheduler = w.scheduler().await;
    let ask = orders(&attempts[..1]);
    assert_eq!(w.store.request_preemptions(&scheduler, &ask).await.unwrap(), 1);
    assert_eq!(w.store.request_preemptions(&scheduler, &ask).await.unwrap(), 0, "asked already");
    assert_eq!(wishes(w).await, [(attempts[0], StopCause::Preempted)]);
    let active = w.store.active_attempts(&cluster_id("east"), None, 10).await.unwrap();
    assert_eq!(active.iter().map(|a| a.stopping).collect::<Vec<_>>(), [Some(StopCause::Preempted), None]);
    let holdings = w.store.open_holdings(10).await.unwrap();
    let leaving: Vec<_> = holdings.iter().filter(|h| h.leaving).map(|h| h.attempt).collect();
    assert_eq!((holdings.len(), leaving), (2, vec![attempts[0]]));
    let line = w.history(jobs[0]).await.pop().unwrap();
    let told = Event::PreemptRequested {
        attempt: AttemptNumber(1),
        for_team: "ml".parse().unwrap(),
        reason: "ml wants its share".to_owned(),
    };
    assert_eq!(
        (line.event, line.actor.0.as_str(), line.from, line.to),
        (told, "scheduler:s1", Some(StateName::Running), StateName::Running,)
    );
    assert!(w.view(jobs[0]).await.lifecycle.preempt_requested);
    let recorded = w.end(&lease, &attempts[..1], &preempted()).await;
    assert!(matches!(recorded[0], Recorded::Requeued { .. }), "{recorded:?}");
    assert_eq!(wishes(w).await, []);
    let job = w.view(jobs[0]).await.lifecycle;
    assert_eq!(
        (job.preempt_requested, job.counts.own, job.counts.infra, job.counts.preempted),
        (false, 0, 0, 1)
    );
    w.store.sweep_clocks(&scheduler, &rules(), 10).await.unwrap();
    w.place_all("east").await;
    assert_eq!(w.view(jobs[0]).await.lifecycle.attempts, 2);
    assert!(
        w.store.open_holdings(10).await.unwrap().iter().all(|h| !h.leaving),
        "it was about the first attempt"
    );
    assert_eq!(wishes(w).await, []);
}

/// A person's wish counts more than room for others, whichever came first.
pub async fn a_persons_wish_outranks(w: &World) {
    let jobs = w.accept("ads", 2).await;
    let (lease, attempts) = w.run_all("east").await;
    let scheduler = w.scheduler().await;
    assert_eq!(w.store.request_preemptions(&scheduler, &orders(&attempts[..1])).await.unwrap(), 1);
    for job in &jobs {
        assert_eq!(w.store.request_stop(*job, "ann", "x").await.unwrap(), StopAnswer::Requested);
    }
    assert_eq!(w.store.request_preemptions(&scheduler, &orders(&attempts)).await.unwrap(), 0);
    let requested = |i: usize| (attempts[i], StopCause::Requested);
    assert_eq!(wishes(w).await, [requested(0), requested(1)]);
    let recorded = w.end(&lease, &attempts, &preempted()).await;
    assert_eq!(recorded, [Recorded::Ended(Outcome::Stopped), Recorded::Ended(Outcome::Stopped)]);
    assert_eq!(wishes(w).await, []);
    assert!(!w.view(jobs[0]).await.lifecycle.preempt_requested, "forgotten with the attempt");
}

/// Queued, ended, not there, or another attempt than the open one: left as they are.
pub async fn only_open_attempts_are_asked(w: &World) {
    let jobs = w.accept("ads", 2).await;
    let (lease, attempts) = w.run_all("east").await;
    w.end(&lease, &attempts[..1], &AttemptEnd::Succeeded).await;
    let queued = w.accept("ads", 1).await[0];
    let first = |job| AttemptRef { job, attempt: AttemptNumber(1) };
    let second = AttemptRef { job: jobs[1], attempt: AttemptNumber(2) };
    let scheduler = w.scheduler().await;
    let ask = orders(&[first(jobs[0]), first(queued), first(fresh_id()), second]);
    assert_eq!(w.store.request_preemptions(&scheduler, &ask).await.unwrap(), 0);
    assert_eq!(w.store.request_preemptions(&scheduler, &[]).await.unwrap(), 0);
    assert_eq!(wishes(w).await, []);
    assert_eq!(w.codes(jobs[1]).await.last(), Some(&"started"));
}

/// Placed, not launched: its launch is never begun, nothing is charged any more, it waits again.
pub async fn a_placed_attempt_makes_room_before_its_launch(w: &World) {
    let jobs = w.accept("ads", 2).await;
    w.place_all("east").await;
    let attempts = [AttemptRef { job: jobs[0], attempt: AttemptNumber(1) }];
    let scheduler = w.scheduler().await;
    assert_eq!(w.store.request_preemptions(&scheduler, &orders(&attempts)).await.unwrap(), 1);
    let lease = w.dispatcher("east").await;
    let batch = w.store.begin_launches(&lease, 10).await.unwrap();
    let launched: Vec<_> = batch.orders.iter().map(|o| o.job.id).collect();
    assert_eq!((batch.preempted, batch.stopped, launched), (vec![jobs[0]], vec![], vec![jobs[1]]));
    let view = w.view(jobs[0]).await;
    assert_eq!((view.lifecycle.state.name(), view.lifecycle.counts.preempted), (StateName::Queued, 1));
    assert_eq!((view.attempts[0].end.as_deref(), view.attempts[0].launched_at), (Some("preempted"), None));
    assert_eq!(w.jobs_charged(&AccountOwner::Cluster(cluster_id("east"))).await, 1);
    assert_eq!(wishes(w).await, []);
}

/// Two schedulers ask, people stop, dispatchers end, all at once: each attempt is asked at most once, each job ends or
/// waits, and no wish outlives its attempt.
pub async fn racing_wishes_and_ends(w: &World) {
    let jobs = w.accept("ads", 60).await;
    let (lease, attempts) = w.run_all("east").await;
    let mut tasks = Vec::new();
    for i in 0..2 {
        let (store, attempts) = (w.store.clone(), attempts.clone());
        let lease = w.scheduler_for(&format!("s{i}"), LONG).await;
        tasks.push(tokio::spawn(async move {
            let mut asked = 0;
            for chunk in attempts.chunks(7) {
                asked += store.request_preemptions(&lease, &orders(chunk)).await.unwrap();
            }
            asked
        }));
    }
    let (store, every_third) = (w.store.clone(), jobs.iter().copied().step_by(3).collect::<Vec<_>>());
    tasks.push(tokio::spawn(async move {
        for job in every_third {
            store.request_stop(job, "ann", "x").await.unwrap();
        }
        0
    }));
    let (store, some) = (w.store.clone(), attempts[..40].to_vec());
    tasks.push(tokio::spawn(async move {
        for (i, chunk) in some.chunks(5).enumerate() {
            let end = if i % 2 == 0 { preempted() } else { AttemptEnd::Succeeded };
            store.record_ends(&lease, &rules(), &super::world::ends(chunk, &end)).await.unwrap();
        }
        0
    }));
    let mut asked = 0;
    for task in tasks {
        asked += task.await.unwrap();
    }
    let mut told = 0;
    let mut open = BTreeSet::new();
    for job in &jobs {
        told += w.codes(*job).await.iter().filter(|code| **code == "preempt_requested").count();
        let job = w.view(*job).await.lifecycle;
        if let Some(attempt) = job.state.open_attempt() {
            assert!(job.stop_requested || job.preempt_requested, "{job:?}");
            open.insert((job.id, attempt.number, job.stop_requested));
        }
    }
    assert_eq!(told, asked as usize, "each that was counted is told, once");
    assert_eq!(open.len(), 20);
    let wished: BTreeSet<_> = wishes(w)
        .await
        .into_iter()
        .map(|(a, cause)| (a.job, a.attempt, cause == StopCause::Requested))
        .collect();
    assert_eq!(wished, open, "of what is open, and of nothing else");
}

/// Placed by a binary that did not write the order of placements: found again after a sweep.
pub async fn attempts_of_older_binaries_are_found(w: &World) {
    w.accept("ads", 3).await;
    w.place_all("east").await;
    w.tamper("UPDATE jobs SET clock_kind = NULL, clock_us = NULL WHERE cluster IS NOT NULL").await;
    assert_eq!(w.store.open_holdings(10).await.unwrap(), []);
    let lease = w.scheduler().await;
    let found = eventually("the sweep", async || {
        w.store.sweep_clocks(&lease, &rules(), 2).await.unwrap();
        let holdings = w.store.open_holdings(10).await.unwrap();
        (holdings.len() == 3).then_some(holdings)
    })
    .await;
    assert!(found.iter().all(|h| h.cluster == cluster_id("east")));
    // A wish that such a binary left behind when it ended the attempt means nothing to the next attempt.
    w.tamper("UPDATE jobs SET preempt_us = 1").await;
    w.tamper("INSERT INTO stop_wishes (cluster, job_id) SELECT cluster, id FROM jobs").await;
    assert!(w.store.open_holdings(10).await.unwrap().iter().all(|h| !h.leaving));
    assert_eq!(wishes(w).await, []);
    let job = w.all_jobs().await.remove(0);
    assert!(!job.preempt_requested);
}
