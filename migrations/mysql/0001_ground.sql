-- The ground: see migrations/README.md for the rules and docs/adr/0002 and 0003 for the reasons.
-- Times (`_us`) are microseconds since the Unix epoch by the database's clock. JSON is kept as text: it is only
-- ever read whole. Keys of producers are VARBINARY: compared byte by byte, without a collation's opinions.

CREATE TABLE meta (
  name   VARCHAR(60)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  text   VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  number BIGINT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

CREATE TABLE teams (
  id         VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  quota      TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  weight     BIGINT NOT NULL,
  configured TINYINT NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

CREATE TABLE clusters (
  id           VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  driver       VARCHAR(60) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  labels       TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  capacity     TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  declared     TINYINT NOT NULL, -- 1: the capacity is the configuration's word, reports don't change it
  switch_state VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  switched_by  VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  switched_us  BIGINT NULL,
  health       VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  last_seen_us BIGINT NULL,
  configured   TINYINT NOT NULL,
  message      TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

-- What clusters and teams have in use. One key column ('cluster:east', 'team:ads'), whose order is the order in
-- which accounts are locked.
CREATE TABLE accounts (
  owner VARCHAR(80) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  used  TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

-- The verdict on every submission. An accepted row is the arbiter of its key for ever.
CREATE TABLE receipts (
  team       VARBINARY(252) NOT NULL,
  idem_key   VARBINARY(800) NOT NULL,
  verdict    VARCHAR(10) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, -- accepted, rejected
  job_id     BINARY(16) NULL,
  body_hash  BINARY(32) NOT NULL,
  errors     MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  source     VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  message_id VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  at_us      BIGINT NOT NULL,
  PRIMARY KEY (team, idem_key)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

-- Later arrivals under an accepted key that had another body: the newest few of each key.
CREATE TABLE receipt_conflicts (
  id         BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  team       VARBINARY(252) NOT NULL,
  idem_key   VARBINARY(800) NOT NULL,
  body_hash  BINARY(32) NOT NULL,
  message_id VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  at_us      BIGINT NOT NULL,
  KEY receipt_conflicts_key (team, idem_key)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

-- A job and, while it has one, its open attempt (number = attempts, on `cluster`).
-- ready:      1 queued and may be claimed; 0 claimed; NULL otherwise (backing off, on a cluster, ended)
-- clock_kind: 1 the queue deadline runs (queued, claimed); 2 backing off; 3 ended at; NULL on a cluster
-- pending_us: when it was placed, while it waits for its launch; NULL otherwise
CREATE TABLE jobs (
  id               BINARY(16) NOT NULL PRIMARY KEY,
  team             VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  shape            BIGINT NOT NULL,
  queue_order      BIGINT NOT NULL,
  ready            TINYINT NULL,
  clock_kind       TINYINT NULL,
  clock_us         BIGINT NULL,
  cluster          VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin NULL,
  pending_us       BIGINT NULL,
  state            VARCHAR(12) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  version          BIGINT NOT NULL,
  since_us         BIGINT NOT NULL,
  deadline_us      BIGINT NULL,
  not_before_us    BIGINT NULL,
  lease_token      BIGINT NULL,
  stop_us          BIGINT NULL, -- when somebody asked for it to be stopped
  attempts         BIGINT NOT NULL,
  placed_us        BIGINT NULL,
  launched_us      BIGINT NULL,
  started_us       BIGINT NULL,
  retries_own      BIGINT NOT NULL,
  retries_infra    BIGINT NOT NULL,
  preemptions      BIGINT NOT NULL,
  max_retries      BIGINT NOT NULL,
  queue_timeout_us BIGINT NOT NULL,
  run_timeout_us   BIGINT NOT NULL,
  created_us       BIGINT NOT NULL,
  ended_us         BIGINT NULL,
  failure_class    VARCHAR(30) CHARACTER SET ascii COLLATE ascii_bin NULL,
  failure_exit     BIGINT NULL,
  failure_message  TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  idem_key         VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  name             VARCHAR(300) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  request          TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  selector         TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  document         MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  KEY jobs_ready (ready, team, shape, queue_order),
  KEY jobs_clock (clock_kind, clock_us),
  KEY jobs_cluster (cluster, pending_us),
  KEY jobs_team (team)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

-- Attempts that have ended; the open one is in its job's row.
CREATE TABLE attempts (
  job_id      BINARY(16) NOT NULL,
  number      BIGINT NOT NULL,
  cluster     VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  placed_us   BIGINT NOT NULL,
  launched_us BIGINT NULL,
  started_us  BIGINT NULL,
  ended_us    BIGINT NOT NULL,
  end_code    VARCHAR(30) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  message     TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  exit_code   BIGINT NULL,
  PRIMARY KEY (job_id, number)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

CREATE TABLE history (
  job_id     BINARY(16) NOT NULL,
  seq        BIGINT NOT NULL,
  at_us      BIGINT NOT NULL,
  actor      VARCHAR(300) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  from_state VARCHAR(12) CHARACTER SET ascii COLLATE ascii_bin NULL,
  to_state   VARCHAR(12) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  code       VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  data       TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  PRIMARY KEY (job_id, seq)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

-- Jobs with an open attempt that somebody wants stopped: what dispatchers look for. Few, so a table of its own
-- instead of an index that every job would pay for.
CREATE TABLE stop_wishes (
  cluster VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  job_id  BINARY(16) NOT NULL,
  PRIMARY KEY (cluster, job_id)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

CREATE TABLE wait_notes (
  team     VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  shape    BIGINT NOT NULL,
  at_us    BIGINT NOT NULL,
  code     VARCHAR(60) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  message  TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  clusters MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  PRIMARY KEY (team, shape)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

-- Tokens are unique because they come from one counter (meta 'lease_token'). No index on them: every access is by
-- scope, so that all lock in the same order.
CREATE TABLE leases (
  scope       VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY,
  token       BIGINT NOT NULL,
  holder      VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  acquired_us BIGINT NOT NULL,
  renewed_us  BIGINT NOT NULL,
  expires_us  BIGINT NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;
