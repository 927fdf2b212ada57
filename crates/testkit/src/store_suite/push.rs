//! Push: verdicts without a job are events, each event is made into deliveries once, and those of one job go out in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use yard_domain::{
    Arrival, DeliveryState, FieldError, JobId, Lease, LeaseScope, SubmissionKey, SubscriptionId,
};
use yard_ports::push::{
    DeliveryFailure, DeliveryFilter, DeliveryResult, DueDelivery, NewDelivery, NoJob, PushEvent, PushStep,
    Resend,
};
use yard_ports::store::{Store, StoreError};

use super::World;
use super::world::{LONG, SHORT, arrival, eventually, fresh_id, new_job};

fn subscription(team: &str, name: &str) -> SubscriptionId {
    SubscriptionId { team: team.parse().expect("a name"), name: name.parse().expect("a name") }
}

fn delivery(to: &SubscriptionId, pos: u64, lane: JobId) -> NewDelivery {
    NewDelivery { subscription: to.clone(), pos, lane, body: format!("{{\"id\":{pos}}}") }
}

async fn lease(w: &World, scope: &LeaseScope) -> Lease {
    w.store.acquire_lease(scope, "pusher", LONG).await.expect("acquire").expect("free")
}

/// Makes deliveries as one step from the beginning.
async fn made(w: &World, deliveries: &[NewDelivery], pending_max: u32) {
    let planner = lease(w, &LeaseScope::push_plan()).await;
    let upto = deliveries.iter().map(|d| d.pos).max().unwrap_or(0);
    let step = PushStep { after: 0, upto, deliveries, pending_max };
    assert!(w.store.step_push(&planner, step).await.expect("step"));
}

fn arrived(due: &DueDelivery) -> DeliveryResult {
    DeliveryResult { pos: due.pos, lane: due.lane, result: Ok(()) }
}

fn failed(pos: u64, lane: JobId, wait: Option<Duration>) -> DeliveryResult {
    let error = "no answer".to_owned();
    DeliveryResult { pos, lane, result: Err(DeliveryFailure { error, wait }) }
}

async fn due(w: &World, to: &SubscriptionId) -> Vec<u64> {
    w.store.due_deliveries(to, 100).await.expect("due").iter().map(|d| d.pos).collect()
}

async fn listed(w: &World, filter: DeliveryFilter) -> Vec<(String, u64)> {
    let found = w.store.deliveries(&DeliveryFilter { limit: 100, ..filter }).await.expect("list");
    found.iter().map(|row| (row.subscription.to_string(), row.pos)).collect()
}

fn rejected(team: &str, key: &str) -> Arrival {
    let error = FieldError { field: "entrypoint".to_owned(), code: "missing", message: "add it".to_owned() };
    Arrival {
        key: SubmissionKey { team: team.to_owned(), key: key.to_owned() },
        content: Err(vec![error]),
        ..arrival(new_job("ads", key))
    }
}

/// Rejections and conflicts have a position like lines of history, and are read with them; other readers pass them over.
pub async fn verdicts_without_a_job_are_events(w: &World) {
    let first = w.store.push_page(10).await.unwrap();
    assert_eq!((first.after, first.upto, first.events.len()), (0, 0, 0));
    let mut other = new_job("ads", "good");
    other.body_hash = [8; 32];
    let mut foreign = rejected("ads", "foreign");
    let kept_out = FieldError {
        field: "team".to_owned(),
        code: FieldError::TEAM_NOT_ALLOWED,
        message: "not through this door".to_owned(),
    };
    foreign.content = Err(vec![kept_out]);
    assert!(matches!(w.store.accept(&[foreign]).await.unwrap()[0], yard_domain::Verdict::Rejected(_)));
    let batch =
        [rejected("ads", "bad"), arrival(new_job("ads", "good")), rejected("No Team", "x"), arrival(other)];
    let verdicts = w.store.accept(&batch).await.unwrap();
    let job = super::world::accepted(&verdicts[1]);
    w.store.request_stop(job, "test", "").await.unwrap();
    assert_eq!(w.store.number_events(10).await.unwrap(), Some(5), "none for what can be no team");
    let page = w.store.push_page(10).await.unwrap();
    assert_eq!((page.after, page.upto, page.missed), (0, 5, false));
    let [
        PushEvent::Line(line),
        PushEvent::Rejection(2, bad),
        PushEvent::Rejection(3, conflict),
        PushEvent::Line(_),
        PushEvent::Line(end),
    ] = page.events.as_slice()
    else {
        panic!("{:?}", page.events)
    };
    assert_eq!((line.pos, line.line.job, line.key.as_str(), end.pos), (1, job, "good", 5));
    assert_eq!((bad.team.as_str(), bad.key.as_str(), bad.source.as_str()), ("ads", "bad", "test"));
    assert_eq!((bad.message_id.as_str(), bad.at), (batch[0].message_id.as_str(), line.line.at));
    assert_eq!(bad.verdict, NoJob::Rejected(batch[0].content.clone().unwrap_err()));
    assert_eq!((conflict.key.as_str(), &conflict.verdict), ("good", &NoJob::Conflict(job)));
    let others = w.store.events(0, 10).await.unwrap();
    assert_eq!((others.events.iter().map(|e| e.pos).collect::<Vec<_>>(), others.upto), (vec![1, 4, 5], 5));
    let half = w.store.push_page(2).await.unwrap();
    assert_eq!((half.upto, half.events.len()), (2, 2));
    eventually("they are deleted with the positions", async || {
        w.store.trim_events(Duration::ZERO, 10).await.unwrap();
        let page = w.store.push_page(10).await.unwrap();
        (page.missed && page.events.is_empty() && page.upto == 5).then_some(())
    })
    .await;
}

