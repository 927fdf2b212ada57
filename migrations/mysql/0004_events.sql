-- Events in an order of their own, and what is known of doors. docs/adr/0008 tells why no event is skipped.

-- Which lines of history one transaction wrote. Inserted by that transaction, without a position; positions are given
-- afterwards, by one reader at a time, who holds the row 'event_pos' of meta meanwhile.
CREATE TABLE event_batches (
  id        BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  last_pos  BIGINT NULL, -- of the last of its lines; the others have those before. NULL: not given yet
  at_us     BIGINT NOT NULL,
  line_refs MEDIUMBLOB NOT NULL, -- 20 bytes a line: job_id, seq (big-endian)
  KEY event_batches_pos (last_pos)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

-- When the newest message taken in of a queue was sent, in a few slots a door, so that processes do not wait for one
-- another at one row.
CREATE TABLE arrivals_seen (
  door      VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  slot      BIGINT NOT NULL,
  newest_us BIGINT NOT NULL, -- by the queue's clock
  PRIMARY KEY (door, slot)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;
