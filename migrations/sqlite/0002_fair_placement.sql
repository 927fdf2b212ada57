-- Fair placement: cohorts, a catalog with versions, past use, wishes to make room, what clusters cost and how they
-- grow. Same tables and columns as migrations/mysql/0002_fair_placement.sql.

ALTER TABLE teams ADD COLUMN cohort TEXT NULL;
ALTER TABLE teams ADD COLUMN max_quota TEXT NULL; -- NULL: no bound of its own
ALTER TABLE teams ADD COLUMN submit_per_minute INTEGER NULL; -- NULL: as fast as it likes
ALTER TABLE teams ADD COLUMN submit_burst INTEGER NULL;

-- The row of a cohort at the top of a tree is what transactions that charge teams of the tree wait for one another at.
CREATE TABLE cohorts (
  id TEXT NOT NULL PRIMARY KEY,
  parent TEXT NULL,
  quota TEXT NOT NULL,
  max_quota TEXT NOT NULL,
  weight INTEGER NOT NULL
) WITHOUT ROWID;

-- One row, which `yard migrate` makes. generation: grows whenever teams, cohorts or policy may have changed, so that
-- processes may remember them.
CREATE TABLE catalog_in_force (
  id INTEGER NOT NULL PRIMARY KEY, -- 1
  version INTEGER NOT NULL, -- in catalog_versions; 0 before the first
  generation INTEGER NOT NULL,
  policy TEXT NULL -- NULL: the default one
) WITHOUT ROWID;

CREATE TABLE catalog_versions (
  number INTEGER PRIMARY KEY,
  at_us INTEGER NOT NULL,
  applied_by TEXT NOT NULL,
  source TEXT NOT NULL, -- configuration, applied
  text TEXT NOT NULL
);

-- An elastic cluster's `capacity` is the ceiling; what is there now is `present`.
ALTER TABLE clusters ADD COLUMN elastic_delay_us INTEGER NULL; -- NULL: no autoscaler
ALTER TABLE clusters ADD COLUMN present TEXT NULL;
ALTER TABLE clusters ADD COLUMN cost_per_hour_micro INTEGER NULL;
ALTER TABLE clusters ADD COLUMN breaker_open INTEGER NOT NULL DEFAULT 0;
ALTER TABLE clusters ADD COLUMN recent_failures INTEGER NOT NULL DEFAULT 0;

-- Past use of a team, counted up to the row's last write; NULL: the policy does not remember it.
ALTER TABLE accounts ADD COLUMN past TEXT NULL;

-- preempt_us: when its open attempt was asked to make room. One from before placed_us is about an earlier attempt and
-- means nothing (a binary that does not know the column may have left it there).
-- From here on clock_kind is 4, and clock_us = placed_us, while a job is on a cluster: attempts in the order of their
-- placement, without another index. Rows that binaries of before left at NULL are put right by the sweep.
ALTER TABLE jobs ADD COLUMN preempt_us INTEGER NULL;
-- The id behind the time, as InnoDB has it by itself: ends are read in this order, page by page.
DROP INDEX jobs_clock;
CREATE INDEX jobs_clock ON jobs (clock_kind, clock_us, id);

ALTER TABLE wait_notes ADD COLUMN expected_us INTEGER NULL; -- when the first of the group will probably start

-- How far off expected starts were: how many, by how far ahead they were expected and how late they came (both in
-- steps that crates/store-sql/src/forecasts.rs tells). `yard migrate` makes the rows.
CREATE TABLE forecast_errors (
  horizon INTEGER NOT NULL,
  late INTEGER NOT NULL,
  starts INTEGER NOT NULL,
  PRIMARY KEY (horizon, late)
) WITHOUT ROWID;