/// A step is made once, whole, and only under a valid lease.
pub async fn an_event_is_made_into_deliveries_once(w: &World) {
    let to = subscription("ads", "hook");
    let planner = w.store.acquire_lease(&LeaseScope::push_plan(), "a", LONG).await.unwrap().unwrap();
    let deliveries = [delivery(&to, 1, fresh_id()), delivery(&to, 2, fresh_id())];
    let step = PushStep { after: 0, upto: 2, deliveries: &deliveries, pending_max: 9 };
    assert!(w.store.step_push(&planner, step).await.unwrap());
    assert!(!w.store.step_push(&planner, step).await.unwrap(), "that has been done");
    let next = [delivery(&to, 3, fresh_id())];
    let step = PushStep { after: 1, upto: 3, deliveries: &next, pending_max: 9 };
    assert!(!w.store.step_push(&planner, step).await.unwrap(), "that is not where we are");
    let step = PushStep { after: 2, ..step };
    // Only now it is to end.
    let planner = w.store.renew_leases(&[planner], SHORT).await.unwrap().remove(0).unwrap();
    let successor = eventually("the lease has ended", async || {
        w.store.acquire_lease(&LeaseScope::push_plan(), "b", LONG).await.unwrap()
    })
    .await;
    let stale = w.store.step_push(&planner, step).await;
    assert!(matches!(stale, Err(StoreError::LeaseLost { .. })), "{stale:?}");
    assert_eq!(listed(w, DeliveryFilter::default()).await.len(), 2);
    assert!(w.store.step_push(&successor, step).await.unwrap());
    assert_eq!(w.store.push_page(10).await.unwrap().after, 3);
    let rows = w.store.deliveries(&DeliveryFilter { limit: 9, ..DeliveryFilter::default() }).await.unwrap();
    let row = &rows[2];
    assert_eq!((row.pos, row.lane, row.state), (3, next[0].lane, DeliveryState::Pending));
    assert_eq!((row.body.as_str(), row.attempts, &row.last_error), ("{\"id\":3}", 0, &None));
}

/// The first pending one of a lane goes alone; lanes don't wait for one another.
pub async fn a_lane_goes_in_order(w: &World) {
    let (to, other) = (subscription("ads", "hook"), subscription("ml", "hook"));
    let (a, b) = (fresh_id(), fresh_id());
    let all = [
        delivery(&to, 1, a),
        delivery(&to, 2, b),
        delivery(&to, 3, a),
        delivery(&to, 4, a),
        delivery(&other, 3, a),
    ];
    made(w, &all, 9).await;
    let held = lease(w, &LeaseScope::push(&to)).await;
    assert_eq!((due(w, &to).await, due(w, &other).await), (vec![1, 2], vec![3]));
    assert_eq!(w.store.due_deliveries(&to, 1).await.unwrap().len(), 1);
    let first = w.store.due_deliveries(&to, 9).await.unwrap();
    assert_eq!((first[0].attempts, first[0].lane, first[0].body.as_str()), (0, a, "{\"id\":1}"));
    // A failure makes its whole lane wait, and no other.
    let results = [failed(1, a, Some(SHORT)), arrived(&first[1])];
    let over = w.now().await.plus(SHORT);
    w.store.record_deliveries(&held, &to, &results).await.unwrap();
    let early = due(w, &to).await;
    assert!(early.is_empty() || w.now().await >= over, "{early:?}");
    let again =
        eventually("the wait is over", async || w.store.due_deliveries(&to, 9).await.unwrap().pop()).await;
    assert_eq!((again.pos, again.attempts), (1, 1));
    // What is given up lets the next one go.
    w.store.record_deliveries(&held, &to, &[failed(1, a, None)]).await.unwrap();
    assert_eq!(due(w, &to).await, [3]);
    let third = w.store.due_deliveries(&to, 9).await.unwrap();
    w.store.record_deliveries(&held, &to, &[arrived(&third[0])]).await.unwrap();
    assert_eq!(due(w, &to).await, [4]);
    let left = w.store.deliveries(&DeliveryFilter { limit: 9, ..DeliveryFilter::default() }).await.unwrap();
    let left: Vec<_> = left.iter().map(|r| (r.pos, r.state, r.attempts, r.last_error.as_deref())).collect();
    let dead = (1, DeliveryState::Dead, 2, Some("no answer"));
    assert_eq!(left, [dead, (4, DeliveryState::Pending, 0, None), (3, DeliveryState::Pending, 0, None)]);
    // Only under the subscription's own lease.
    let wrong = w.store.record_deliveries(&held, &other, &[failed(3, a, None)]).await;
    assert!(matches!(wrong, Err(StoreError::Rejected { .. })), "{wrong:?}");
    w.store.release_lease(&held).await.unwrap();
    let stale = w.store.record_deliveries(&held, &to, &[failed(4, a, None)]).await;
    assert!(matches!(stale, Err(StoreError::LeaseLost { .. })), "{stale:?}");
    assert_eq!(due(w, &to).await, [4]);
}

