//! Intake of one queue: receive → read and check → commit the verdicts → delete.
//!
//! A message is deleted only after its verdict is committed. One that can't be accepted becomes a rejected
//! (or conflict) receipt, is sent to the dead-letter queue if there is one, and only then deleted. Whatever
//! happens in between, the message comes again and meets its own receipt. One that is over its team's rate is not judged
//! yet: it stays in the queue, hidden until it is its turn.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};
use yard_domain::{Arrival, FieldError, JobId, TeamId, Verdict};
use yard_ports::{Inbox, InboxError, Message, MessageHandle, Spilled, Store};
use yard_wire::arrival::Source;
use yard_wire::{Defaults, Limits, bound_id};

use crate::catalog::Catalog;
use crate::nudge::Nudges;
use crate::settings::IntakeSettings;

/// Everything that the intake of one queue needs.
pub struct Intake {
    /// The queue.
    pub inbox: Arc<dyn Inbox>,
    /// The truth.
    pub store: Arc<dyn Store>,
    /// What submissions are checked against.
    pub catalog: Catalog,
    /// Bounds on a submission.
    pub limits: Limits,
    /// What a submission leaves out.
    pub defaults: Defaults,
    /// Whom to wake.
    pub nudges: Nudges,
    /// Limits and times.
    pub settings: IntakeSettings,
    /// Makes job ids; see [`IdSource`].
    pub ids: IdSource,
}

/// Makes job ids from the wall clock (only for their order) and a seeded generator.
#[derive(Debug, Clone)]
pub struct IdSource {
    unix_ms: fn() -> u64,
    rng: SmallRng,
}

impl IdSource {
    /// `unix_ms` reads the wall clock.
    pub fn new(unix_ms: fn() -> u64, seed: u64) -> Self {
        Self { unix_ms, rng: SmallRng::seed_from_u64(seed) }
    }

    /// The next id.
    pub fn next_id(&mut self) -> JobId {
        JobId::new((self.unix_ms)(), self.rng.random())
    }
}

impl Intake {
    /// Takes in messages until `cancel`; then finishes the batch in hand. What has been received and not
    /// begun becomes visible again by itself.
    pub async fn run(mut self, cancel: CancellationToken) {
        let (tx, mut rx) = mpsc::channel::<Vec<Message>>(self.settings.receivers.max(1) as usize);
        let mut receivers = JoinSet::new();
        let mut seq = SmallRng::seed_from_u64(self.ids.rng.random());
        for _ in 0..self.settings.receivers.max(1) {
            let rng = SmallRng::seed_from_u64(seq.random());
            receivers.spawn(receive(self.inbox.clone(), tx.clone(), self.settings, rng, cancel.clone()));
        }
        drop(tx);
        while let Some(batch) = gather(&mut rx, &self.settings).await {
            self.take_in(batch, &cancel, &mut seq).await;
        }
        receivers.shutdown().await;
    }

    async fn take_in(&mut self, messages: Vec<Message>, cancel: &CancellationToken, rng: &mut SmallRng) {
        let started = Instant::now();
        let arrivals: Vec<Arrival> = messages.iter().map(|m| self.read(m)).collect();
        let (messages, arrivals) = self.put_off(messages, arrivals).await;
        if messages.is_empty() {
            return;
        }
        let Some(verdicts) = self.commit(&messages, &arrivals, cancel, rng).await else { return };
        for verdict in &verdicts {
            metrics::counter!("yard_intake_total", "queue" => self.inbox.name().to_owned(), "verdict" => code(verdict))
                .increment(1);
        }
        if verdicts.iter().any(|v| matches!(v, Verdict::Accepted { first: true, .. })) {
            self.nudges.scheduler();
        }
        let done = self.settle(&messages, &verdicts).await;
        self.delete(&done).await;
        metrics::histogram!("yard_intake_batch_seconds").record(started.elapsed().as_secs_f64());
        debug!(queue = self.inbox.name(), messages = messages.len(), "took in");
    }

