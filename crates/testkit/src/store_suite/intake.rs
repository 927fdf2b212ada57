//! Intake: verdicts are committed with the jobs they make, and idempotent by (team, key) for ever.

use std::collections::BTreeSet;

use yard_domain::{Arrival, FieldError, JobState, StateName, SubmissionKey, Verdict};

use super::World;
use super::world::{LONG, accepted, arrival, new_job};

fn rejected(team: &str, key: &str) -> Arrival {
    let error =
        FieldError { field: "team".to_owned(), code: "unknown_team", message: "no such team".to_owned() };
    Arrival {
        key: SubmissionKey { team: team.to_owned(), key: key.to_owned() },
        by: None,
        source: "sqs:in".to_owned(),
        message_id: "m-rejected".to_owned(),
        sent_at: None,
        body_hash: [9; 32],
        content: Err(vec![error]),
    }
}

fn other_body(team: &str, key: &str) -> Arrival {
    let mut job = new_job(team, key);
    job.body_hash = [8; 32];
    arrival(job)
}

/// The same key and body again: the same job, told as not the first.
pub async fn the_same_body_is_one_job(w: &World) {
    let first = w.store.accept(&[arrival(new_job("ads", "k"))]).await.unwrap();
    let again = w.store.accept(&[arrival(new_job("ads", "k"))]).await.unwrap();
    let job = accepted(&first[0]);
    assert_eq!(first, [Verdict::Accepted { job, first: true }]);
    assert_eq!(again, [Verdict::Accepted { job, first: false }]);
    let view = w.view(job).await;
    let state = JobState::Queued { not_before: None, deadline: view.created_at.plus(LONG) };
    assert_eq!((view.lifecycle.state, view.lifecycle.version, view.key.as_str()), (state, 1, "k"));
    assert_eq!((view.document.as_str(), view.attempts.len(), view.ended_at), ("{\"key\":\"k\"}", 0, None));
    assert_eq!((view.order.accepted_at_micros(), view.since), (view.created_at.as_micros(), view.created_at));
    assert_eq!(w.all_jobs().await.len(), 1);
    let key = SubmissionKey { team: "ads".to_owned(), key: "k".to_owned() };
    let receipt = w.store.receipt(&key).await.unwrap().unwrap();
    assert_eq!(receipt.verdict, Verdict::Accepted { job, first: true });
    assert_eq!((receipt.source.as_str(), receipt.at, receipt.conflicts.len()), ("test", view.created_at, 0));
}

/// The same key with another body: a conflict that names the job, kept on the receipt (the newest ten).
pub async fn another_body_is_a_conflict(w: &World) {
    let job = accepted(&w.store.accept(&[arrival(new_job("ads", "k"))]).await.unwrap()[0]);
    let mut last = String::new();
    for _ in 0..12 {
        let other = other_body("ads", "k");
        last.clone_from(&other.message_id);
        assert_eq!(w.store.accept(&[other]).await.unwrap(), [Verdict::Conflict { job }]);
    }
    let key = SubmissionKey { team: "ads".to_owned(), key: "k".to_owned() };
    let receipt = w.store.receipt(&key).await.unwrap().unwrap();
    assert_eq!(receipt.verdict, Verdict::Accepted { job, first: true });
    assert_eq!(receipt.conflicts.len(), 10);
    assert_eq!(receipt.conflicts[0].1, last, "newest first");
    assert_eq!(w.all_jobs().await.len(), 1);
}

/// Duplicates in one batch are told apart as if they had come one after the other.
pub async fn duplicates_inside_a_batch(w: &World) {
    let batch = [
        rejected("ads", "late"),
        arrival(new_job("ads", "k")),
        arrival(new_job("ads", "k")),
        other_body("ads", "k"),
        arrival(new_job("ads", "late")),
        arrival(new_job("ml", "k")),
    ];
    let verdicts = w.store.accept(&batch).await.unwrap();
    let job = accepted(&verdicts[1]);
    assert!(matches!(verdicts[0], Verdict::Rejected(_)));
    assert_eq!(verdicts[2], Verdict::Accepted { job, first: false });
    assert_eq!(verdicts[3], Verdict::Conflict { job });
    assert!(matches!(verdicts[4], Verdict::Accepted { first: true, .. }));
    assert!(matches!(verdicts[5], Verdict::Accepted { job: other, first: true } if other != job));
    assert_eq!(w.all_jobs().await.len(), 3);
}

/// A rejected key is not taken: a corrected submission may use it.
pub async fn rejected_then_accepted(w: &World) {
    let key = SubmissionKey { team: "nobody".to_owned(), key: "k".to_owned() };
    let verdicts = w.store.accept(&[rejected("nobody", "k")]).await.unwrap();
    let receipt = w.store.receipt(&key).await.unwrap().unwrap();
    assert_eq!(receipt.verdict, verdicts[0]);
    assert!(matches!(&receipt.verdict, Verdict::Rejected(errors) if errors[0].code == "unknown_team"));
    assert_eq!((receipt.source.as_str(), receipt.message_id.as_str()), ("sqs:in", "m-rejected"));
    let again = w.store.accept(&[rejected("nobody", "k")]).await.unwrap();
    assert_eq!(again, verdicts);
    let job = accepted(&w.store.accept(&[arrival(new_job("nobody", "k"))]).await.unwrap()[0]);
    let receipt = w.store.receipt(&key).await.unwrap().unwrap();
    assert_eq!(receipt.verdict, Verdict::Accepted { job, first: true });
    assert_eq!(w.state(job).await, StateName::Queued);
}

