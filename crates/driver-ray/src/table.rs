//! What the cluster showed last, and what is new about what it shows now. Pure.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;
use yard_domain::RemoteName;
use yard_ports::{RemoteJob, RemoteStatus};

use crate::status::is_lost;

/// The jobs of Switchyard's form, as last shown.
#[derive(Debug, Default)]
pub(crate) struct Table {
    shown: HashMap<RemoteName, RemoteJob>,
    lost_since: HashMap<RemoteName, Instant>,
}

/// What a listing brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// Jobs that are new or stand otherwise.
    pub(crate) changed: Vec<RemoteJob>,
    /// Whether a job is gone that had not ended. (Those that had ended were forgotten.)
    pub(crate) vanished: bool,
}

impl Table {
    /// Takes a listing in. One that is lost is shown as running until it has been so for `settle`.
    pub(crate) fn update(&mut self, jobs: Vec<RemoteJob>, now: Instant, settle: Duration) -> News {
        let mut news = News::default();
        let mut shown = HashMap::with_capacity(jobs.len());
        let mut lost_since = HashMap::new();
        for mut job in jobs {
            let old = self.shown.remove(&job.name);
            if is_lost(&job.status) && old.as_ref().is_none_or(|old| old.status != job.status) {
                let since = self.lost_since.get(&job.name).copied().unwrap_or(now);
                if now.duration_since(since) < settle {
                    lost_since.insert(job.name.clone(), since);
                    job.status = RemoteStatus::Running;
                }
            }
            if old.as_ref() != Some(&job) {
                news.changed.push(job.clone());
            }
            shown.insert(job.name.clone(), job);
        }
        news.vanished = self.shown.values().any(|job| !job.status.is_end());
        self.shown = shown;
        self.lost_since = lost_since;
        news
    }

    /// Everything as last shown.
    pub(crate) fn all(&self) -> Vec<RemoteJob> {
        self.shown.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use yard_domain::{AttemptNumber, Failure, FailureClass, JobId};

    use super::*;

    const SETTLE: Duration = Duration::from_secs(2);

    fn job(id: u128, status: RemoteStatus) -> RemoteJob {
        RemoteJob {
            name: RemoteName::new(JobId(Uuid::from_u128(id)), AttemptNumber(1)),
            instance: None,
            status,
        }
    }

    #[test]
    fn only_what_changed_is_news_and_only_the_open_vanish() {
        let (mut table, now) = (Table::default(), Instant::now());
        let first = vec![job(1, RemoteStatus::Pending), job(2, RemoteStatus::Succeeded)];
        assert_eq!(
            table.update(first.clone(), now, SETTLE),
            News { changed: first.clone(), vanished: false }
        );
        assert_eq!(table.update(first, now, SETTLE), News::default());
        let running = vec![job(1, RemoteStatus::Running)];
        assert_eq!(
            table.update(running.clone(), now, SETTLE),
            News { changed: running.clone(), vanished: false }
        );
        assert_eq!(table.all(), running);
        assert_eq!(table.update(vec![], now, SETTLE), News { changed: vec![], vanished: true });
    }

    #[test]
    fn a_lost_job_is_shown_as_running_until_its_processes_are_dead() {
        let (mut table, start) = (Table::default(), Instant::now());
        let lost = job(1, RemoteStatus::Failed(Failure::new(FailureClass::Lost, None, "died")));
        let running = job(1, RemoteStatus::Running);
        let at = |s| start + Duration::from_secs(s);
        assert_eq!(table.update(vec![running.clone()], start, SETTLE).changed, vec![running.clone()]);
        assert_eq!(table.update(vec![lost.clone()], at(1), SETTLE), News::default());
        assert_eq!(table.update(vec![lost.clone()], at(2), SETTLE), News::default());
        assert_eq!(table.all(), vec![running]);
        assert_eq!(table.update(vec![lost.clone()], at(3), SETTLE).changed, vec![lost.clone()]);
        assert_eq!(table.update(vec![lost], at(4), SETTLE), News::default());
    }
}
