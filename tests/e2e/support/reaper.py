"""Leaves nothing running: ends every process that belongs to a folder.

The processes of a job are not ours (they outlive `yard` on purpose), but all of them have the test's
folder in their command line or as their working directory. Run as a program, it waits until its
standard input ends, as it does when the test process is gone, however it went.
"""

import os
import signal
import sys
import time
from pathlib import Path


def belonging_to(folder: Path) -> list[int]:
    """The ids of all processes of this folder, but for our own and reapers."""
    mark = str(folder).encode()
    return [pid for pid in _pids() if pid != os.getpid() and _belongs(pid, mark)]


def reap(folder: Path) -> int:
    """Kills them, again and again until there are none; how many there were."""
    killed: set[int] = set()
    deadline = time.monotonic() + 10
    while (pids := belonging_to(folder)) and time.monotonic() < deadline:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
            except ProcessLookupError:
                pass
        time.sleep(0.02)
    return len(killed)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _belongs(pid: int, mark: bytes) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if not command or __file__.encode() in command:  # a zombie, or a reaper
            return False
        return mark in command or os.readlink(f"/proc/{pid}/cwd").encode().startswith(mark)
    except OSError:
        return False


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdin.buffer.read()
    reap(Path(sys.argv[1]))
