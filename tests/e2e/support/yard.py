"""An installation of Switchyard under test: its configuration and its `yard serve` processes."""

import os
import signal
import subprocess
import time
from pathlib import Path

from env.process import free_ports

from . import config as configs
from .api import OPERATOR_TOKEN, Api
from .database import Database
from .evidence import ClusterLog
from .queues import Queues
from .wait import until

READY_TIMEOUT_S = 30.0


class Process:
    """One `yard serve`, which may be killed and started again, always on the same port."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], folder: Path):
        self.name = name
        self.port = free_ports(1)[0]
        self.log = folder / f"{name}.log"
        self.starts = 0
        self._command = command
        self._environment = {**environment, "YARD__SERVER__LISTEN": f"127.0.0.1:{self.port}"}
        self._folder = folder
        self._child: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        """Where it serves the API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process id; only while it runs."""
        assert self._child is not None, f"{self.name} does not run"
        return self._child.pid

    def start(self) -> "Process":
        """Starts it; does not wait until it answers."""
        assert not self.alive(), f"{self.name} already runs"
        with open(self.log, "ab") as log:
            self._child = subprocess.Popen(
                self._command,
                env=self._environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.starts += 1
        return self

    def alive(self) -> bool:
        """Whether the process is there."""
        return self._child is not None and self._child.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Sends it any signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        if self.alive():
            self.signal(signal.SIGKILL)
            self._child.wait()

    def freeze(self) -> None:
        """SIGSTOP: the process stands still, its connections stay open. Returns when it does."""
        self.signal(signal.SIGSTOP)
        until("the process is stopped", lambda: self._state() == "T", 5)

    def thaw(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def terminate(self, timeout_s: float = 20.0) -> int:
        """SIGTERM, and its exit code once it has ended."""
        self.signal(signal.SIGTERM)
        return self._child.wait(timeout_s)

    def wait(self, timeout_s: float = 20.0) -> int:
        """Its exit code, once it has ended by itself."""
        return self._child.wait(timeout_s)

    def log_text(self) -> str:
        """Everything it has logged, over all its starts."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def stands_still(self) -> bool:
        """Whether it is stopped (and not thawed since)."""
        return self.alive() and self._state() == "T"

    def _state(self) -> str:
        return Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


