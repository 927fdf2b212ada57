-- What a team's submissions ask for where they say nothing. Only adds, so that binaries of before run beside.

ALTER TABLE teams
  ADD COLUMN default_request TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL; -- NULL: as the installation's defaults say
