//! Pushes arrive at least once and in order per job, whatever receivers and replicas do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use yard_domain::catalog::{CatalogSource, CatalogVersion};
use yard_domain::lease::LeaseTerms;
use yard_domain::{Catalog, DeliveryState, PushKinds, PushRetry, SubscriptionId};
use yard_engine::keeper::Keeper;
use yard_engine::push::{PushBuilder, Pushers, Shared, Subscription};
use yard_engine::settings::PushSettings;
use yard_ports::push::{DeliveryFilter, Resend};
use yard_ports::store::CatalogDocument;
use yard_ports::{PushError, PushMessage, PushSender};
use yard_testkit::null_driver::NullPlan;

use crate::world::{PATIENCE, World, cluster, team};

/// What a receiver does with a message, by how many came before it.
#[derive(Clone, Copy)]
enum Manner {
    Takes,
    /// Takes all but every so-manieth.
    FailsEvery(usize),
    /// Refuses the first so many.
    DownFor(usize),
    /// Takes it, and never says so.
    Mute,
    Gone,
}

struct Receiver {
    manner: Manner,
    came: Mutex<Vec<(bool, PushMessage)>>,
}

impl Receiver {
    fn new(manner: Manner) -> Arc<Self> {
        Arc::new(Self { manner, came: Mutex::default() })
    }

    fn taken(&self) -> Vec<PushMessage> {
        self.came.lock().unwrap().iter().filter(|(taken, _)| *taken).map(|(_, m)| m.clone()).collect()
    }

    fn attempts(&self) -> usize {
        self.came.lock().unwrap().len()
    }

    /// The events that arrived, each once, by job, in the order of their first arrivals.
    fn events(&self) -> BTreeMap<String, Vec<String>> {
        let (mut events, mut ids): (BTreeMap<String, Vec<String>>, Vec<String>) =
            (BTreeMap::new(), Vec::new());
        for message in self.taken() {
            if ids.contains(&message.id) {
                continue;
            }
            ids.push(message.id);
            let body: Value = serde_json::from_str(&message.body).unwrap();
            let text = |name: &str| body[name].as_str().unwrap().to_owned();
            events.entry(text("job")).or_default().push(text("event"));
        }
        events
    }
}

#[async_trait]
impl PushSender for Receiver {
    async fn send(&self, message: &PushMessage) -> Result<(), PushError> {
        let before = self.attempts();
        let takes = match self.manner {
            Manner::Takes | Manner::Mute => true,
            Manner::FailsEvery(n) => !(before + 1).is_multiple_of(n),
            Manner::DownFor(n) => before >= n,
            Manner::Gone => false,
        };
        self.came.lock().unwrap().push((takes, message.clone()));
        match self.manner {
            Manner::Mute => std::future::pending().await,
            Manner::Gone => Err(PushError::Gone("410".to_owned())),
            _ if takes => Ok(()),
            _ => Err(PushError::failed("not now")),
        }
    }
}

fn id(text: &str) -> SubscriptionId {
    let (team, name) = text.split_once('/').unwrap();
    SubscriptionId { team: team.parse().unwrap(), name: name.parse().unwrap() }
}