    fn read(&mut self, message: &Message) -> Arrival {
        let fresh = self.ids.next_id();
        let source = Source {
            door: door(self.inbox.name()),
            message_id: message.id.clone(),
            sent_at: message.sent_at,
            by: None,
            key: None,
        };
        let admission = self.catalog.admission();
        let rules =
            yard_wire::Intake { admission: &admission, limits: &self.limits, defaults: &self.defaults };
        match &message.spilled {
            Some(spilled) if API_DOORS.contains(&spilled.door.as_str()) => {
                self.read_spilled(&rules, message, spilled, fresh)
            }
            _ => rules.arrival(message.body.as_bytes(), &source, fresh),
        }
    }

    /// A submission that the API put into the queue while the database was away: it becomes what the API would have made
    /// of it, under the id that its caller was given.
    fn read_spilled(
        &self,
        rules: &yard_wire::Intake<'_>,
        message: &Message,
        spilled: &Spilled,
        fresh: JobId,
    ) -> Arrival {
        let source = Source {
            door: spilled.door.clone(),
            message_id: spilled.request.clone(),
            sent_at: None,
            by: spilled.by.clone(),
            key: spilled.key.clone(),
        };
        let mut arrival = rules.arrival(message.body.as_bytes(), &source, spilled.job);
        let bound = bound_id(spilled.job, &arrival.key, &spilled.request);
        if bound != spilled.job
            && let Ok(job) = &mut arrival.content
        {
            warn!(queue = self.inbox.name(), message = message.id, key = %arrival.key, "the id beside the message is not its own: it gets another");
            job.id = fresh;
        }
        arrival
    }

    /// Puts off what is over its team's rate: those messages stay in the queue, hidden until it is their turn, while the
    /// rest of the batch goes on. Nothing is kept of them, so when they come again they are as new.
    async fn put_off(&self, messages: Vec<Message>, arrivals: Vec<Arrival>) -> (Vec<Message>, Vec<Arrival>) {
        let rates = self.catalog.rates();
        let mut later: BTreeMap<u64, Vec<MessageHandle>> = BTreeMap::new();
        let mut now = (Vec::with_capacity(messages.len()), Vec::with_capacity(arrivals.len()));
        for (message, arrival) in messages.into_iter().zip(arrivals) {
            let team = arrival.key.team.parse::<TeamId>();
            match team.map_or(Ok(()), |team| rates.take_or_turn(&team)) {
                Ok(()) => {
                    now.0.push(message);
                    now.1.push(arrival);
                }
                Err(wait) => {
                    metrics::counter!("yard_rate_limited_total", "queue" => self.inbox.name().to_owned(), "team" => arrival.key.team)
                        .increment(1);
                    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                    later.entry(seconds).or_default().push(message.handle);
                }
            }
        }
        for (seconds, handles) in later {
            debug!(
                queue = self.inbox.name(),
                messages = handles.len(),
                seconds,
                "put off: over their team's rate"
            );
            if let Err(error) = self.inbox.extend(&handles, Duration::from_secs(seconds)).await {
                warn!(queue = self.inbox.name(), %error, "could not put messages off; they come again when their time is over");
            }
        }
        now
    }

    /// Commits the verdicts, however long the database is away: meanwhile the messages are kept hidden.
    /// `None` if the process is to stop first; the messages come again.
    async fn commit(
        &self,
        messages: &[Message],
        arrivals: &[Arrival],
        cancel: &CancellationToken,
        rng: &mut SmallRng,
    ) -> Option<Vec<Verdict>> {
        let handles: Vec<MessageHandle> = messages.iter().map(|m| m.handle.clone()).collect();
        let mut keep_hidden_at = Instant::now() + self.inbox.visibility() / 2;
        for pause in backoff(&self.settings, rng.random()) {
            match self.store.accept(arrivals).await {
                Ok(verdicts) => return Some(verdicts),
                Err(error) => {
                    warn!(queue = self.inbox.name(), %error, ?pause, "could not commit verdicts; trying again");
                }
            }
            tokio::select! {
                () = cancel.cancelled() => return None,
                () = tokio::time::sleep(pause) => {}
            }
            if Instant::now() >= keep_hidden_at {
                keep_hidden_at = Instant::now() + self.inbox.visibility() / 2;
                if let Err(error) = self.inbox.extend(&handles, self.inbox.visibility()).await {
                    warn!(queue = self.inbox.name(), %error, "could not keep messages hidden; they will come again");
                }
            }
        }
        None
    }

