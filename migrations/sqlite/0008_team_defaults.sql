-- What a team's submissions ask for where they say nothing. Same as migrations/mysql/0008_team_defaults.sql.

ALTER TABLE teams ADD COLUMN default_request TEXT NULL; -- NULL: as the installation's defaults say
