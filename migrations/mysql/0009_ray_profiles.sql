-- What dispatchers of Kubernetes clusters tell: what Ray clusters can be made there for jobs, and how GPUs lie on nodes. Only
-- adds, so that binaries of before run beside: they leave both NULL, which is 'not known'.

ALTER TABLE clusters
  ADD COLUMN ray_profiles MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL, -- NULL: none are made, or not told yet
  ADD COLUMN gpu_blocks   MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL; -- NULL: not watched, or not told yet
