"""What all test servers share: ports, child processes, waiting with a deadline."""

import atexit
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from . import guard

HOST = "127.0.0.1"
FOLDERS = Path("/var/tmp")
_running: "list[Server]" = []


class Server:
    """A server of our own: its folder, its log, its process tree.

    Without a folder it makes one below /var/tmp: on disk, where /tmp may be in
    memory, and with a path short enough for a Unix socket in it.

    A subclass gives `command()` and `is_ready()`, and sets what does not change
    over a restart (ports, data) in its constructor.
    """

    start_timeout_s = 60.0
    stop_timeout_s = 20.0

    def __init__(self, name: str, folder: Path | None = None):
        self.name = name
        self._owns_folder = folder is None
        self.folder = Path(folder or _new_folder()).absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / f"{name}.log"
        self._mark = secrets.token_hex(8)
        self._process: subprocess.Popen | None = None

    def command(self) -> list[str]:
        """The program and its arguments."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """What to add to this process's own environment."""
        return {}

    def is_ready(self) -> bool:
        """Whether the server answers as a client needs it to."""
        raise NotImplementedError

    def start(self):
        """Start and wait until ready; returns self, so it can be chained."""
        assert not self.alive(), f"{self.name} is already running"
        env = {**_own_environment(), **self.environment(), guard.VARIABLE: self._mark}
        guarded = [sys.executable, guard.__file__, self._mark, *self.command()]
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                guarded, env=env, cwd=self.folder, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )
        _running.append(self)
        try:
            self._wait_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """Ask it to end, wait, and make sure that nothing of it is left."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(self.stop_timeout_s)
            except subprocess.TimeoutExpired:
                pass
        self.kill()

    def kill(self) -> None:
        """SIGKILL the server and all its children at once, as a crash would."""
        if self._process is None:
            return
        guard.kill_processes(self._mark, self._process.pid)
        try:
            self._process.wait(5)  # the guard ends by itself, once it has reaped them
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdin.close()
        self._process = None
        _running.remove(self)

    def restart(self):
        """Stop and start with the same ports and data."""
        self.stop()
        return self.start()

    def alive(self) -> bool:
        """Whether the process is there (not whether it answers)."""
        return self._process is not None and self._process.poll() is None

    def pids(self) -> list[int]:
        """Every process of this server."""
        return guard.processes(self._mark, self._process.pid) if self._process else []

    def remove(self) -> None:
        """Stop, and delete the folder if it was made here."""
        self.stop()
        if self._owns_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.remove()

    def _wait_ready(self) -> None:
        def ready() -> bool:
            if not self.alive():
                raise RuntimeError(f"{self.name} ended at its start: {self.log_tail()}")
            return self.is_ready()

        if not wait_until(ready, self.start_timeout_s):
            raise TimeoutError(f"{self.name} not ready in {self.start_timeout_s:.0f} s: {self.log_tail()}")

    def log_tail(self, lines: int = 5) -> str:
        """The end of its log, on one line, for error messages."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return " | ".join(text.strip().splitlines()[-lines:])


def _own_environment() -> dict[str, str]:
    """This process's environment without what would configure a server behind our back."""
    foreign = ("RAY_", "MINISTACK_", "MYSQL_", "MARIADB_")
    return {key: value for key, value in os.environ.items() if not key.startswith(foreign)}


def _new_folder() -> str:
    """A folder for one server, named after this process.

    First removes those whose process is gone: one that was killed could not.
    """
    for old in FOLDERS.glob("yt-*-*"):
        owner = old.name.split("-")[1]
        if owner.isdigit() and not Path("/proc", owner).exists():
            shutil.rmtree(old, ignore_errors=True)
    return tempfile.mkdtemp(prefix=f"yt-{os.getpid()}-", dir=FOLDERS)


def free_ports(count: int) -> list[int]:
    """Ports that were free on loopback just now, all different.

    They are taken below the range the kernel hands out by itself, so that an
    outgoing connection can't take one between this call and the server's start.
    """
    ports: list[int] = []
    while len(ports) < count:
        port = 12_000 + secrets.randbelow(18_000)
        if port not in ports and _is_free(port):
            ports.append(port)
    return ports


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def wait_until(condition, timeout_s: float, pause_s: float = 0.05) -> bool:
    """Poll until the condition holds; False when the time is over."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(pause_s)
    return False


def http(method: str, url: str, body=None, token: str | None = None, timeout_s: float = 30) -> tuple[int, str]:
    """One request with a JSON body; the status and text, also of an error answer.

    Raises OSError when nothing answers.
    """
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never a proxy for loopback
    try:
        with opener.open(request, timeout=timeout_s) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


def end_on_signals() -> None:
    """Turn SIGTERM and SIGHUP into SystemExit, so that `atexit` and `finally` run."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda signum, _: sys.exit(128 + signum))


@atexit.register
def remove_all() -> None:
    """Stop every server that this process started and that still runs."""
    for server in reversed(_running[:]):
        server.remove()
