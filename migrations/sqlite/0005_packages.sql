-- Packages that clients of the Ray Jobs API upload, and the jobs that were deleted from that API's view. Same tables
-- and columns as migrations/mysql/0005_packages.sql.

-- Several names may share one object: content is kept once. An object without a row here is removed.
CREATE TABLE packages (
  uri TEXT NOT NULL PRIMARY KEY, -- gcs://NAME
  object TEXT NOT NULL, -- its path in the object store
  sha256 BLOB NOT NULL,
  bytes INTEGER NOT NULL,
  created_us INTEGER NOT NULL,
  used_us INTEGER NOT NULL,
  keep_until_us INTEGER NOT NULL -- no job can want it later than this, unless it is used again
) WITHOUT ROWID;
CREATE INDEX packages_content ON packages (sha256);
CREATE INDEX packages_object ON packages (object);
CREATE INDEX packages_keep ON packages (keep_until_us);

CREATE TABLE ray_hidden (
  job_id BLOB NOT NULL PRIMARY KEY
) WITHOUT ROWID;
