//! The statements whose cost must not grow with the tables, in one place: adapters' tests hold their databases to the
//! plans (an index range in the index's own order, no sort, no scan).

use crate::backend::Dialect;
use crate::rows::{CLOCK_BACKOFF, CLOCK_ENDED, CLOCK_PLACED, CLOCK_QUEUE, JOB_COLUMNS};

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
        "SELECT id, team, stop_us, preempt_us, placed_us FROM jobs{index} WHERE cluster = ? AND pending_us > 0 ORDER BY pending_us, id LIMIT ?"
    )
}

/// The attempts of a cluster that have been sent: cluster, after which job, how many.
pub fn active(dialect: Dialect) -> String {
    let index = dialect.index("jobs_cluster");
    format!(
        "SELECT id, attempts, team, state, deadline_us, stop_us, preempt_us, placed_us FROM jobs{index} \
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

/// The open attempts that were placed last: how many.
pub fn holdings(dialect: Dialect) -> String {
    let index = dialect.index("jobs_clock");
    format!(
        "SELECT id, attempts, team, shape, cluster, request, queue_order, placed_us, started_us, run_timeout_us, \
         stop_us, preempt_us FROM jobs{index} WHERE clock_kind = {CLOCK_PLACED} ORDER BY clock_us DESC, id DESC LIMIT ?"
    )
}

/// Attempts that a binary of before migration 2 has placed, which [`holdings`] does not find: how many.
pub fn unordered(dialect: Dialect) -> String {
    let (index, lock) = (dialect.index("jobs_clock"), dialect.skip_locked());
    format!("SELECT id FROM jobs{index} WHERE clock_kind IS NULL AND cluster IS NOT NULL LIMIT ?{lock}")
}

/// Jobs that ended, with their last attempt, in the order of their ends: after when, the same, and which job, how
/// many.
pub fn ended_runs(dialect: Dialect) -> String {
    let index = dialect.index("jobs_clock");
    format!(
        "SELECT j.id, j.team, j.shape, j.state, j.clock_us, a.started_us, a.ended_us FROM jobs AS j{index} \
         LEFT JOIN attempts AS a ON a.job_id = j.id AND a.number = j.attempts \
         WHERE j.clock_kind = {CLOCK_ENDED} AND j.clock_us >= ? AND (j.clock_us > ? OR j.id > ?) \
         ORDER BY j.clock_us, j.id LIMIT ?"
    )
}

/// Jobs in the order of their ids, with their first and last attempt: after which id, before which id, accepted from
/// when, until when, how many.
pub fn arrivals(dialect: Dialect) -> String {
    let index = dialect.index("PRIMARY");
    format!(
        "SELECT j.id, j.team, j.created_us, j.queue_order, j.request, j.selector, j.run_timeout_us, \
         j.queue_timeout_us, COALESCE(f.placed_us, CASE WHEN j.attempts = 1 THEN j.placed_us END), \
         l.started_us, l.ended_us FROM jobs AS j{index} \
         LEFT JOIN attempts AS f ON f.job_id = j.id AND f.number = 1 \
         LEFT JOIN attempts AS l ON l.job_id = j.id AND l.number = j.attempts \
         WHERE j.id > ? AND j.id < ? AND j.created_us >= ? AND j.created_us < ? ORDER BY j.id LIMIT ?"
    )
}

/// The last of the next jobs of a list, by this index and under these conditions, which it must know: the conditions'
/// arguments, how many to pass over.
pub fn list_end(dialect: Dialect, index: &'static str, condition: &str) -> String {
    let index = dialect.index(index);
    let condition = if condition.is_empty() { String::new() } else { format!(" WHERE {condition}") };
    format!("SELECT id FROM jobs{index}{condition} ORDER BY id DESC LIMIT 1 OFFSET ?")
}

fn due(dialect: Dialect, columns: &str, kind: i64, and: &str) -> String {
    let (index, lock) = (dialect.index("jobs_clock"), dialect.skip_locked());
    format!(
        "SELECT {columns} FROM jobs{index} WHERE clock_kind = {kind} AND clock_us <= ?{and} \
         ORDER BY clock_us LIMIT ?{lock}"
    )
}

/// The deliveries whose turn it is: team, subscription, by when, how many. Those that wait behind an earlier one of their lane
/// are passed over.
pub fn due_deliveries(dialect: Dialect) -> String {
    let (due, lane) = (dialect.index("deliveries_due"), dialect.index("deliveries_lane"));
    format!(
        "SELECT d.pos, d.lane, d.attempts, d.created_us, d.body FROM deliveries AS d{due} \
         WHERE d.team = ? AND d.name = ? AND d.state = 'pending' AND d.due_us <= ? AND NOT EXISTS \
         (SELECT 1 FROM deliveries AS e{lane} WHERE e.team = d.team AND e.name = d.name AND e.lane = d.lane \
         AND e.state = 'pending' AND e.pos < d.pos) ORDER BY d.due_us, d.pos LIMIT ?"
    )
}
