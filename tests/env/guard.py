"""Runs one server and ends it, and all it started, when its parent is gone.

    python3 guard.py MARK COMMAND ARGS…

Standard input is a pipe whose other end only the parent holds: when the parent
dies, however it dies, the pipe closes and every process of this server is
killed. (A parent-death signal would not do: it is tied to the parent's thread,
and does not reach a server's own children.)

A process is the server's if it carries MARK in its environment, or is in the
session that this guard leads. Either alone misses some of Ray's: its workers
overwrite their environment with a title, its jobs start a session of their own.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

VARIABLE = "YARD_TEST_MARK"


def processes(mark: str, session: int) -> list[int]:
    """Every live process of one server but its guard, the session's leader."""
    wanted = f"{VARIABLE}={mark}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) in (session, os.getpid()):
            continue
        try:
            state, its_session = _state_and_session(folder)
            if state not in "ZX" and (its_session == session or wanted in _environment(folder)):
                found.append(int(folder.name))
        except OSError:
            continue  # it ended meanwhile, or it is another user's
    return found


def kill_processes(mark: str, session: int) -> None:
    """SIGKILL every process of one server but its guard, until none is left."""
    for _ in range(100):  # a dying server may still fork: look again
        pids = processes(mark, session)
        if not pids:
            return
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        select.select([], [], [], 0.02)


def _state_and_session(folder: Path) -> tuple[str, int]:
    """From /proc/PID/stat, whose second field may itself have blanks and brackets."""
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    return fields[0], int(fields[3])


def _environment(folder: Path) -> list[bytes]:
    return (folder / "environ").read_bytes().split(b"\0")


def main() -> int:
    mark, command = sys.argv[1], sys.argv[2:]
    _adopt_orphans()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    exited = os.pidfd_open(child.pid)
    ready, _, _ = select.select([sys.stdin, exited], [], [])
    if exited not in ready:
        kill_processes(mark, os.getpid())
    code = child.wait()
    kill_processes(mark, os.getpid())
    _reap()
    return code if code >= 0 else 128 - code


def _adopt_orphans() -> None:
    """Become the parent of the server's orphans, so that they can be reaped here."""
    pr_set_child_subreaper = 36
    ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


def _reap() -> None:
    """Collect dead children; a server may check by pid that its old self is gone."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    sys.exit(main())
