//! The statements whose cost must not grow with the tables, in one place: adapters' tests hold their databases to the
//! plans (an index range in the index's own order, no sort, no scan).

use crate::backend::Dialect;
use crate::rows::{CLOCK_BACKOFF, CLOCK_ENDED, CLOCK_QUEUE, JOB_COLUMNS};

/// The first queued job of the first team after this one: team.
///
/// Groups are found by jumping from one to the next with this and [`next_shape`]. A GROUP BY would say the same in one
/// statement, but whether it jumps or reads every entry is up to the optimizer, and MariaDB's reads them all while its
/// statistics are out of date.
pub fn next_team(dialect: Dialect) -> String {
    let index = dialect.index("jobs_ready");
    format!(
        "SELECT team, shape, queue_order FROM jobs{index} WHERE ready = 1 AND team > ? \
         ORDER BY team, shape, queue_order, id LIMIT 1"
    )
}

/// The first queued job of a team's first shape from this one on: team, shape.
pub fn next_shape(dialect: Dialect) -> String {
    let index = dialect.index("jobs_ready");
    format!(
        "SELECT team, shape, queue_order FROM jobs{index} WHERE ready = 1 AND team = ? AND shape >= ? \
         ORDER BY shape, queue_order, id LIMIT 1"
    )
}

/// The first places of one group: team, shape, how many.
pub fn head(dialect: Dialect, columns: &str) -> String {
    let index = dialect.index("jobs_ready");
    format!(
        "SELECT {columns} FROM jobs{index} WHERE ready = 1 AND team = ? AND shape = ? ORDER BY queue_order, id LIMIT ?"
    )
}

/// The jobs that a claim takes: team, shape, how many.
pub fn claim(dialect: Dialect) -> String {
    format!("{}{}", head(dialect, JOB_COLUMNS), dialect.skip_locked())
}

/// The jobs of a cluster that wait for their launch: cluster, how many.
pub fn placed(dialect: Dialect) -> String {
    let index = dialect.index("jobs_cluster");
    format!(
        "SELECT id, team, stop_us FROM jobs{index} WHERE cluster = ? AND pending_us > 0 ORDER BY pending_us, id LIMIT ?"
    )
}

/// The attempts of a cluster that have been sent: cluster, after which job, how many.
pub fn active(dialect: Dialect) -> String {
    let index = dialect.index("jobs_cluster");
    format!(
        "SELECT id, attempts, team, state, deadline_us, stop_us FROM jobs{index} \
         WHERE cluster = ? AND pending_us IS NULL AND id > ? ORDER BY id LIMIT ?"
    )
}

/// Backoffs that are over: by when, how many.
pub fn backoffs(dialect: Dialect) -> String {
    due(dialect, "id", CLOCK_BACKOFF, "")
}

/// Queue timeouts that are over: by when, how many.
pub fn expiries(dialect: Dialect) -> String {
    due(dialect, JOB_COLUMNS, CLOCK_QUEUE, " AND state = 'queued'")
}

/// Jobs that ended long ago: by when, how many.
pub fn ended(dialect: Dialect) -> String {
    due(dialect, "id", CLOCK_ENDED, "")
}

fn due(dialect: Dialect, columns: &str, kind: i64, and: &str) -> String {
    let (index, lock) = (dialect.index("jobs_clock"), dialect.skip_locked());
    format!(
        "SELECT {columns} FROM jobs{index} WHERE clock_kind = {kind} AND clock_us <= ?{and} \
         ORDER BY clock_us LIMIT ?{lock}"
    )
}
