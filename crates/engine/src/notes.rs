//! Why groups of jobs wait, kept for people.

use std::collections::HashMap;
use std::time::Duration;

use yard_domain::{Lease, Shape, TeamId, Timestamp};
use yard_planner::{GroupRefusal, Hold, Plan};
use yard_ports::store::WaitNote;
use yard_ports::{Store, StoreError};

/// An expected start that moved by less than this is not worth a write.
const SHIFT_MIN: Duration = Duration::from_mins(1);

/// A note that stands is written again after this time, or it would be deleted as one of a group that is gone. Ended jobs,
/// with which notes go, are kept for a day at least.
const WRITE_AGAIN: Duration = Duration::from_hours(1);

/// What was written last, and when.
#[derive(Debug, Default)]
pub struct Notes {
    written: HashMap<(TeamId, Shape), (WaitNote, Timestamp)>,
}

/// What to write, and what is written then.
struct Next {
    due: Vec<WaitNote>,
    written: HashMap<(TeamId, Shape), (WaitNote, Timestamp)>,
}

impl Notes {
    /// Writes the notes that follow from a plan, as far as they have changed since.
    pub async fn write(
        &mut self,
        store: &dyn Store,
        lease: &Lease,
        plan: &Plan,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Next { due, written } = self.decide(plan, now);
        if !due.is_empty() {
            store.note_waits(lease, &due).await?;
        }
        self.written = written;
        Ok(())
    }

    fn decide(&self, plan: &Plan, now: Timestamp) -> Next {
        let starts: HashMap<(&TeamId, Shape), Timestamp> =
            plan.reservations.iter().map(|r| ((&r.team, r.shape), r.expected)).collect();
        let mut next = Next { due: Vec::new(), written: HashMap::new() };
        for refusal in plan.refusals.iter().filter(|r| r.hold != Hold::PassFull) {
            let key = (refusal.team.clone(), refusal.shape);
            let note = note(refusal, starts.get(&(&key.0, key.1)).copied());
            let stands =
                |(old, at): &&(WaitNote, Timestamp)| says_same(old, &note) && now < at.plus(WRITE_AGAIN);
            let kept = if let Some(old) = self.written.get(&key).filter(stands) {
                old.clone()
            } else {
                next.due.push(note.clone());
                (note, now)
            };
            next.written.insert(key, kept);
        }
        next
    }
}

/// The same rule with other numbers is not worth a write.
fn says_same(a: &WaitNote, b: &WaitNote) -> bool {
    let what = |s: &String| s.split('(').next().unwrap_or_default().to_owned();
    let near = match (a.expected_start, b.expected_start) {
        (Some(a), Some(b)) => u128::from(a.as_micros().abs_diff(b.as_micros())) < SHIFT_MIN.as_micros(),
        (a, b) => a.is_none() && b.is_none(),
    };
    near && a.code == b.code
        && a.clusters.iter().map(|(c, s)| (c, what(s))).eq(b.clusters.iter().map(|(c, s)| (c, what(s))))
}

fn note(refusal: &GroupRefusal, expected_start: Option<Timestamp>) -> WaitNote {
    WaitNote {
        team: refusal.team.clone(),
        shape: refusal.shape,
        code: refusal.hold.code().to_owned(),
        message: refusal.hold.to_string(),
        clusters: refusal.clusters.iter().map(|(c, r)| (c.clone(), r.to_string())).collect(),
        expected_start,
    }
}

#[cfg(test)]
mod tests {
    use yard_planner::ClusterRefusals;

    use super::*;

    fn refusal(hold: Hold) -> GroupRefusal {
        GroupRefusal {
            team: "ads".parse().unwrap(),
            shape: Shape(1),
            hold,
            clusters: ClusterRefusals::none(),
        }
    }

    #[test]
    fn a_note_that_stands_is_written_again_before_it_would_be_deleted() {
        let hold = Hold::NoCluster;
        let plan = Plan { refusals: vec![refusal(hold)], ..Plan::default() };
        let start = Timestamp::from_micros(1_000_000);
        let mut notes = Notes::default();
        let mut pass = |after: Duration| {
            let next = notes.decide(&plan, start.plus(after));
            notes.written = next.written;
            next.due.len()
        };
        let minute = Duration::from_mins(1);
        assert_eq!(pass(Duration::ZERO), 1);
        assert_eq!((pass(minute), pass(minute * 59)), (0, 0));
        assert_eq!(pass(minute * 60), 1);
        assert_eq!((pass(minute * 61), pass(minute * 119), pass(minute * 120)), (0, 0, 1));
    }
}
