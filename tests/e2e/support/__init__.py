"""What the end-to-end tests share.

| file | what it holds |
|---|---|
| `config.py` | configurations for `yard`, as Python values and as TOML |
| `yard.py` | an installation of Switchyard: its processes, its database, its queues |
| `api.py` | the HTTP API, asked of any process that answers |
| `database.py`, `queues.py` | a database and queues of a test's own |
| `jobs.py`, `job.sh` | submissions, and the command that jobs run |
| `evidence.py` | what really ran at the clusters, from the log that the jobs write, and from Ray |
| `invariants.py` | what must be true at the end of every test |
| `storm.py`, `killer.py` | the storm: many jobs while processes are killed |
| `proxy.py` | a link to a cluster that can be cut |
| `kubernetes.py`, `rayjobs.py` | a Kubernetes namespace that is driven; RayJobs as kubectl sees them |
| `wait.py`, `reaper.py` | waiting with a deadline; leaving nothing running |
"""