class Yard:
    """Everything of one installation: folder, database, queues, configuration, processes."""

    def __init__(self, binary: Path, folder: Path, database: Database | None, queues: Queues | None, ray: list = ()):
        self.binary, self.folder, self.database, self.queues = binary, folder, database, queues
        self.ray = list(ray)
        self.config_file = folder / "yard.toml"
        self.config: dict = {}
        self.processes: list[Process] = []
        self.log = ClusterLog(folder / "cluster.log")
        self.api = Api(self._urls)
        self.environment = self._environment()

    def _urls(self) -> list[str]:
        """Where the API may be asked; processes that stand still come last, since they would answer late or never."""
        return [process.url for process in sorted(self.processes, key=Process.stands_still)]

    def configure(self, *, teams=None, clusters=None, **sections) -> "Yard":
        """Writes the configuration. By default: one team without a quota, one process cluster, our queue."""
        queues = [self.queues.section(**sections.pop("queue", {}))] if self.queues else []
        self.config = configs.base(
            teams=teams if teams is not None else [{"id": "ads"}],
            clusters=clusters if clusters is not None else [self.process_cluster("local")],
            queues=queues,
            **sections,
        )
        self.config_file.write_text(configs.toml(self.config))
        return self

    def process_cluster(self, name: str, **keys) -> dict:
        """The configuration of a process cluster in this test's folder."""
        return configs.process_cluster(name, self.folder / "clusters", **keys)

    def ray_cluster(self, index: int, **keys) -> dict:
        """The configuration of one of the Ray heads that this test has; they are called `ray-a`, `ray-b`."""
        head = self.ray[index]
        keys = {"address": head.address, **keys}
        return configs.ray_cluster(f"ray-{head.cluster}", token_env=_token_variable(head), **keys)

    def start(self, count: int = 1, *, ready: bool = True, arguments: list[str] = ()) -> list[Process]:
        """Starts `count` more processes, the first one of all after `yard migrate`."""
        if not self.processes and self.database:
            self.migrate()
        command = [str(self.binary), "serve", "--config", str(self.config_file), *arguments]
        first = len(self.processes)
        new = [Process(f"yard-{first + i}", command, self.environment, self.folder) for i in range(count)]
        self.processes += new
        for process in new:
            process.start()
        if ready:
            self.wait_ready(new)
        return new

    def migrate(self) -> None:
        """`yard migrate`."""
        self.run("migrate", "--config", str(self.config_file))

    def wait_ready(self, processes: list[Process] | None = None) -> None:
        """Until each of these (or all) answers /readyz with 200; fails at once if one has ended."""
        for process in processes or self.processes:

            def ready(process=process):
                if not process.alive():
                    raise RuntimeError(f"{process.name} ended at its start:\n{tail(process.log_text())}")
                return self.api.request("GET", "/readyz", at=process.url).status_code == 200

            until(f"{process.name} is ready", ready, READY_TIMEOUT_S)

    def gate(self) -> Path:
        """For jobs that are to run until the test has seen what it wants: they end once the file is made (`touch`)."""
        return self.folder / "gate"

    def wait_clusters(self) -> None:
        """Until each cluster is ready and its capacity known: before, jobs go wherever one of them is."""

        def ready() -> bool:
            return all(one["health"] == "ready" and one.get("capacity") for one in self.api.get("/v1/clusters")["clusters"])

        until("every cluster is ready", ready, READY_TIMEOUT_S)

    def run(self, *arguments: str, check: bool = True, timeout_s: float = 60, **kwargs) -> subprocess.CompletedProcess:
        """Runs one command of `yard` in the test's folder; with `check` it must exit with 0."""
        command = [str(self.binary), *arguments]
        environment = {**self.environment, **kwargs.pop("environment", {})}
        done = subprocess.run(
            command, env=environment, cwd=self.folder, capture_output=True, text=True, timeout=timeout_s, **kwargs
        )
        if check and done.returncode:
            raise AssertionError(f"yard {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def process_holding(self, cluster: str) -> Process:
        """The process that has this cluster's dispatch lease, found by its name in the lease."""
        holder = until(f"somebody dispatches {cluster}", lambda: self.database.dispatchers().get(cluster))
        return self.process_called(holder)

    def process_called(self, holder: str) -> Process:
        """The process whose lease holder name this is: it says so when it starts (others' logs may name it, too)."""
        for process in self.processes:
            if f'starting holder="{holder}"' in process.log_text():
                return process
        raise AssertionError(f"no process's log has {holder}")

    def stop(self) -> None:
        """Ends every process, whatever its state."""
        for process in self.processes:
            process.kill()

    def _environment(self) -> dict[str, str]:
        inherited = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("YARD_", "AWS_", "RAY_")) and "proxy" not in key.lower()
        }
        # The server knows the operator by the first, commands send the second.
        tokens = {"YARD_TEST_OPERATOR": OPERATOR_TOKEN, "YARD_TOKEN": OPERATOR_TOKEN}
        environment = {**inherited, **tokens, "RUST_BACKTRACE": "1"}
        if self.database:
            environment["YARD__DATABASE__URL"] = self.database.url
        if self.queues:
            environment |= self.queues.server.credentials
        return environment | {_token_variable(head): head.token for head in self.ray}


def _token_variable(head) -> str:
    return f"TOKEN_{head.cluster.upper()}"


def tail(text: str, lines: int = 40) -> str:
    """The last lines of a log."""
    return "\n".join(text.splitlines()[-lines:])


def now_s() -> float:
    """A monotonic clock for measuring."""
    return time.monotonic()
