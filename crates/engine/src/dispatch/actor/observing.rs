//! What the cluster shows, and whether it answers.

use tokio::time::Instant;
use tracing::{debug, info, warn};
use yard_domain::ClusterHealth;
use yard_ports::{DriverError, Observation, RemoteJob, StoreError};

use super::Actor;

impl Actor {
    pub(super) async fn observe(
        &mut self,
        seen: Vec<Result<Observation, DriverError>>,
    ) -> Result<(), StoreError> {
        let mut actions = Vec::new();
        for item in seen {
            match item {
                Ok(Observation::Full(all)) => {
                    self.note(&all);
                    actions.extend(self.board.observe_all(all));
                    self.have_list = true;
                    self.answered().await?;
                }
                Ok(Observation::Changed(one)) => {
                    self.note(std::slice::from_ref(&one));
                    actions.extend(self.board.observe(one));
                    self.answered().await?;
                }
                Ok(Observation::Alive) => self.answered().await?,
                Err(error) => self.silent(&error),
            }
        }
        self.act(actions).await
    }

    pub(super) async fn answered(&mut self) -> Result<(), StoreError> {
        self.seen_at = Instant::now();
        self.message = self.runtime.driver.not_ready();
        let health = if self.message.is_some() { ClusterHealth::NotReady } else { ClusterHealth::Ready };
        if self.health == health || !self.have_list {
            return Ok(());
        }
        if let Some(why) = &self.message {
            warn!(cluster = %self.cluster, why, "nothing can begin on the cluster");
        } else {
            info!(cluster = %self.cluster, "the cluster answers");
        }
        self.health = health;
        self.read_capacity();
        self.report().await?;
        // Only if it is ready.
        self.begin_launches().await
    }

    pub(super) fn silent(&mut self, error: &DriverError) {
        debug!(cluster = %self.cluster, %error, "the cluster could not be asked");
        metrics::counter!("yard_observe_errors_total", "kind" => error.code()).increment(1);
        self.message = Some(error.to_string());
    }

    /// Has logs kept, and notes what is to be removed one day.
    fn note(&mut self, remotes: &[RemoteJob]) {
        let due = Instant::now() + self.shared.settings.keep_remote;
        self.archiver.running(remotes, self.shared.instance);
        for ended in self.leftovers.note(remotes, self.shared.instance, due) {
            self.archiver.ended(ended);
        }
    }
}
