-- Who may do what: tokens, and the log of who changed what. Only adds, so that binaries of before run beside.

-- Of a token's secret only its SHA-256 is kept: the secret is 256 random bits, so there is nothing to guess that a slow
-- hash would have to guard. teams: names with blanks between; NULL is every team.
CREATE TABLE api_tokens (
  id           VARCHAR(16)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
  name         VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  role         VARCHAR(20)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL, -- viewer, submitter, team-admin, operator
  teams        TEXT CHARACTER SET ascii COLLATE ascii_bin NULL,
  secret_hash  BINARY(32) NOT NULL,
  created_by   VARCHAR(300) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  created_us   BIGINT NOT NULL,
  expires_us   BIGINT NULL, -- NULL: never
  last_used_us BIGINT NULL, -- written at most once a minute
  revoked_us   BIGINT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;

CREATE TABLE audit_log (
  id      BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  at_us   BIGINT NOT NULL,
  actor   VARCHAR(300) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  address VARCHAR(64)  CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  action  VARCHAR(60)  CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  target  VARCHAR(500) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  result  VARCHAR(60)  CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, -- ok, or a problem's code
  request VARCHAR(64)  CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  KEY audit_log_at (at_us)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC;
