"""Where provisioned programs live, and how one is built there exactly once.

Everything is below `${YARD_TEST_CACHE:-$HOME/.cache/yard-tests}`. A thing that
is there is complete: `build_once` builds beside its final name and renames, and
one lock per name keeps two runs from building the same thing.
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
from pathlib import Path


_held: list[int] = []


class Unavailable(Exception):
    """Something optional could not be had; the message fits on one line."""


def root() -> Path:
    """The cache folder, made if it is missing."""
    given = os.environ.get("YARD_TEST_CACHE")
    path = Path(given) if given else Path.home() / ".cache" / "yard-tests"
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


@contextlib.contextmanager
def lock(name: str):
    """Hold the named lock: only one process provisions a thing at a time.

    Whoever gets `held_locks()` holds it too: a builder that outlives us keeps
    the next run waiting, not building in the same place.
    """
    with open(root() / f"{name}.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        _held.append(handle.fileno())
        try:
            yield
        finally:
            _held.remove(handle.fileno())


def held_locks() -> tuple[int, ...]:
    """The file descriptors of our locks, for the `pass_fds` of a child process."""
    return tuple(_held)


def build_once(name: str, build) -> Path:
    """The folder `name` of the cache; `build(folder)` makes it if it is missing.

    The builder gets an empty folder of another name, renamed when it returns, so
    an interrupted build is never taken for a finished one.
    """
    final = root() / name
    with lock(name):
        if final.exists():
            return final
        partial = root() / f"{name}.partial"
        remove_tree(partial)
        partial.mkdir()
        build(partial)
        partial.rename(final)
    return final


def remove_tree(path: Path) -> None:
    """Remove a folder, first unmounting what a cut-off build left mounted in it."""
    for point in _mounts_below(path):
        subprocess.run(["umount", point], check=False)
    if left := _mounts_below(path):
        raise Unavailable(f"will not remove {path}: still mounted inside: {left[0]}")
    if path.exists():
        shutil.rmtree(path)


def _mounts_below(path: Path) -> list[str]:
    """Mount points below `path`, the innermost first."""
    prefix = f"{path}/"
    lines = Path("/proc/self/mounts").read_text().splitlines()
    points = [line.split()[1] for line in lines]
    return sorted((p for p in points if p.startswith(prefix)), key=len, reverse=True)
