//! The database's time, read now and then and carried on by the monotonic clock.

use tokio::time::Instant;
use yard_domain::Timestamp;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct DbClock {
    at: Timestamp,
    read: Instant,
}

impl DbClock {
    /// The database said `at` in answer to a question asked at `asked`.
    pub fn new(at: Timestamp, asked: Instant) -> Self {
        Self { at, read: asked }
    }

    /// The database's time by now.
    pub fn now(&self) -> Timestamp {
        self.at.plus(self.read.elapsed())
    }

    /// When the database's clock will show `at`; now if it already does.
    pub fn instant_of(&self, at: Timestamp) -> Instant {
        Instant::now() + at.since(self.now())
    }
}