/// A document is the names of its subscriptions.
#[derive(Default)]
struct Builder(BTreeMap<&'static str, (Arc<Receiver>, PushRetry)>);

impl Builder {
    fn with(mut self, name: &'static str, receiver: &Arc<Receiver>, attempts_max: u32) -> Self {
        let retry = PushRetry {
            attempts_max,
            backoff_initial: Duration::from_millis(10),
            backoff_max: Duration::from_millis(40),
        };
        self.0.insert(name, (receiver.clone(), retry));
        self
    }
}

#[async_trait]
impl PushBuilder for Builder {
    async fn build(&self, document: &CatalogVersion) -> Result<Vec<Subscription>, String> {
        let subscription = |name: &str| {
            let (receiver, retry) = &self.0[name];
            let sender: Arc<dyn PushSender> = receiver.clone();
            Subscription {
                id: id(name),
                kinds: PushKinds::default(),
                retry: *retry,
                in_flight_max: 4,
                sender: Some(sender),
            }
        };
        Ok(document.text.split_whitespace().map(subscription).collect())
    }
}

struct Pusher {
    tasks: Vec<JoinHandle<()>>,
    soft: CancellationToken,
}

impl Pusher {
    /// With leases that nothing but its end ends.
    async fn start(world: &World, name: &str, builder: Builder) -> Self {
        Self::start_for(world, name, builder, Duration::from_secs(10)).await
    }

    /// With leases that end soon when it dies.
    async fn start_mortal(world: &World, name: &str, builder: Builder) -> Self {
        Self::start_for(world, name, builder, Duration::from_secs(1)).await
    }

    async fn start_for(world: &World, name: &str, builder: Builder, ttl: Duration) -> Self {
        let (soft, keeper) = (CancellationToken::new(), Keeper::new(world.store.clone(), name));
        let settings = PushSettings {
            lease: LeaseTerms { ttl, margin: ttl.mul_f64(0.3) },
            election_interval: Duration::from_millis(30),
            poll_interval: Duration::from_millis(10),
            page_max: 7,
            upkeep_interval: Duration::from_millis(50),
            ..PushSettings::default()
        };
        let instance = world.store.instance().await.unwrap();
        let shared = Shared { store: world.store.clone(), keeper: keeper.clone(), settings, instance };
        let pushers = Pushers::new(shared, Arc::new(builder), 7);
        let tasks =
            vec![tokio::spawn(keeper.run(CancellationToken::new())), tokio::spawn(pushers.run(soft.clone()))];
        Self { tasks, soft }
    }

    async fn crash(self) {
        for task in self.tasks {
            task.abort();
            _ = task.await;
        }
    }

    async fn drain(mut self) {
        self.soft.cancel();
        let pushers = self.tasks.pop().unwrap();
        tokio::time::timeout(PATIENCE, pushers).await.expect("it does not drain").unwrap();
        self.crash().await;
    }
}

async fn subscribe(world: &World, document: &str) {
    let catalog = Catalog::of([team("ads", 3), team("lab", 100)], [cluster("east", 4), cluster("west", 4)]);
    let document =
        CatalogDocument { text: document, by: "test", source: CatalogSource::Applied, expected: None };
    world.store.apply_catalog(&catalog, document).await.unwrap();
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Jobs of a team that are accepted and stopped: two events each.
async fn lives(world: &mut World, team: &str, n: usize) {
    for _ in 0..n {
        let job = world.submit(team, 0, PATIENCE).await;
        world.store.request_stop(job, "test", "").await.unwrap();
    }
}

fn whole(receiver: &Receiver) -> usize {
    receiver.events().values().filter(|events| **events == ["accepted", "stopped"]).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verdicts_and_ends_arrive_in_order_though_calls_fail_and_replicas_die() {
    let mut world = World::new(NullPlan::endless()).await;
    let (ads, lab) = (Receiver::new(Manner::FailsEvery(3)), Receiver::new(Manner::Takes));
    let builder = || Builder::default().with("ads/hook", &ads, 99).with("lab/queue", &lab, 99);
    subscribe(&world, "ads/hook lab/queue").await;
    let first = Pusher::start_mortal(&world, "a", builder()).await;
    let second = Pusher::start_mortal(&world, "b", builder()).await;
    // What is committed right after the subscription is in it, too.
    lives(&mut world, "ads", 6).await;
    lives(&mut world, "lab", 6).await;
    eventually("something has arrived", async || ads.taken().len() > 3).await;
    first.crash().await;
    lives(&mut world, "ads", 6).await;
    eventually("all has arrived", async || whole(&ads) == 12 && whole(&lab) == 6).await;
    second.drain().await;
    assert_eq!((ads.events().len(), lab.events().len()), (12, 6), "{:?}", ads.events());
    let left = DeliveryFilter { limit: 9, ..DeliveryFilter::default() };
    assert_eq!(world.store.deliveries(&left).await.unwrap(), []);
    assert_eq!(world.store.leases().await.unwrap().iter().filter(|l| l.holder == "b").count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_says_nothing_holds_up_no_other() {
    let mut world = World::new(NullPlan::endless()).await;
    let (mute, quick) = (Receiver::new(Manner::Mute), Receiver::new(Manner::Takes));
    let builder = Builder::default().with("ads/mute", &mute, 9).with("lab/quick", &quick, 9);
    subscribe(&world, "ads/mute lab/quick").await;
    let pusher = Pusher::start(&world, "a", builder).await;
    lives(&mut world, "ads", 8).await;
    lives(&mut world, "lab", 8).await;
    eventually("the other has everything", async || whole(&quick) == 8).await;
    assert_eq!(mute.attempts(), 4, "no more than may be under way");
    pusher.crash().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_arrived_but_was_not_recorded_is_sent_again_under_the_same_id() {
    let mut world = World::new(NullPlan::endless()).await;
    let (mute, takes) = (Receiver::new(Manner::Mute), Receiver::new(Manner::Takes));
    subscribe(&world, "ads/hook").await;
    let first = Pusher::start_mortal(&world, "a", Builder::default().with("ads/hook", &mute, 9)).await;
    lives(&mut world, "ads", 1).await;
    eventually("it was sent", async || mute.attempts() == 1).await;
    first.crash().await;
    let second = Pusher::start(&world, "b", Builder::default().with("ads/hook", &takes, 9)).await;
    eventually("all has arrived", async || whole(&takes) == 1).await;
    second.drain().await;
    assert_eq!(takes.taken()[0].id, mute.taken()[0].id);
    assert_eq!(takes.taken()[0].body, mute.taken()[0].body);
    assert_eq!(takes.taken().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_last_attempt_it_is_dead_and_can_be_sent_again() {
    let mut world = World::new(NullPlan::endless()).await;
    let (down, gone) = (Receiver::new(Manner::DownFor(3)), Receiver::new(Manner::Gone));
    subscribe(&world, "ads/down lab/gone").await;
    let builder = Builder::default().with("ads/down", &down, 3).with("lab/gone", &gone, 99);
    let pusher = Pusher::start(&world, "a", builder).await;
    lives(&mut world, "ads", 1).await;
    lives(&mut world, "lab", 1).await;
    let dead = DeliveryFilter { state: Some(DeliveryState::Dead), limit: 9, ..DeliveryFilter::default() };
    eventually("three are dead", async || world.store.deliveries(&dead).await.unwrap().len() == 3).await;
    eventually("the next one of its job has arrived", async || down.taken().len() == 1).await;
    let rows = world.store.deliveries(&dead).await.unwrap();
    assert_eq!((rows[0].attempts, rows[0].last_error.as_deref()), (3, Some("not now")));
    assert_eq!((rows[1].attempts, gone.attempts()), (1, 2), "gone is gone");
    let again = Resend { team: "ads".parse().unwrap(), name: None, positions: Vec::new(), limit: 9 };
    assert_eq!(world.store.resend_deliveries(&again).await.unwrap(), 1);
    eventually("it has arrived", async || down.taken().len() == 2).await;
    pusher.drain().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_come_and_go_with_the_catalog() {
    let mut world = World::new(NullPlan::endless()).await;
    let receivers: Vec<_> = (0..3).map(|_| Receiver::new(Manner::Takes)).collect();
    let mute = Receiver::new(Manner::Mute);
    let names = ["ads/a", "ads/b", "ads/c"];
    let builder = names.iter().zip(&receivers).fold(Builder::default(), |b, (name, r)| b.with(name, r, 9));
    let pusher = Pusher::start(&world, "a", builder.with("ads/mute", &mute, 9)).await;
    lives(&mut world, "ads", 1).await;
    for n in 1..=3 {
        subscribe(&world, &names[..n].join(" ")).await;
        lives(&mut world, "ads", 1).await;
    }
    eventually("each has what came after it", async || {
        receivers.iter().zip([3, 2, 1]).all(|(receiver, least)| whole(receiver) >= least)
    })
    .await;
    subscribe(&world, "ads/mute").await;
    lives(&mut world, "ads", 1).await;
    eventually("it was sent", async || mute.attempts() == 1).await;
    // Of this one alone: what others were owed when they were taken out is given up, too.
    let of_mute = DeliveryFilter { name: Some("mute".to_owned()), limit: 9, ..DeliveryFilter::default() };
    eventually("both are to be sent", async || world.store.deliveries(&of_mute).await.unwrap().len() == 2)
        .await;
    subscribe(&world, "").await;
    let dead = DeliveryFilter { state: Some(DeliveryState::Dead), ..of_mute };
    eventually("both are given up", async || world.store.deliveries(&dead).await.unwrap().len() == 2).await;
    let rows = world.store.deliveries(&dead).await.unwrap();
    assert!(rows[0].last_error.as_deref().unwrap().contains("taken out"), "{rows:?}");
    pusher.crash().await;
}
