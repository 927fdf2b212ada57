-- Fair placement: cohorts, a catalog with versions, past use, wishes to make room, what clusters cost and how they
-- grow. Only adds, so that binaries of before run beside. docs/adr/0005 tells what is locked for a cohort's quota.

ALTER TABLE teams
  ADD COLUMN cohort            VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin NULL,
  ADD COLUMN max_quota         TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL, -- NULL: no bound of its own
  ADD COLUMN submit_per_minute BIGINT NULL, -- NULL: as fast as it likes
  ADD COLUMN submit_burst      BIGINT NULL;

-- The row of a cohort at the top of a tree is what transactions that charge teams of the tree wait for one another at.
CREATE TABLE cohorts (
  id        VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  parent    VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin NULL,
  quota     TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  max_quota TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  weight    BIGINT NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

-- One row, which `yard migrate` makes. generation: grows whenever teams, cohorts or policy may have changed, so that
-- processes may remember them.
CREATE TABLE catalog_in_force (
  id         BIGINT NOT NULL PRIMARY KEY, -- 1
  version    BIGINT NOT NULL, -- in catalog_versions; 0 before the first
  generation BIGINT NOT NULL,
  policy     MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL -- NULL: the default one
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

CREATE TABLE catalog_versions (
  number     BIGINT NOT NULL PRIMARY KEY,
  at_us      BIGINT NOT NULL,
  applied_by VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  source     VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, -- configuration, applied
  text       MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

-- An elastic cluster's `capacity` is the ceiling; what is there now is `present`.
ALTER TABLE clusters
  ADD COLUMN elastic_delay_us    BIGINT NULL, -- NULL: no autoscaler
  ADD COLUMN present             TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  ADD COLUMN cost_per_hour_micro BIGINT NULL,
  ADD COLUMN breaker_open        TINYINT NOT NULL DEFAULT 0,
  ADD COLUMN recent_failures     BIGINT NOT NULL DEFAULT 0;

-- Past use of a team, counted up to the row's last write; NULL: the policy does not remember it.
ALTER TABLE accounts
  ADD COLUMN past TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL;

-- preempt_us: when its open attempt was asked to make room. One from before placed_us is about an earlier attempt and
-- means nothing (a binary that does not know the column may have left it there).
-- From here on clock_kind is 4, and clock_us = placed_us, while a job is on a cluster: attempts in the order of their
-- placement, without another index. Rows that binaries of before left at NULL are put right by the sweep.
ALTER TABLE jobs
  ADD COLUMN preempt_us BIGINT NULL;

ALTER TABLE wait_notes
  ADD COLUMN expected_us BIGINT NULL; -- when the first of the group will probably start

-- How far off expected starts were: how many, by how far ahead they were expected and how late they came (both in
-- steps that crates/store-sql/src/forecasts.rs tells). `yard migrate` makes the rows.
CREATE TABLE forecast_errors (
  horizon  BIGINT NOT NULL,
  late     BIGINT NOT NULL,
  starts   BIGINT NOT NULL,
  PRIMARY KEY (horizon, late)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;