/// What is beyond the limit of a subscription is dead at once, and of no other.
pub async fn too_many_are_given_up(w: &World) {
    let (to, other) = (subscription("ads", "hook"), subscription("ads", "queue"));
    let mut all: Vec<NewDelivery> = (1..=5).map(|pos| delivery(&to, pos, fresh_id())).collect();
    all.push(delivery(&other, 5, fresh_id()));
    made(w, &all, 3).await;
    let state = |state| DeliveryFilter { state: Some(state), ..DeliveryFilter::default() };
    let dead = listed(w, state(DeliveryState::Dead)).await;
    assert_eq!(dead, [("ads/hook".to_owned(), 4), ("ads/hook".to_owned(), 5)]);
    assert_eq!(listed(w, state(DeliveryState::Pending)).await.len(), 4);
    let count = async |state, limit| w.store.count_deliveries(&to, state, limit).await.unwrap();
    assert_eq!((count(DeliveryState::Pending, 9).await, count(DeliveryState::Dead, 9).await), (3, 2));
    assert_eq!(count(DeliveryState::Pending, 2).await, 2);
    assert_eq!(w.store.delivery_subscriptions().await.unwrap(), [to, other]);
}

/// Dead deliveries are listed by pages, sent again from the first attempt, and deleted when their time is over.
pub async fn the_dead_are_sent_again_or_deleted(w: &World) {
    let (to, queue, other) =
        (subscription("ads", "hook"), subscription("ads", "queue"), subscription("ml", "hook"));
    let lanes: Vec<JobId> = (0..4).map(|_| fresh_id()).collect();
    let all: Vec<NewDelivery> = [&to, &queue, &other]
        .into_iter()
        .flat_map(|s| (0..4).map(|i| delivery(s, i as u64 + 1, lanes[i])).collect::<Vec<_>>())
        .collect();
    made(w, &all, 9).await;
    for s in [&to, &queue, &other] {
        let held = lease(w, &LeaseScope::push(s)).await;
        let results: Vec<_> = (0..3).map(|i| failed(i as u64 + 1, lanes[i], None)).collect();
        w.store.record_deliveries(&held, s, &results).await.unwrap();
    }
    let dead = |teams: Option<&str>, name: Option<&str>| DeliveryFilter {
        teams: teams.map(|t| vec![t.parse().unwrap()]),
        name: name.map(str::to_owned),
        state: Some(DeliveryState::Dead),
        ..DeliveryFilter::default()
    };
    assert_eq!(listed(w, dead(None, None)).await.len(), 9);
    assert_eq!(listed(w, dead(Some("ads"), None)).await.len(), 6);
    assert_eq!(listed(w, DeliveryFilter { teams: Some(Vec::new()), ..dead(None, None) }).await.len(), 0);
    assert_eq!(listed(w, dead(Some("ads"), Some("queue"))).await[2], ("ads/queue".to_owned(), 3));
    let page = DeliveryFilter { after: Some((to.clone(), 3)), ..dead(None, None) };
    assert_eq!(listed(w, page).await.len(), 6, "after the first three");
    let which = |name: Option<&str>, positions: &[u64], limit| Resend {
        team: "ads".parse().unwrap(),
        name: name.map(str::to_owned),
        positions: positions.to_vec(),
        limit,
    };
    let again = async |which: Resend| w.store.resend_deliveries(&which).await.unwrap();
    assert_eq!(again(which(Some("hook"), &[2, 4, 9], 9)).await, 1, "4 is not dead");
    assert_eq!(due(w, &to).await, [4, 2]);
    let fresh = w.store.due_deliveries(&to, 9).await.unwrap();
    assert_eq!((fresh[1].pos, fresh[1].attempts), (2, 0));
    assert_eq!(again(which(None, &[], 2)).await, 2);
    assert_eq!(again(which(None, &[], 100)).await, 3);
    assert_eq!((listed(w, dead(Some("ads"), None)).await.len(), due(w, &queue).await.len()), (0, 4));
    assert_eq!(w.store.purge_deliveries(&other, LONG, 9).await.unwrap(), 0);
    let mut gone = 0;
    eventually("their time is over", async || {
        gone += w.store.purge_deliveries(&other, Duration::ZERO, 2).await.unwrap();
        (gone == 3).then_some(())
    })
    .await;
    assert_eq!(listed(w, dead(None, None)).await.len(), 0);
    assert_eq!(due(w, &other).await, [4], "what is pending stays");
}

