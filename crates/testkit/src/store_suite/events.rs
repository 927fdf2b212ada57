//! Events: every line of history in one order, none skipped, none doubled, whoever writes and whoever reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use yard_domain::lifecycle::AttemptEnd;
use yard_domain::{JobId, Timestamp};
use yard_ports::store::{JobEvent, Store};

use super::World;
use super::world::{LONG, arrival, new_job};

/// Jobs that each writer takes from queue to end, and in how many batches.
const BATCHES: usize = 6;
const JOBS: usize = 5;

/// Numbers events and reads them on, as a feed does, until all is done and nothing comes any more. Fails if a position is
/// skipped.
async fn follow(store: Arc<dyn Store>, done: Arc<AtomicBool>) -> Vec<JobEvent> {
    let (mut at, mut seen) = (0, Vec::new());
    loop {
        let over = done.load(Ordering::Relaxed);
        store.number_events(3).await.expect("number");
        let page = store.events(at, 7).await.expect("events");
        assert!(!page.missed);
        let positions: Vec<u64> = page.events.iter().map(|e| e.pos).collect();
        assert_eq!(positions, (at + 1..=page.upto).collect::<Vec<_>>());
        // That the other reader is at it says nothing about what it leaves.
        let still = page.upto == at && over && store.number_events(1_000).await.expect("number") == Some(0);
        at = page.upto;
        seen.extend(page.events);
        if still && store.event_head().await.expect("head") == at {
            return seen;
        }
    }
}

/// The events of each job are its history, and there are no others.
pub(super) async fn check_complete(w: &World, seen: &[JobEvent]) {
    let mut by_job: BTreeMap<JobId, Vec<_>> = BTreeMap::new();
    for event in seen {
        by_job.entry(event.line.job).or_default().push(event.line.clone());
    }
    let jobs = w.all_jobs().await;
    assert_eq!(by_job.keys().copied().collect::<BTreeSet<_>>(), jobs.iter().map(|j| j.id).collect());
    for (job, lines) in by_job {
        assert_eq!(lines, w.history(job).await, "each once, and in the order of its history");
    }
}

/// Eight writers, two that number and read.
pub async fn concurrent_writers_and_readers_see_every_line_once(w: &World) {
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2).map(|_| tokio::spawn(follow(w.store.clone(), done.clone()))).collect();
    let writer = async |n: usize| {
        for _ in 0..BATCHES {
            let jobs = w.accept(if n.is_multiple_of(2) { "ads" } else { "ml" }, JOBS).await;
            for job in jobs {
                w.store.request_stop(job, "test", "enough").await.expect("stop");
            }
        }
    };
    let writers = (0..7).map(writer);
    let runner = async {
        for _ in 0..BATCHES {
            let (lease, attempts) = w.run_all("east").await;
            w.end(&lease, &attempts, &AttemptEnd::Succeeded).await;
        }
    };
    futures::join!(futures::future::join_all(writers), runner);
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        let seen = reader.await.expect("reader");
        assert!(seen.len() >= 7 * BATCHES * JOBS * 2, "{}", seen.len());
        check_complete(w, &seen).await;
    }
}

/// Team and metadata come with each event; what is deleted is missed, and said to be.
pub async fn events_tell_whose_and_are_trimmed(w: &World) {
    let with = w
        .accept_with("ml", 1, |_, job| {
            "{\"metadata\":{\"dag\":\"nightly\"}}".clone_into(&mut job.document);
        })
        .await[0];
    let without = w.accept("ads", 3).await;
    w.store.request_stop(without[0], "test", "").await.unwrap();
    assert_eq!((w.store.event_head().await.unwrap(), w.store.events(0, 9).await.unwrap().upto), (0, 0));
    assert_eq!(w.store.number_events(100).await.unwrap(), Some(6));
    assert_eq!(w.store.number_events(100).await.unwrap(), Some(0));
    let all = w.store.events(0, 100).await.unwrap();
    assert_eq!((all.events.len(), all.upto, all.missed), (6, 6, false));
    let first = &all.events[0];
    assert_eq!((first.pos, first.team.as_str(), first.line.job), (1, "ml", with));
    assert_eq!(first.metadata, BTreeMap::from([("dag".to_owned(), "nightly".to_owned())]));
    assert_eq!((all.events[1].team.as_str(), &all.events[1].metadata), ("ads", &BTreeMap::new()));
    let cut = w.store.events(2, 2).await.unwrap();
    assert_eq!((cut.events.iter().map(|e| e.pos).collect::<Vec<_>>(), cut.upto), (vec![3, 4], 4));
    assert_eq!(w.store.trim_events(LONG, 100).await.unwrap(), 0);
    assert_eq!(w.store.purge(Duration::ZERO, 10).await.unwrap(), 1);
    let left = w.store.events(0, 100).await.unwrap();
    assert_eq!((left.events.len(), left.upto, left.missed), (3, 6, false), "the deleted job's are left out");
    w.store.request_stop(without[1], "test", "").await.unwrap();
    assert_eq!(w.store.trim_events(Duration::ZERO, 2).await.unwrap(), 2);
    assert!(w.store.events(0, 100).await.unwrap().missed);
    assert!(!w.store.events(4, 100).await.unwrap().missed);
    assert_eq!(w.store.trim_events(Duration::ZERO, 100).await.unwrap(), 1);
    assert!(w.store.events(4, 100).await.unwrap().missed, "there was more, and it is gone");
    assert_eq!(w.store.trim_events(Duration::ZERO, 100).await.unwrap(), 0, "what has no position stays");
    assert_eq!(w.store.number_events(100).await.unwrap(), Some(2));
    assert_eq!(w.store.events(6, 100).await.unwrap().events.len(), 2);
}

/// How far a queue has been taken in: the newest message of all that have a verdict.
pub async fn doors_tell_how_far_they_are(w: &World) {
    let at = |us| Some(Timestamp::from_micros(us));
    let send = async |door: &str, key: &str, sent_at| {
        let one = arrival(new_job("ads", key));
        w.store.accept(&[yard_domain::Arrival { source: door.to_owned(), sent_at, ..one }]).await.unwrap();
    };
    assert!(w.store.newest_arrivals().await.unwrap().is_empty());
    send("sqs:a", "1", at(5_000)).await;
    send("sqs:a", "2", at(3_000)).await;
    send("sqs:b", "3", at(1_000)).await;
    send("http", "4", None).await;
    let other = w.database.open(super::world::calm()).await;
    let late = yard_domain::Arrival {
        source: "sqs:b".to_owned(),
        sent_at: at(9_000),
        ..arrival(new_job("ads", "3"))
    };
    other.accept(&[late]).await.unwrap();
    let seen = w.store.newest_arrivals().await.unwrap();
    let wanted = [("sqs:a".to_owned(), at(5_000)), ("sqs:b".to_owned(), at(9_000))];
    assert_eq!(seen.into_iter().map(|(door, at)| (door, Some(at))).collect::<Vec<_>>(), wanted);
}
