//! Watching all folders: a look at everything now and then, and at one at once when there is news of it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::Stream;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{Instant, sleep_until};
use yard_domain::RemoteName;
use yard_ports::{DriverError, Observation, RemoteJob};

use crate::attempt_dir::AttemptDir;
use crate::blocking::blocking;
use crate::config::ProcessConfig;

type Item = Result<Observation, DriverError>;

/// Observations without end.
pub(crate) fn stream(
    config: &ProcessConfig,
    news: broadcast::Receiver<RemoteName>,
) -> impl Stream<Item = Item> + Send + use<> {
    let now = Instant::now();
    let watch = Watch {
        root: config.dir.clone(),
        poll_interval: config.poll_interval,
        resync_interval: config.resync_interval,
        news,
        seen: Seen::default(),
        ready: VecDeque::new(),
        next_look: now,
        next_full: now,
    };
    futures::stream::unfold(watch, |mut watch| async move { Some((watch.next().await, watch)) })
}

struct Watch {
    root: PathBuf,
    poll_interval: Duration,
    resync_interval: Duration,
    news: broadcast::Receiver<RemoteName>,
    seen: Seen,
    ready: VecDeque<Item>,
    next_look: Instant,
    next_full: Instant,
}

impl Watch {
    async fn next(&mut self) -> Item {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return item;
            }
            tokio::select! {
                () = sleep_until(self.next_look) => self.look().await,
                // Closed means that the driver is gone; the folders are not.
                news = self.news.recv() => match news {
                    Ok(name) => self.look_at(name).await,
                    Err(RecvError::Lagged(_)) => self.look().await,
                    Err(RecvError::Closed) => { sleep_until(self.next_look).await; self.look().await; }
                },
            }
        }
    }

    /// Looks at everything that has not ended yet.
    async fn look(&mut self) {
        let (root, mut seen) = (self.root.clone(), std::mem::take(&mut self.seen));
        let looked = blocking(move || seen.look(&root).map(|changed| (seen, changed))).await;
        let now = Instant::now();
        self.next_look = now + self.poll_interval;
        match looked {
            Err(error) => {
                self.next_full = now;
                self.ready.push_back(Err(error));
            }
            Ok((seen, changed)) => {
                self.seen = seen;
                if now >= self.next_full {
                    self.next_full = now + self.resync_interval;
                    self.ready.push_back(Ok(Observation::Full(self.seen.all())));
                } else if changed.is_empty() {
                    self.ready.push_back(Ok(Observation::Alive));
                } else {
                    self.ready.extend(changed.into_iter().map(|job| Ok(Observation::Changed(job))));
                }
            }
        }
    }

    /// Looks at one, unless everything is to be looked at before anything else may be said.
    async fn look_at(&mut self, name: RemoteName) {
        if Instant::now() >= self.next_full {
            return self.look().await;
        }
        let dir = AttemptDir::of(&self.root, &name);
        // What can't be read now is left to the next look at everything.
        let looked = blocking(move || dir.remote_job(&name)).await;
        if let Ok(Some(job)) = looked
            && self.seen.note(&job)
        {
            self.ready.push_back(Ok(Observation::Changed(job)));
        }
    }
}

/// What was seen last, by the folder's name. Ended ones stay as they are, so they are not read again.
#[derive(Default)]
struct Seen(HashMap<String, RemoteJob>);

impl Seen {
    /// Reads the folders anew and returns what changed. Those that have vanished are dropped. An error of
    /// any folder is the error of all: what can't be read must not pass for not being there.
    fn look(&mut self, root: &Path) -> io::Result<Vec<RemoteJob>> {
        let mut now = HashMap::with_capacity(self.0.len());
        let mut changed = Vec::new();
        for entry in std::fs::read_dir(root)? {
            let Ok(folder) = entry?.file_name().into_string() else { continue };
            let old = match self.0.remove(&folder) {
                Some(ended) if ended.status.is_end() => {
                    now.insert(folder, ended);
                    continue;
                }
                old => old,
            };
            let Some((job, attempt)) = RemoteName::parse(&folder) else { continue };
            let name = RemoteName::new(job, attempt);
            let Some(job) = AttemptDir::of(root, &name).remote_job(&name)? else { continue };
            if old.as_ref() != Some(&job) {
                changed.push(job.clone());
            }
            now.insert(folder, job);
        }
        self.0 = now;
        Ok(changed)
    }

    /// Remembers `job`; whether it is news.
    fn note(&mut self, job: &RemoteJob) -> bool {
        let old = self.0.insert(job.name.to_string(), job.clone());
        old.as_ref() != Some(job)
    }

    fn all(&self) -> Vec<RemoteJob> {
        self.0.values().cloned().collect()
    }
}