/// What a subscription that is no more was owed is given up, and kept.
pub async fn what_is_retired_is_dead(w: &World) {
    let (to, other) = (subscription("ads", "hook"), subscription("ads", "queue"));
    let all: Vec<_> =
        (1..=5).map(|pos| delivery(if pos == 5 { &other } else { &to }, pos, fresh_id())).collect();
    made(w, &all, 9).await;
    let planner = w.store.acquire_lease(&LeaseScope::push_plan(), "pusher", LONG).await.unwrap().unwrap();
    let retire = async |limit| w.store.retire_deliveries(&planner, &to, "taken out", limit).await.unwrap();
    assert_eq!((retire(3).await, retire(3).await, retire(3).await), (3, 1, 0));
    assert_eq!((due(w, &to).await.len(), due(w, &other).await.len()), (0, 1));
    let rows = w.store.deliveries(&DeliveryFilter { limit: 9, ..DeliveryFilter::default() }).await.unwrap();
    assert_eq!((rows[0].state, rows[0].last_error.as_deref()), (DeliveryState::Dead, Some("taken out")));
}

/// One makes deliveries of real events, step by step, another sends them, with failures in between: each arrives once, those
/// of each job in the order of its history.
pub async fn steps_and_attempts_at_once(w: &World) {
    /// A job that is accepted and stopped has three lines.
    const EVENTS: usize = 30 * 3;
    let to = subscription("ads", "hook");
    let planner = lease(w, &LeaseScope::push_plan()).await;
    let held = lease(w, &LeaseScope::push(&to)).await;
    let producer = async {
        for _ in 0..6 {
            for job in w.accept("ads", 5).await {
                w.store.request_stop(job, "test", "").await.unwrap();
            }
        }
    };
    let store: Arc<dyn Store> = w.store.clone();
    let stepper = async {
        let mut made = 0;
        while made < EVENTS {
            store.number_events(3).await.unwrap();
            let page = store.push_page(4).await.unwrap();
            let of = |event: &PushEvent| match event {
                PushEvent::Line(event) => delivery(&to, event.pos, event.line.job),
                PushEvent::Rejection(..) => panic!("nothing was rejected"),
            };
            let deliveries: Vec<_> = page.events.iter().map(of).collect();
            let step =
                PushStep { after: page.after, upto: page.upto, deliveries: &deliveries, pending_max: 1_000 };
            assert!(store.step_push(&planner, step).await.unwrap());
            made += deliveries.len();
        }
    };
    let sender = async {
        let (mut arrivals, mut round): (BTreeMap<JobId, Vec<u64>>, usize) = (BTreeMap::new(), 0);
        while arrivals.values().map(Vec::len).sum::<usize>() < EVENTS {
            let found = w.store.due_deliveries(&to, 7).await.unwrap();
            let mut results = Vec::new();
            for delivery in &found {
                round += 1;
                if round.is_multiple_of(5) {
                    results.push(failed(delivery.pos, delivery.lane, Some(Duration::from_millis(20))));
                } else {
                    arrivals.entry(delivery.lane).or_default().push(delivery.pos);
                    results.push(arrived(delivery));
                }
            }
            w.store.record_deliveries(&held, &to, &results).await.unwrap();
        }
        arrivals
    };
    let ((), (), arrivals) = futures::join!(producer, stepper, sender);
    assert_eq!(arrivals.len(), 30);
    assert!(arrivals.values().all(|positions| positions.len() == 3 && positions.is_sorted()));
    assert!(w.store.delivery_subscriptions().await.unwrap().is_empty());
}
