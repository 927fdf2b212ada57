"""Debian's packages: install some on this machine, or a whole system in a folder."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from .cache import Unavailable, held_locks, lock, root

QUIET = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}


def install(*packages: str) -> None:
    """`apt-get install` without questions, recommendations or service starts."""
    with lock("apt"):
        if _apt_install(packages).returncode:
            run_as_root(["apt-get", "update", "-qq"], "apt-get update")
            result = _apt_install(packages)
            if result.returncode:
                raise Unavailable(f"apt-get install {' '.join(packages)} failed: {last_line(result)}")


def debootstrap(folder: Path, suite: str, packages: list[str]) -> None:
    """A minimal Debian `suite` in `folder`, with `packages` installed in it.

    The mirror is the one that this machine itself uses.
    """
    if not shutil.which("debootstrap", path=_path_with_sbin()):
        install("debootstrap")
    run_as_root(["debootstrap", "--variant=minbase", suite, str(folder), mirror()], f"debootstrap {suite}")
    inside = ["chroot", str(folder), "apt-get", "install", "-y", "-qq", "--no-install-recommends"]
    run_as_root([*inside, *packages], f"apt-get install {' '.join(packages)} in {suite}")
    run_as_root(["chroot", str(folder), "apt-get", "clean"], "apt-get clean")


def mirror() -> str:
    """The address of the Debian archive in this machine's own apt sources."""
    for text in _source_files():
        for address in re.findall(r"^(?:URIs:|deb\s+(?:\[[^]]*\]\s+)?)\s*(\S+)", text, re.MULTILINE):
            if address.rstrip("/").endswith("/debian"):
                return address
    raise Unavailable("no Debian archive in this machine's apt sources")


def run_as_root(command: list[str], what: str) -> None:
    """Run a command as root; on failure raise `Unavailable` with its last line."""
    result = _capture(as_root(command))
    if result.returncode:
        raise Unavailable(f"{what} failed: {last_line(result)}")


def as_root(command: list[str]) -> list[str]:
    """The command as it must be started to run as root, or `Unavailable`."""
    if os.geteuid() == 0:
        return command
    if shutil.which("sudo") and _capture(["sudo", "-n", "true"]).returncode == 0:
        return ["sudo", "-n", *command]
    raise Unavailable(f"{command[0]} needs root or passwordless sudo")


def last_line(result: subprocess.CompletedProcess) -> str:
    """The last line a failed command wrote, for a one-line message."""
    lines = (result.stdout or "").strip().splitlines()
    return lines[-1] if lines else f"exit code {result.returncode}"


def _apt_install(packages: tuple[str, ...]) -> subprocess.CompletedProcess:
    return _capture(as_root(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]))


def _capture(command: list[str]) -> subprocess.CompletedProcess:
    """Run to the end; output also goes to `provision.log` in the cache."""
    if not shutil.which(command[0], path=_path_with_sbin()):
        raise Unavailable(f"{command[0]} is not on this machine")
    env = {**os.environ, **QUIET, "PATH": _path_with_sbin()}
    result = subprocess.run(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        pass_fds=held_locks(),
    )
    with open(root() / "provision.log", "a") as log:
        log.write(f"$ {' '.join(command)}\n{result.stdout}\n")
    return result


def _source_files() -> list[str]:
    apt = Path("/etc/apt")
    files = [apt / "sources.list", *sorted(apt.glob("sources.list.d/*.list")), *sorted(apt.glob("sources.list.d/*.sources"))]
    return [f.read_text() for f in files if f.is_file()]


def _path_with_sbin() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
