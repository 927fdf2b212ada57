-- Who may do what: tokens, and the log of who changed what. Same tables and columns as
-- migrations/mysql/0006_access.sql.

CREATE TABLE api_tokens (
  id TEXT NOT NULL PRIMARY KEY,
  name TEXT NOT NULL,
  role TEXT NOT NULL, -- viewer, submitter, team-admin, operator
  teams TEXT NULL, -- names with blanks between; NULL is every team
  secret_hash BLOB NOT NULL, -- SHA-256
  created_by TEXT NOT NULL,
  created_us INTEGER NOT NULL,
  expires_us INTEGER NULL, -- NULL: never
  last_used_us INTEGER NULL, -- written at most once a minute
  revoked_us INTEGER NULL
) WITHOUT ROWID;

CREATE TABLE audit_log (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  at_us INTEGER NOT NULL,
  actor TEXT NOT NULL,
  address TEXT NOT NULL,
  action TEXT NOT NULL,
  target TEXT NOT NULL,
  result TEXT NOT NULL, -- ok, or a problem's code
  request TEXT NOT NULL
);
CREATE INDEX audit_log_at ON audit_log (at_us);
