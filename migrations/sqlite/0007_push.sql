-- What is pushed to producers. Same tables and columns as migrations/mysql/0007_push.sql.

CREATE TABLE rejections (
  id BLOB NOT NULL PRIMARY KEY,
  at_us INTEGER NOT NULL,
  team TEXT NOT NULL, -- as it stood in the submission
  idem_key TEXT NOT NULL,
  job_id BLOB NULL, -- of a conflict: the job that has the key
  errors TEXT NULL, -- of a rejection
  source TEXT NOT NULL,
  message_id TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX rejections_at ON rejections (at_us);

CREATE TABLE deliveries (
  team TEXT NOT NULL,
  name TEXT NOT NULL, -- of the subscription
  pos INTEGER NOT NULL, -- the event's position
  lane BLOB NOT NULL, -- the job (of a rejection: its own id): deliveries of one lane go in the order of pos
  state TEXT NOT NULL, -- pending, dead
  attempts INTEGER NOT NULL,
  due_us INTEGER NOT NULL, -- pending: not before; dead: since
  created_us INTEGER NOT NULL,
  last_error TEXT NULL,
  body TEXT NOT NULL, -- what is sent
  PRIMARY KEY (team, name, pos)
) WITHOUT ROWID;
CREATE INDEX deliveries_due ON deliveries (team, name, state, due_us);
CREATE INDEX deliveries_lane ON deliveries (team, name, lane, state, pos);