    /// Sends what was not accepted to the dead-letter queue; returns what may be deleted now.
    async fn settle(&self, messages: &[Message], verdicts: &[Verdict]) -> Vec<MessageHandle> {
        let mut done = Vec::with_capacity(messages.len());
        for (message, verdict) in messages.iter().zip(verdicts) {
            let reason = match verdict {
                Verdict::Accepted { .. } => None,
                Verdict::Rejected(errors) => Some(sentence(errors)),
                Verdict::Conflict { job } => {
                    Some(format!("the key already belongs to job {job} with another body"))
                }
            };
            if let Some(reason) = reason {
                info!(queue = self.inbox.name(), message = message.id, reason, "not accepted");
                if let Err(error) = self.inbox.dead_letter(&message.body, &reason).await {
                    error!(queue = self.inbox.name(), message = message.id, %error, "could not dead-letter; it will come again");
                    continue;
                }
            }
            done.push(message.handle.clone());
        }
        done
    }

    async fn delete(&self, done: &[MessageHandle]) {
        match self.inbox.delete(done).await {
            Ok(left) if left.is_empty() => {}
            Ok(left) => warn!(
                queue = self.inbox.name(),
                left = left.len(),
                "not all messages could be deleted; they will come again"
            ),
            Err(error) => {
                warn!(queue = self.inbox.name(), %error, "could not delete messages; they will come again");
            }
        }
    }
}

/// The API's doors: through which submissions may have come that it put into a queue.
const API_DOORS: [&str; 2] = ["http", "ray"];

/// The name of a queue's door in receipts, and in [`yard_wire::Admission::doors`].
pub fn door(queue: &str) -> String {
    format!("sqs:{queue}")
}

fn code(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Accepted { first: true, .. } => "accepted",
        Verdict::Accepted { first: false, .. } => "repeated",
        Verdict::Rejected(_) => "rejected",
        Verdict::Conflict { .. } => "conflict",
    }
}

