-- What dispatchers of Kubernetes clusters tell: what Ray clusters can be made there for jobs, and how GPUs lie on nodes.
-- Same as migrations/mysql/0009_ray_profiles.sql.

ALTER TABLE clusters ADD COLUMN ray_profiles TEXT NULL; -- NULL: none are made, or not told yet
ALTER TABLE clusters ADD COLUMN gpu_blocks   TEXT NULL; -- NULL: not watched, or not told yet