/// A rejected arrival under an accepted key is rejected, noted, and leaves the receipt alone; the very body that
/// was accepted stays accepted, whatever today's rules say.
pub async fn rejection_leaves_an_accepted_receipt(w: &World) {
    let job = accepted(&w.store.accept(&[arrival(new_job("ads", "k"))]).await.unwrap()[0]);
    let verdicts = w.store.accept(&[rejected("ads", "k")]).await.unwrap();
    assert!(matches!(verdicts[0], Verdict::Rejected(_)));
    let key = SubmissionKey { team: "ads".to_owned(), key: "k".to_owned() };
    let receipt = w.store.receipt(&key).await.unwrap().unwrap();
    assert_eq!(receipt.verdict, Verdict::Accepted { job, first: true });
    assert_eq!(receipt.conflicts.len(), 1);
    let same = Arrival { body_hash: [7; 32], ..rejected("ads", "k") };
    assert_eq!(w.store.accept(&[same]).await.unwrap(), [Verdict::Accepted { job, first: false }]);
}

/// Case, accents and trailing spaces make different keys.
pub async fn keys_are_compared_byte_by_byte(w: &World) {
    let keys = ["k", "K", "k ", "ḱ", "k\u{301}"];
    let batch: Vec<Arrival> = keys.iter().map(|key| arrival(new_job("ads", key))).collect();
    let jobs: BTreeSet<_> = w.store.accept(&batch).await.unwrap().iter().map(accepted).collect();
    assert_eq!(jobs.len(), keys.len());
    for key in keys {
        let key = SubmissionKey { team: "ads".to_owned(), key: key.to_owned() };
        let receipt = w.store.receipt(&key).await.unwrap().unwrap();
        assert!(jobs.contains(&accepted(&receipt.verdict)), "{key}");
    }
    let absent = SubmissionKey { team: "ads".to_owned(), key: "absent".to_owned() };
    assert_eq!(w.store.receipt(&absent).await.unwrap(), None);
}

/// Eight at once with one key: one job, and exactly one is told that it was the first.
pub async fn concurrent_accepts_of_one_key_make_one_job(w: &World) {
    for round in 0..5 {
        let key = format!("k{round}");
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let (store, arrival) = (w.store.clone(), arrival(new_job("ads", &key)));
                tokio::spawn(async move { store.accept(&[arrival]).await.unwrap().remove(0) })
            })
            .collect();
        let (mut jobs, mut firsts) = (BTreeSet::new(), 0);
        for task in tasks {
            let verdict = task.await.unwrap();
            jobs.insert(accepted(&verdict));
            firsts += usize::from(matches!(verdict, Verdict::Accepted { first: true, .. }));
        }
        assert_eq!((jobs.len(), firsts), (1, 1));
    }
    assert_eq!(w.all_jobs().await.len(), 5);
}

/// Batches that share keys in different orders: no deadlock shows, each key has one job.
pub async fn concurrent_batches_with_common_keys(w: &World) {
    let tasks: Vec<_> = (0..8_usize)
        .map(|task| {
            let store = w.store.clone();
            let keys = (0..40).map(move |i| (i * 7 + task * 11) % 40);
            let batch: Vec<Arrival> = keys.map(|k| arrival(new_job("ads", &format!("k{k}")))).collect();
            tokio::spawn(async move { store.accept(&batch).await.unwrap() })
        })
        .collect();
    let mut firsts = 0;
    for task in tasks {
        firsts +=
            task.await.unwrap().iter().filter(|v| matches!(v, Verdict::Accepted { first: true, .. })).count();
    }
    assert_eq!((firsts, w.all_jobs().await.len()), (40, 40));
}

/// A batch larger than a statement: verdicts in the order of the arrivals, places in the queue too.
pub async fn large_batches_keep_their_order(w: &World) {
    let batch: Vec<Arrival> = (0..700).map(|i| arrival(new_job("ads", &format!("k{i}")))).collect();
    let verdicts = w.store.accept(&batch).await.unwrap();
    let wanted: Vec<_> = batch.iter().map(|a| a.content.as_ref().unwrap().id).collect();
    assert_eq!(verdicts.iter().map(accepted).collect::<Vec<_>>(), wanted);
    let lease = w.scheduler().await;
    let claimed: Vec<_> = w.claim(&lease, 1_000).await.iter().map(|c| c.id).collect();
    assert_eq!(claimed, wanted);
}

/// What is rejected may hold texts of any length: it is kept all the same.
pub async fn overlong_texts_of_rejected_submissions(w: &World) {
    let (team, key) = ("ä".repeat(400), "ü".repeat(2_000));
    let arrival = Arrival { message_id: "m".repeat(900), source: "s".repeat(900), ..rejected(&team, &key) };
    assert!(matches!(w.store.accept(&[arrival]).await.unwrap()[0], Verdict::Rejected(_)));
    let key = SubmissionKey { team, key };
    assert!(matches!(w.store.receipt(&key).await.unwrap().unwrap().verdict, Verdict::Rejected(_)));
}
