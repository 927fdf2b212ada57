//! The one list call, again and again.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep_until};
use yard_ports::{DriverError, Observation};

use crate::cluster::Cluster;
use crate::table::Table;

type Item = Result<Observation, DriverError>;

/// Observations without end.
pub(crate) fn stream(cluster: Arc<Cluster>) -> impl Stream<Item = Item> + Send {
    let now = Instant::now();
    // The seed keeps the looks at different clusters from falling into step; nothing else hangs on it.
    let mut seed = DefaultHasher::new();
    cluster.config.address.hash(&mut seed);
    let random = StdRng::seed_from_u64(seed.finish());
    let watch = Watch {
        cluster,
        table: Table::default(),
        ready: VecDeque::new(),
        next_list: now,
        next_full: now,
        random,
    };
    futures::stream::unfold(watch, |mut watch| async move { Some((watch.next().await, watch)) })
}

struct Watch {
    cluster: Arc<Cluster>,
    table: Table,
    ready: VecDeque<Item>,
    next_list: Instant,
    next_full: Instant,
    random: StdRng,
}

impl Watch {
    async fn next(&mut self) -> Item {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return item;
            }
            sleep_until(self.next_list).await;
            self.list().await;
        }
    }

    async fn list(&mut self) {
        let listed = self.cluster.list().await;
        let now = Instant::now();
        let config = &self.cluster.config;
        self.next_list = now + jittered(config.poll_interval, &mut self.random);
        match listed {
            Err(error) => {
                self.next_full = now;
                self.ready.push_back(Err(error));
            }
            Ok(jobs) => {
                let news = self.table.update(jobs, now, config.lost_settle);
                if news.vanished || now >= self.next_full {
                    self.next_full = now + config.resync_interval;
                    self.ready.push_back(Ok(Observation::Full(self.table.all())));
                } else if news.changed.is_empty() {
                    self.ready.push_back(Ok(Observation::Alive));
                } else {
                    self.ready.extend(news.changed.into_iter().map(|job| Ok(Observation::Changed(job))));
                }
            }
        }
    }
}

fn jittered(interval: Duration, random: &mut StdRng) -> Duration {
    interval.mul_f64(random.random_range(0.9..1.1))
}
