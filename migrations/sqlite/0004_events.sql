-- Events in an order of their own, and what is known of doors. Same tables and columns as
-- migrations/mysql/0004_events.sql.

CREATE TABLE event_batches (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  last_pos INTEGER NULL, -- of the last of its lines; the others have those before. NULL: not given yet
  at_us INTEGER NOT NULL,
  line_refs BLOB NOT NULL -- 20 bytes a line: job_id, seq (big-endian)
);
CREATE INDEX event_batches_pos ON event_batches (last_pos);

CREATE TABLE arrivals_seen (
  door TEXT NOT NULL,
  slot INTEGER NOT NULL,
  newest_us INTEGER NOT NULL, -- by the queue's clock
  PRIMARY KEY (door, slot)
) WITHOUT ROWID;
