"""Get the programs that the tests start: MariaDB, MySQL, and a Python venv.

Each function returns where the program is, getting it first if it is missing,
and raises `Unavailable` with a one-line reason if it can't be had. All may be
called again, by several processes, and after an interrupted run.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from . import cache, debian
from .cache import Unavailable

REQUIREMENTS = Path(__file__).resolve().parents[1] / "requirements.txt"
PYTHON_VERSIONS = ("3.11", "3.12", "3.13", "3.10")  # what the pinned Ray has wheels for


@dataclass(frozen=True)
class Database:
    """How to start one kind of database server."""

    server: tuple[str, ...]  # the command, before its options
    install: tuple[str, ...]  # makes a data folder; takes --datadir and --user


def mariadb() -> Database:
    """MariaDB's server from Debian's packages.

    Only the `-core` packages: they carry the programs and no system service, so
    installing them starts nothing.
    """
    path = os.environ.get("PATH", "") + ":/usr/sbin"
    if not shutil.which("mariadbd", path=path):
        debian.install("mariadb-server-core", "mariadb-client-core")
    server, install = shutil.which("mariadbd", path=path), shutil.which("mariadb-install-db", path=path)
    if not server or not install:
        raise Unavailable("mariadbd is not there after installing its package")
    options = ("--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db")
    return Database(server=(server, "--no-defaults"), install=(install, *options))


def mysql() -> Database:
    """A real MySQL 9 from Debian unstable, in a folder of its own in the cache.

    It is started by that folder's own dynamic loader and libraries, not in a
    chroot: so it needs no root to run and its data may be anywhere.
    """
    system = cache.build_once("mysql-sid", lambda d: debian.debootstrap(d, "sid", ["mysql-server-core"]))
    loader = next(iter(sorted(system.glob("lib64/ld-linux-*.so.*")) + sorted(system.glob("lib/ld-linux-*.so.*"))), None)
    if loader is None:
        raise Unavailable("the Debian folder with MySQL has no dynamic loader")
    libraries = [*system.glob("usr/lib/*-linux-gnu"), system / "usr/lib", *system.glob("usr/lib/mysql/private")]
    share = system / "usr/share/mysql"
    command = (
        str(loader), "--library-path", ":".join(map(str, libraries)), str(system / "usr/sbin/mysqld"),
        "--no-defaults", f"--basedir={system / 'usr'}", f"--lc-messages-dir={share}",
        f"--character-sets-dir={share / 'charsets'}", "--secure-file-priv=NULL",
    )  # fmt: skip
    return Database(server=command, install=(*command, "--initialize-insecure"))


def python() -> Path:
    """The interpreter of a venv with everything in tests/requirements.txt."""
    return venv(REQUIREMENTS)


def venv(requirements: Path) -> Path:
    """The interpreter of a venv with everything in this file.

    The venv's name has the hash of the requirements in it. A venv can't be
    renamed, so it is built in place and a marker says that it is complete.
    """
    version, base = _base_python()
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    folder = cache.root() / f"venv-{version}-{digest}"
    with cache.lock("venv"):
        if not (folder / "complete").exists():
            cache.remove_tree(folder)
            _build_venv(base, folder, requirements)
            (folder / "complete").touch()
    return folder / "bin" / "python"


def _build_venv(base: str, folder: Path, requirements: Path) -> None:
    log = cache.root() / "provision.log"
    commands = [
        [base, "-m", "venv", str(folder)],
        [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "-r", str(requirements)],
    ]
    for command in commands:
        with open(log, "a") as out:
            locks = cache.held_locks()
            if subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, pass_fds=locks).returncode:
                raise Unavailable(f"the Python packages could not be installed (see {log})")


def _base_python() -> tuple[str, str]:
    """The version and path of an interpreter that Ray supports: this one if it fits."""
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    if own in PYTHON_VERSIONS:
        # Not a venv's python, which may go away: the one that it was made from.
        return own, getattr(sys, "_base_executable", None) or sys.executable
    for version in PYTHON_VERSIONS:
        if found := shutil.which(f"python{version}"):
            return version, found
    raise Unavailable(f"Ray needs Python {', '.join(sorted(PYTHON_VERSIONS))}; none is on this machine")
