"""A standing Ray cluster of one node: a head with token authentication."""

import json
import os
import secrets

from . import provision
from .process import HOST, Server, free_ports, http

OBJECT_STORE_BYTES = 80_000_000  # Ray's minimum is 78,643,200
STARTS_MAX = 3
GAVE_UP = "timed out during startup"  # what Ray says then
MEMORY_BYTES = 2_000_000_000  # what the head offers to jobs, whatever the machine has


class RayHead(Server):
    """One Ray head; several may run side by side on one machine.

    A restart keeps address and token, but a head keeps its jobs in memory: after
    `restart` or `kill` it knows none of them.
    """

    start_timeout_s = 120.0

    def __init__(
        self,
        name: str,
        num_cpus: int,
        num_gpus: int = 0,
        resources: dict[str, float] | None = None,
        token: str | None = None,
        labels: dict[str, str] | None = None,
    ):
        super().__init__(f"ray-{name}")
        self.cluster = name
        self.token = token or secrets.token_hex(16)
        self.num_cpus, self.num_gpus = num_cpus, num_gpus
        self.resources, self.labels = resources or {}, labels or {}
        self.python = provision.python()
        self._gcs, self.port, self._agent, self._client, *self._metrics = free_ports(7)

    def start(self):
        """As any server. Ray itself gives up when a part of it is not there within half a minute, which on a busy machine it
        may not be: then it is started again."""
        for _ in range(STARTS_MAX - 1):
            try:
                return super().start()
            except RuntimeError as error:
                if GAVE_UP not in str(error):
                    raise
        return super().start()

    @property
    def address(self) -> str:
        """The base address of its REST interface."""
        return f"http://{HOST}:{self.port}"

    def request(self, method: str, path: str, body=None) -> tuple[int, str]:
        """One REST call with the token: the status and the text of the answer."""
        return http(method, self.address + path, body, self.token)

    def command(self) -> list[str]:
        options = {
            "node-ip-address": HOST,
            "port": self._gcs,
            "dashboard-host": HOST,
            "dashboard-port": self.port,
            "dashboard-agent-listen-port": self._agent,
            "ray-client-server-port": self._client,
            "metrics-export-port": self._metrics[0],
            "min-worker-port": 0,  # 0 to 0: each worker takes whatever port is free
            "max-worker-port": 0,
            "num-cpus": self.num_cpus,
            "num-gpus": self.num_gpus,
            "resources": json.dumps(self.resources),
            "labels": ",".join(f"{key}={value}" for key, value in self.labels.items()),
            "memory": MEMORY_BYTES,
            "object-store-memory": OBJECT_STORE_BYTES,
            "temp-dir": self.folder / "r",
            "include-log-monitor": "false",
        }
        ray = [str(self.python), "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        given = (f"--{key}={value}" for key, value in options.items() if value != "")
        return [*ray, "--disable-usage-stats", *given]

    def environment(self) -> dict[str, str]:
        return {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_USAGE_STATS_ENABLED": "0",
            # Without this Ray replaces 127.0.0.1 by an outer address and listens on all.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            # Otherwise fixed ports, which a second head would want too.
            "DASHBOARD_METRIC_PORT": str(self._metrics[1]),
            "AUTOSCALER_METRIC_PORT": str(self._metrics[2]),
            # Otherwise a stop waits up to half a minute for a drain.
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
            "RAY_TMPDIR": str(self.folder),
            # A job's `python` must be the one that has Ray.
            "PATH": f"{self.python.parent}:{os.environ.get('PATH', '')}",
        }

    def is_ready(self) -> bool:
        """Whether its REST interface lists jobs, and its own node is there to run them."""
        try:
            if any(self.request("GET", path)[0] != 200 for path in ("/api/version", "/api/jobs/")):
                return False
            return '"state": "ALIVE"' in self.request("GET", "/nodes?view=summary")[1]
        except OSError:
            return False
