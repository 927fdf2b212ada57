//! Why groups of jobs wait, kept for people.

use std::collections::HashMap;
use std::time::Duration;

use yard_domain::{Lease, Shape, TeamId, Timestamp};
use yard_planner::{GroupRefusal, Hold, Plan};
use yard_ports::store::WaitNote;
use yard_ports::{Store, StoreError};

/// An expected start that moved by less than this is not worth a write.
const SHIFT_MIN: Duration = Duration::from_mins(1);

/// What was written last.
#[derive(Debug, Default)]
pub struct Notes {
    written: HashMap<(TeamId, Shape), WaitNote>,
}

impl Notes {
    /// Writes the notes that follow from a plan, as far as they have changed since.
    pub async fn write(&mut self, store: &dyn Store, lease: &Lease, plan: &Plan) -> Result<(), StoreError> {
        let starts: HashMap<(&TeamId, Shape), Timestamp> =
            plan.reservations.iter().map(|r| ((&r.team, r.shape), r.expected)).collect();
        let start = |r: &GroupRefusal| starts.get(&(&r.team, r.shape)).copied();
        let notes: Vec<WaitNote> =
            plan.refusals.iter().filter(|r| r.hold != Hold::PassFull).map(|r| note(r, start(r))).collect();
        let stands =
            |n: &WaitNote| self.written.get(&(n.team.clone(), n.shape)).filter(|old| says_same(old, n));
        let changed: Vec<WaitNote> = notes.iter().filter(|n| stands(n).is_none()).cloned().collect();
        if !changed.is_empty() {
            store.note_waits(lease, &changed).await?;
        }
        let kept = |n: WaitNote| stands(&n).cloned().unwrap_or(n);
        self.written = notes.into_iter().map(kept).map(|n| ((n.team.clone(), n.shape), n)).collect();
        Ok(())
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
