"""A database of a test's own, on one of the shared servers, and a look into it past Switchyard."""

import secrets
from contextlib import contextmanager

import pymysql
from pymysql.cursors import DictCursor


class Database:
    """Made by `create`, gone after `drop`. The server may be restarted in between."""

    def __init__(self, server):
        self.server = server
        self.name = f"yard_{secrets.token_hex(4)}"

    @property
    def url(self) -> str:
        """In the form that Switchyard's configuration takes."""
        return f"{self.server.url.rsplit('/', 1)[0]}/{self.name}"

    def create(self):
        """Makes the empty database; returns self."""
        self._administer(f"CREATE DATABASE {self.name} CHARACTER SET utf8mb4")
        return self

    def drop(self) -> None:
        """Deletes it with everything in it."""
        self._administer(f"DROP DATABASE IF EXISTS {self.name}")

    def query(self, sql: str, *values) -> list[dict]:
        """The rows of one statement, in a transaction of its own."""
        with self.connection() as connection, connection.cursor() as cursor:
            cursor.execute(sql, values)
            return list(cursor.fetchall())

    def value(self, sql: str, *values):
        """The one value of one row."""
        [row] = self.query(sql, *values)
        [value] = row.values()
        return value

    @contextmanager
    def connection(self):
        """A connection that commits every statement by itself."""
        connection = self._connect(self.name)
        try:
            yield connection
        finally:
            connection.close()

    def dispatchers(self) -> dict[str, str]:
        """Who holds each cluster's dispatch lease now, by cluster."""
        return self._holders("dispatch")

    def holders(self) -> set[str]:
        """Every process that holds a lease of any kind now."""
        return {row["holder"] for row in self.live_leases()}

    def live_leases(self) -> list[dict]:
        """The leases that are valid by the database's clock."""
        now = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"
        return self.query(f"SELECT scope, holder, token FROM leases WHERE expires_us > {now}")

    def _holders(self, kind: str) -> dict[str, str]:
        found = (row["scope"].split(":", 1) + [row["holder"]] for row in self.live_leases())
        return {name: holder for role, name, holder in found if role == kind}

    def _administer(self, sql: str) -> None:
        connection = self._connect(None)
        try:
            connection.cursor().execute(sql)
        finally:
            connection.close()

    def _connect(self, name: str | None):
        server = self.server
        return pymysql.connect(
            host="127.0.0.1",
            port=server.port,
            user="yard",
            password=server.password,
            database=name,
            autocommit=True,
            charset="utf8mb4",
            cursorclass=DictCursor,
            connect_timeout=10,
            read_timeout=60,
        )
