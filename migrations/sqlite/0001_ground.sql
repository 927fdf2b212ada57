-- The ground: see migrations/README.md for the rules and docs/adr/0002 and 0003 for the reasons.
-- Times (`_us`) are microseconds since the Unix epoch by the database's clock. JSON is kept as text: it is only
-- ever read whole. Same tables and columns as migrations/mysql/0001_ground.sql; tables of small
-- rows are WITHOUT ROWID, and jobs' indexes name the id that InnoDB appends by itself.

CREATE TABLE meta (
  name TEXT NOT NULL PRIMARY KEY,
  text TEXT NULL,
  number INTEGER NULL
) WITHOUT ROWID;

CREATE TABLE teams (
  id TEXT NOT NULL PRIMARY KEY,
  quota TEXT NOT NULL,
  weight INTEGER NOT NULL,
  configured INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE clusters (
  id TEXT NOT NULL PRIMARY KEY,
  driver TEXT NOT NULL,
  labels TEXT NOT NULL,
  capacity TEXT NULL,
  declared INTEGER NOT NULL, -- 1: the capacity is the configuration's word, reports don't change it
  switch_state TEXT NOT NULL,
  switched_by TEXT NULL,
  switched_us INTEGER NULL,
  health TEXT NOT NULL,
  last_seen_us INTEGER NULL,
  configured INTEGER NOT NULL,
  message TEXT NULL
) WITHOUT ROWID;

-- What clusters and teams have in use. One key column ('cluster:east', 'team:ads'), whose order is the order in
-- which accounts are locked.
CREATE TABLE accounts (
  owner TEXT NOT NULL PRIMARY KEY,
  used TEXT NOT NULL
) WITHOUT ROWID;

-- The verdict on every submission. An accepted row is the arbiter of its key for ever.
CREATE TABLE receipts (
  team BLOB NOT NULL,
  idem_key BLOB NOT NULL,
  verdict TEXT NOT NULL, -- accepted, rejected
  job_id BLOB NULL,
  body_hash BLOB NOT NULL,
  errors TEXT NULL,
  source TEXT NOT NULL,
  message_id TEXT NOT NULL,
  at_us INTEGER NOT NULL,
  PRIMARY KEY (team, idem_key)
) WITHOUT ROWID;

-- Later arrivals under an accepted key that had another body: the newest few of each key.
CREATE TABLE receipt_conflicts (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  team BLOB NOT NULL,
  idem_key BLOB NOT NULL,
  body_hash BLOB NOT NULL,
  message_id TEXT NOT NULL,
  at_us INTEGER NOT NULL
);
CREATE INDEX receipt_conflicts_key ON receipt_conflicts (team, idem_key);

-- A job and, while it has one, its open attempt (number = attempts, on `cluster`).
-- ready:      1 queued and may be claimed; 0 claimed; NULL otherwise (backing off, on a cluster, ended)
-- clock_kind: 1 the queue deadline runs (queued, claimed); 2 backing off; 3 ended at; NULL on a cluster
-- pending_us: when it was placed, while it waits for its launch; NULL otherwise
CREATE TABLE jobs (
  id BLOB NOT NULL PRIMARY KEY,
  team TEXT NOT NULL,
  shape INTEGER NOT NULL,
  queue_order INTEGER NOT NULL,
  ready INTEGER NULL,
  clock_kind INTEGER NULL,
  clock_us INTEGER NULL,
  cluster TEXT NULL,
  pending_us INTEGER NULL,
  state TEXT NOT NULL,
  version INTEGER NOT NULL,
  since_us INTEGER NOT NULL,
  deadline_us INTEGER NULL,
  not_before_us INTEGER NULL,
  lease_token INTEGER NULL,
  stop_us INTEGER NULL, -- when somebody asked for it to be stopped
  attempts INTEGER NOT NULL,
  placed_us INTEGER NULL,
  launched_us INTEGER NULL,
  started_us INTEGER NULL,
  retries_own INTEGER NOT NULL,
  retries_infra INTEGER NOT NULL,
  preemptions INTEGER NOT NULL,
  max_retries INTEGER NOT NULL,
  queue_timeout_us INTEGER NOT NULL,
  run_timeout_us INTEGER NOT NULL,
  created_us INTEGER NOT NULL,
  ended_us INTEGER NULL,
  failure_class TEXT NULL,
  failure_exit INTEGER NULL,
  failure_message TEXT NULL,
  idem_key TEXT NOT NULL,
  name TEXT NOT NULL,
  request TEXT NOT NULL,
  selector TEXT NOT NULL,
  document TEXT NOT NULL
);
CREATE INDEX jobs_ready ON jobs (ready, team, shape, queue_order, id);
CREATE INDEX jobs_clock ON jobs (clock_kind, clock_us);
CREATE INDEX jobs_cluster ON jobs (cluster, pending_us, id);
CREATE INDEX jobs_team ON jobs (team, id);

-- Attempts that have ended; the open one is in its job's row.
CREATE TABLE attempts (
  job_id BLOB NOT NULL,
  number INTEGER NOT NULL,
  cluster TEXT NOT NULL,
  placed_us INTEGER NOT NULL,
  launched_us INTEGER NULL,
  started_us INTEGER NULL,
  ended_us INTEGER NOT NULL,
  end_code TEXT NOT NULL,
  message TEXT NULL,
  exit_code INTEGER NULL,
  PRIMARY KEY (job_id, number)
) WITHOUT ROWID;

CREATE TABLE history (
  job_id BLOB NOT NULL,
  seq INTEGER NOT NULL,
  at_us INTEGER NOT NULL,
  actor TEXT NOT NULL,
  from_state TEXT NULL,
  to_state TEXT NOT NULL,
  code TEXT NOT NULL,
  data TEXT NOT NULL,
  PRIMARY KEY (job_id, seq)
) WITHOUT ROWID;

-- Jobs with an open attempt that somebody wants stopped: what dispatchers look for. Few, so a table of its own
-- instead of an index that every job would pay for.
CREATE TABLE stop_wishes (
  cluster TEXT NOT NULL,
  job_id BLOB NOT NULL,
  PRIMARY KEY (cluster, job_id)
) WITHOUT ROWID;

CREATE TABLE wait_notes (
  team TEXT NOT NULL,
  shape INTEGER NOT NULL,
  at_us INTEGER NOT NULL,
  code TEXT NOT NULL,
  message TEXT NOT NULL,
  clusters TEXT NOT NULL,
  PRIMARY KEY (team, shape)
) WITHOUT ROWID;

-- Tokens are unique because they come from one counter (meta 'lease_token'). No index on them: every access is by
-- scope, so that all lock in the same order.
CREATE TABLE leases (
  scope TEXT NOT NULL PRIMARY KEY,
  token INTEGER NOT NULL,
  holder TEXT NOT NULL,
  acquired_us INTEGER NOT NULL,
  renewed_us INTEGER NOT NULL,
  expires_us INTEGER NOT NULL
) WITHOUT ROWID;
