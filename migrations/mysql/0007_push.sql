-- What is pushed to producers. docs/adr/0011 tells how an event becomes a delivery, and why none is lost.

-- Verdicts that made no job (rejected, conflict), as events: written in the transaction of the verdict, which also leaves
-- a reference (id, 0) in event_batches. No line of history has the number 0.
CREATE TABLE rejections (
  id         BINARY(16) NOT NULL PRIMARY KEY,
  at_us      BIGINT NOT NULL,
  team       VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, -- as it stood in the submission
  idem_key   VARCHAR(300) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  job_id     BINARY(16) NULL, -- of a conflict: the job that has the key
  errors     MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL, -- of a rejection
  source     VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  message_id VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  KEY rejections_at (at_us)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

-- One event for one subscription, until it has been delivered.
CREATE TABLE deliveries (
  team       VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  name       VARCHAR(63) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, -- of the subscription
  pos        BIGINT NOT NULL, -- the event's position
  lane       BINARY(16) NOT NULL, -- the job (of a rejection: its own id): deliveries of one lane go in the order of pos
  state      VARCHAR(10) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, -- pending, dead
  attempts   BIGINT NOT NULL,
  due_us     BIGINT NOT NULL, -- pending: not before; dead: since
  created_us BIGINT NOT NULL,
  last_error TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
  body       MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, -- what is sent
  PRIMARY KEY (team, name, pos),
  KEY deliveries_due (team, name, state, due_us),
  KEY deliveries_lane (team, name, lane, state, pos)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;
