"""A database as binaries of the first schema left it: migration 0001 alone, with the rows that are there now."""

import re
import sqlite3
from pathlib import Path

MIGRATIONS = Path(__file__).resolve().parents[3] / "migrations"


class SqliteFile:
    """A file of SQLite, asked as a server's database is."""

    dialect = "sqlite"

    def __init__(self, path: Path):
        self.path = path

    def query(self, sql: str, *values) -> list[dict]:
        """The rows of one statement, in a transaction of its own."""
        connection = sqlite3.connect(self.path)
        connection.row_factory = sqlite3.Row
        try:
            with connection:
                return [dict(row) for row in connection.execute(sql.replace("%s", "?"), values)]
        finally:
            connection.close()


def go_back(database) -> None:
    """Makes the schema anew by the first migration, and puts the rows back as far as that knows tables and columns."""
    dialect = getattr(database, "dialect", "mysql")
    text = (MIGRATIONS / dialect / "0001_ground.sql").read_text()
    text = "\n".join(line.split(" -- ")[0] for line in text.splitlines() if not line.startswith("--"))
    statements = [statement for statement in text.split(";") if statement.strip()]
    tables = re.findall(r"CREATE TABLE (\w+)", text)
    rows = {table: database.query(f"SELECT * FROM {table}") for table in [*tables, "_sqlx_migrations"]}
    later = [file.read_text() for file in (MIGRATIONS / dialect).glob("*.sql") if not file.name.startswith("0001")]
    for table in [*tables, *(table for sql in later for table in re.findall(r"CREATE TABLE (\w+)", sql))]:
        database.query(f"DROP TABLE {table}")
    for statement in statements:
        database.query(statement)
    database.query("DELETE FROM _sqlx_migrations WHERE version > 1")
    for table in tables:
        known = _columns(database, dialect, table)
        for row in rows[table]:
            values = {name: value for name, value in row.items() if name in known}
            if table == "jobs" and values["clock_kind"] == 4:
                # They kept no clock for a job on a cluster.
                values |= {"clock_kind": None, "clock_us": None}
            places = ", ".join(["%s"] * len(values))
            database.query(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({places})", *values.values())


def _columns(database, dialect: str, table: str) -> set[str]:
    if dialect == "sqlite":
        return {row["name"] for row in database.query(f"PRAGMA table_info({table})")}
    return {row["Field"] for row in database.query(f"SHOW COLUMNS FROM {table}")}
