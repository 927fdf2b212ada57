//! How long jobs usually run: what expected ends, and so expected starts, are made of.
//!
//! Kept in memory and rebuilt from the store after a start: a process that has just begun knows less, never something
//! wrong, because without history the run timeout stands in.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use yard_domain::{JobId, Shape, TeamId, Timestamp};
use yard_ports::store::{EndedRun, TimeCursor};
use yard_ports::{Store, StoreError};

/// Runs remembered of each group: enough for a median that follows a change within a day's work.
const RUNS_KEPT: usize = 63;

/// Bounds on what is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryBounds {
    /// How far back a start looks.
    pub lookback: Duration,
    /// Most groups remembered; beyond them, those seen longest ago are forgotten.
    pub groups_max: usize,
    /// Most runs read at once.
    pub batch: u32,
}

impl Default for HistoryBounds {
    fn default() -> Self {
        Self { lookback: Duration::from_hours(24), groups_max: 10_000, batch: 2_000 }
    }
}

/// The last runs of each group of alike jobs.
#[derive(Debug, Default)]
pub struct History {
    groups: HashMap<(TeamId, Shape), Runs>,
    cursor: Option<TimeCursor>,
    clock: u64,
}

#[derive(Debug, Default)]
struct Runs {
    /// Newest last.
    lengths: VecDeque<Duration>,
    /// When one was added, in runs seen.
    touched: u64,
}

impl Runs {
    /// The median of those longer than `than`.
    fn median_above(&self, than: Duration) -> Option<Duration> {
        let mut longer: Vec<Duration> = self.lengths.iter().copied().filter(|l| *l > than).collect();
        longer.sort_unstable();
        longer.get(longer.len() / 2).copied()
    }
}

impl History {
    /// Reads what has ended since the last call, one batch of it. `true`: there is more.
    pub async fn refresh(
        &mut self,
        store: &dyn Store,
        now: Timestamp,
        bounds: &HistoryBounds,
    ) -> Result<bool, StoreError> {
        let lookback = i64::try_from(bounds.lookback.as_micros()).unwrap_or(i64::MAX);
        let first = || TimeCursor {
            at: Timestamp::from_micros(now.as_micros().saturating_sub(lookback)),
            job: JobId::new(0, [0; 10]),
        };
        let after = self.cursor.get_or_insert_with(first);
        let runs = store.ended_runs(*after, bounds.batch).await?;
        let more = u32::try_from(runs.len()).is_ok_and(|n| n >= bounds.batch);
        for run in runs {
            self.add(run, bounds.groups_max);
        }
        Ok(more)
    }

    fn add(&mut self, run: EndedRun, groups_max: usize) {
        self.cursor = Some(TimeCursor { at: run.ended_at, job: run.job });
        if !run.succeeded {
            // How soon a job fails says nothing of how long it takes.
            return;
        }
        self.clock += 1;
        let runs = self.groups.entry((run.team, run.shape)).or_default();
        runs.touched = self.clock;
        if runs.lengths.len() == RUNS_KEPT {
            runs.lengths.pop_front();
        }
        runs.lengths.push_back(run.ran);
        if self.groups.len() > groups_max.max(1) {
            self.forget_half();
        }
    }

    fn forget_half(&mut self) {
        let mut touched: Vec<u64> = self.groups.values().map(|r| r.touched).collect();
        touched.sort_unstable();
        let middle = touched[touched.len() / 2];
        self.groups.retain(|_, runs| runs.touched >= middle);
    }

    /// How long a job of this group will probably run: the median of the last runs, at most its run timeout.
    pub fn expected_run(&self, team: &TeamId, shape: Shape, run_timeout: Duration) -> Duration {
        self.expected_length(team, shape, Duration::ZERO, run_timeout)
    }

    /// How long a job that has run for `so_far` will probably have run in the end: the median of those of the last runs
    /// that took longer; with none that did, its run timeout.
    pub fn expected_length(
        &self,
        team: &TeamId,
        shape: Shape,
        so_far: Duration,
        run_timeout: Duration,
    ) -> Duration {
        let runs = self.groups.get(&(team.clone(), shape));
        runs.and_then(|runs| runs.median_above(so_far)).unwrap_or(run_timeout).min(run_timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(team: &str, shape: i64, secs: u64, succeeded: bool) -> EndedRun {
        EndedRun {
            job: JobId::new(secs, [1; 10]),
            team: team.parse().unwrap(),
            shape: Shape(shape),
            succeeded,
            ended_at: Timestamp::from_micros(1),
            ran: Duration::from_secs(secs),
        }
    }

    #[test]
    fn the_median_of_what_took_longer() {
        let mut history = History::default();
        for secs in [10, 20, 30, 40, 50] {
            history.add(run("ads", 1, secs, true), 100);
        }
        history.add(run("ads", 1, 1, false), 100);
        let ads: TeamId = "ads".parse().unwrap();
        let expected = |so_far| {
            history
                .expected_length(&ads, Shape(1), Duration::from_secs(so_far), Duration::from_secs(45))
                .as_secs()
        };
        assert_eq!([0, 15, 30, 49, 50].map(expected), [30, 40, 45, 45, 45]);
        assert_eq!(
            history.expected_run(&ads, Shape(2), Duration::from_secs(7)).as_secs(),
            7,
            "nothing known"
        );
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut history = History::default();
        for secs in 0..1_000 {
            history.add(run("ads", 1, secs, true), 10);
        }
        let ads: TeamId = "ads".parse().unwrap();
        assert_eq!(history.groups[&(ads.clone(), Shape(1))].lengths.len(), RUNS_KEPT);
        for shape in 2..100 {
            history.add(run("ads", shape, 5, true), 10);
        }
        assert!(history.groups.len() <= 10);
        assert!(history.groups.contains_key(&(ads, Shape(99))), "the newest stay");
    }
}
