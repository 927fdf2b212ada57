-- Packages that clients of the Ray Jobs API upload (their content is in the object store), and the jobs that were
-- deleted from that API's view.

-- Several names may share one object: content is kept once. An object without a row here is removed.
CREATE TABLE packages (
  uri           VARCHAR(300) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY, -- gcs://NAME
  object        VARCHAR(200) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, -- its path in the object store
  sha256        BINARY(32) NOT NULL,
  bytes         BIGINT NOT NULL,
  created_us    BIGINT NOT NULL,
  used_us       BIGINT NOT NULL,
  keep_until_us BIGINT NOT NULL, -- no job can want it later than this, unless it is used again
  KEY packages_content (sha256),
  KEY packages_object (object),
  KEY packages_keep (keep_until_us)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

CREATE TABLE ray_hidden (
  job_id BINARY(16) NOT NULL PRIMARY KEY
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;
