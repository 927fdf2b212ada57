"""MariaDB and MySQL with their durability defaults, each on a data folder of its own."""

import os
import secrets
import socket
import subprocess
from pathlib import Path

from . import provision
from .process import HOST, Server, free_ports

DATABASE = "yard"
USER = "yard"

# Run by the server at every start, so there is no need for a client to set it up.
SETUP = """\
CREATE USER IF NOT EXISTS 'root'@'127.0.0.1' IDENTIFIED BY '';
GRANT ALL ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;
CREATE USER IF NOT EXISTS '{user}'@'127.0.0.1';
ALTER USER '{user}'@'127.0.0.1' IDENTIFIED BY '{password}';
GRANT ALL ON *.* TO '{user}'@'127.0.0.1';
CREATE DATABASE IF NOT EXISTS {database};
"""


class _Database(Server):
    """One database server. Its port, password and data outlive `restart`.

    `root` has no password; `yard` has one and may create databases. Both only
    from 127.0.0.1. The data is not synchronised less than by default:
    innodb_flush_log_at_trx_commit is 1.
    """

    kind = ""

    def __init__(self, program: provision.Database, folder: Path | None):
        super().__init__(self.kind, folder)
        self.program = program
        self.port = free_ports(1)[0]
        self.password = secrets.token_hex(8)
        self.datadir = self.folder / "data"

    @property
    def url(self) -> str:
        """The address of the database `yard`, in the form that sqlx takes."""
        return f"mysql://{USER}:{self.password}@{HOST}:{self.port}/{DATABASE}"

    def start(self):
        if not self.datadir.exists():
            self._make_data()
        setup = SETUP.format(user=USER, password=self.password, database=DATABASE)
        (self.folder / "setup.sql").write_text(setup)
        return super().start()

    def command(self) -> list[str]:
        return [
            *self.program.server,
            f"--datadir={self.datadir}",
            f"--port={self.port}",
            f"--bind-address={HOST}",
            f"--socket={self.folder / 's'}",
            f"--pid-file={self.folder / 'pid'}",
            f"--init-file={self.folder / 'setup.sql'}",
            f"--tmpdir={self.folder}",
            "--skip-name-resolve",
            "--innodb-flush-log-at-trx-commit=1",
            "--innodb-buffer-pool-size=256M",
            "--max-connections=300",
            *_user_option(),
        ]

    def is_ready(self) -> bool:
        """Whether the server greets a client; it does so only after its set-up file."""
        try:
            with socket.create_connection((HOST, self.port), timeout=5) as client:
                greeting = client.recv(5)
        except OSError:
            return False
        return len(greeting) == 5 and greeting[4] == 10  # the protocol's version; 255 is an error

    def _make_data(self) -> None:
        """Fill a new data folder under another name, renamed when it is complete."""
        partial = self.folder / "data.partial"
        subprocess.run(["rm", "-rf", str(partial)], check=True)
        command = [*self.program.install, f"--datadir={partial}", *_user_option()]
        with open(self.log, "ab") as log:
            result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if result.returncode:
            raise RuntimeError(f"{self.name}: no data folder could be made: {self.log_tail()}")
        partial.rename(self.datadir)


class MariaDb(_Database):
    """MariaDB 10.11; writes no binary log, as is its default."""

    kind = "mariadb"

    def __init__(self, folder: Path | None = None):
        super().__init__(provision.mariadb(), folder)


class MySql(_Database):
    """MySQL 9; writes a binary log with sync_binlog = 1, as is its default."""

    kind = "mysql"

    def __init__(self, folder: Path | None = None):
        super().__init__(provision.mysql(), folder)

    def command(self) -> list[str]:
        return [*super().command(), "--mysqlx=OFF"]


def _user_option() -> list[str]:
    """Both servers refuse to run as root unless told to."""
    return ["--user=root"] if os.geteuid() == 0 else []
