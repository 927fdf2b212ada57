//! From a placed attempt to the answer of its launch call.

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use yard_domain::{ClusterHealth, Timestamp};
use yard_ports::store::{AttemptRef, LaunchOrder};
use yard_ports::{DriverError, StoreError};

use super::Actor;
use crate::dispatch::board::Action;
use crate::dispatch::launcher::Answer;

impl Actor {
    pub(super) async fn poll(&mut self) -> Result<(), StoreError> {
        let wishes = self.shared.store.stop_wishes(&self.cluster).await?;
        let actions: Vec<Action> =
            wishes.into_iter().flat_map(|(r, cause)| self.board.stop_wish(r, cause)).collect();
        self.act(actions).await?;
        self.begin_launches().await
    }

    pub(super) async fn begin_launches(&mut self) -> Result<(), StoreError> {
        while self.health == ClusterHealth::Ready && self.held.is_trusted() {
            let in_flight = u32::try_from(self.board.calls_in_flight()).unwrap_or(u32::MAX);
            let room = self.runtime.launches.in_flight_max.saturating_sub(in_flight);
            let room = self.breaker.allowed(room, self.board.calls_in_flight(), Instant::now());
            if room == 0 {
                return Ok(());
            }
            let batch = self.shared.store.begin_launches(&self.held.lease(), room).await?;
            let begun = batch.orders.len();
            for order in batch.orders {
                let r = AttemptRef { job: order.job.id, attempt: order.attempt };
                let deadline = order.job.state.deadline().unwrap_or(self.clock.now());
                self.board.launch_begun(r, deadline);
                self.archiver.begun(r);
                self.spawn_launch(r, &order, deadline);
            }
            self.more_to_launch = begun == room as usize;
            if !self.more_to_launch {
                return Ok(());
            }
        }
        Ok(())
    }

    pub(super) fn spawn_launch(&mut self, r: AttemptRef, order: &LaunchOrder, deadline: Timestamp) {
        match yard_wire::launch_request(order, self.shared.instance) {
            Ok(request) => {
                let cancel = CancellationToken::new();
                self.launch_cancels.insert(r, cancel.clone());
                let until = self.clock.instant_of(deadline);
                self.launches.spawn(self.launcher.clone().launch(r, request, until, cancel));
            }
            Err(error) => {
                let answer = Some(Err(DriverError::Refused(error.to_string())));
                self.launches.spawn(async move { (r, answer) });
            }
        }
    }

    pub(super) async fn relaunch(&mut self, r: AttemptRef) -> Result<(), StoreError> {
        let busy = self.board.calls_in_flight() >= self.runtime.launches.in_flight_max as usize;
        if busy || !self.held.is_trusted() || !self.board.owes_call(r) {
            // Still owed: the next tick asks again.
            return Ok(());
        }
        let Some(view) = self.shared.store.job(r.job).await? else { return Ok(()) };
        let current = view.lifecycle.state.open_attempt().is_some_and(|a| a.number == r.attempt);
        if !current {
            self.board.settled(r);
            return Ok(());
        }
        info!(job = %r.job, attempt = %r.attempt, "calling again: it is not known whether it was called");
        let deadline = view.lifecycle.state.deadline().unwrap_or(self.clock.now());
        let order = LaunchOrder { job: view.lifecycle, attempt: r.attempt, document: view.document };
        self.board.relaunched(r);
        self.spawn_launch(r, &order, deadline);
        Ok(())
    }

    /// One call did not come through; its launch may go on.
    pub(super) async fn call_failed(&mut self) -> Result<(), StoreError> {
        self.count_failure();
        self.tell_breaker().await
    }

    fn count_failure(&mut self) {
        let now = Instant::now();
        let was_open = self.breaker.is_open();
        self.breaker.failed(now);
        self.failures.add(now);
        if self.breaker.is_open() && !was_open {
            warn!(cluster = %self.cluster, "launch calls keep failing: further launches are held back");
        }
    }

    pub(super) async fn launched(&mut self, r: AttemptRef, answer: Answer) -> Result<(), StoreError> {
        self.launch_cancels.remove(&r);
        // What failed before this answer counts before it.
        while self.failed_calls.try_recv().is_ok() {
            self.count_failure();
        }
        if let Some(Err(DriverError::Refused(_) | DriverError::NameTaken(_)) | Ok(_)) = &answer {
            self.breaker.succeeded();
        }
        if let Some(Ok(None)) = &answer {
            metrics::counter!("yard_launches_total", "cluster" => self.cluster.to_string()).increment(1);
        }
        let actions = self.board.launch_answered(r, answer);
        self.act(actions).await?;
        self.tell_breaker().await?;
        // Half of the room at once rather than each place as it is left: a transaction for many launches.
        let half = self.runtime.launches.in_flight_max as usize / 2;
        let low = self.more_to_launch && self.board.calls_in_flight() <= half;
        if low || self.launches.is_empty() { self.begin_launches().await } else { Ok(()) }
    }
}