fn sentence(errors: &[FieldError]) -> String {
    let one = |e: &FieldError| {
        if e.field.is_empty() { e.message.clone() } else { format!("{}: {}", e.field, e.message) }
    };
    errors.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn backoff(settings: &IntakeSettings, seed: u64) -> impl Iterator<Item = Duration> + use<> {
    ExponentialBuilder::default()
        .with_min_delay(settings.backoff_initial)
        .with_max_delay(settings.backoff_max)
        .with_jitter()
        .with_jitter_seed(seed)
        .without_max_times()
        .build()
}

/// Receives until `cancel` or until nobody takes the messages any more.
async fn receive(
    inbox: Arc<dyn Inbox>,
    to: mpsc::Sender<Vec<Message>>,
    settings: IntakeSettings,
    mut rng: SmallRng,
    cancel: CancellationToken,
) {
    let mut failures = 0u32;
    // With jitter, so that receivers and processes don't come back to a queue that was away all at once.
    let mut pauses = backoff(&settings, rng.random());
    while !cancel.is_cancelled() {
        let received = tokio::select! {
            () = cancel.cancelled() => return,
            received = inbox.receive() => received,
        };
        match received {
            Ok(messages) => {
                if failures > 0 {
                    failures = 0;
                    pauses = backoff(&settings, rng.random());
                }
                if !messages.is_empty() && to.send(messages).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                report(inbox.name(), &error, failures);
                let pause = pauses.next().unwrap_or(settings.backoff_max);
                tokio::select! {
                    () = cancel.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }
}

fn report(queue: &str, error: &InboxError, failures: u32) {
    metrics::counter!("yard_receive_errors_total", "queue" => queue.to_owned()).increment(1);
    match error {
        InboxError::Unavailable { .. } if failures < 3 => debug!(%error, "receive failed"),
        InboxError::Unavailable { .. } => warn!(%error, failures, "receive keeps failing"),
        InboxError::Refused { .. } => error!(%error, failures, "receive is refused"),
    }
}

/// A batch: the first receive's messages, and what else arrives within the linger time, up to the limit
/// (exceeded by at most one receive's). `None` once all receivers have ended.
async fn gather(rx: &mut mpsc::Receiver<Vec<Message>>, settings: &IntakeSettings) -> Option<Vec<Message>> {
    let mut batch = rx.recv().await?;
    let until = Instant::now() + settings.linger;
    while batch.len() < settings.batch_max {
        match tokio::time::timeout_at(until, rx.recv()).await {
            Ok(Some(more)) => batch.extend(more),
            Ok(None) | Err(_) => break,
        }
    }
    Some(batch)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::*;

    /// A queue that answers as told and notes when it was asked.
    struct Away {
        answers: Mutex<Vec<bool>>,
        asked: mpsc::UnboundedSender<Instant>,
    }

    #[async_trait]
    impl Inbox for Away {
        fn name(&self) -> &'static str {
            "away"
        }

        async fn receive(&self) -> Result<Vec<Message>, InboxError> {
            _ = self.asked.send(Instant::now());
            match self.answers.lock().unwrap().pop() {
                Some(true) => Ok(Vec::new()),
                _ => Err(InboxError::Unavailable { queue: "away".to_owned(), reason: "away".to_owned() }),
            }
        }

        async fn delete(&self, _: &[MessageHandle]) -> Result<Vec<MessageHandle>, InboxError> {
            Ok(Vec::new())
        }

        async fn extend(&self, _: &[MessageHandle], _: Duration) -> Result<(), InboxError> {
            Ok(())
        }

        async fn dead_letter(&self, _: &str, _: &str) -> Result<(), InboxError> {
            Ok(())
        }

        fn visibility(&self) -> Duration {
            Duration::from_mins(1)
        }
    }

    /// The pauses between a receiver's calls, in milliseconds; `answers` are given last to first.
    async fn pauses(seed: u64, answers: Vec<bool>, count: usize) -> Vec<u128> {
        let (asked, mut calls) = mpsc::unbounded_channel();
        let (to, _messages) = mpsc::channel(1);
        let cancel = CancellationToken::new();
        let inbox = Arc::new(Away { answers: Mutex::new(answers), asked });
        let rng = SmallRng::seed_from_u64(seed);
        let task = tokio::spawn(receive(inbox, to, IntakeSettings::default(), rng, cancel.clone()));
        let mut last = calls.recv().await.unwrap();
        let mut found = Vec::new();
        for _ in 0..count {
            let now = calls.recv().await.unwrap();
            found.push((now - last).as_millis());
            last = now;
        }
        cancel.cancel();
        task.await.unwrap();
        found
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_is_away_is_asked_ever_less_often_and_not_in_step() {
        let one = pauses(1, vec![], 12).await;
        assert_ne!(one, pauses(2, vec![], 12).await);
        // backon's jitter adds up to the pause itself; the timer's step is a millisecond.
        for (i, pause) in one.iter().enumerate() {
            let plain = (100 << i).min(10_000);
            assert!((plain..=2 * plain + 1).contains(pause), "pause {i}: {one:?}");
        }
        let after_success = pauses(1, vec![true, false, false, false], 5).await;
        assert!(after_success[2] >= 400 && after_success[4] <= 201, "{after_success:?}");
    }
}
