"""`yard check-config`, `yard migrate`, and what `yard serve` does with a database it does not know."""

import json
import subprocess

import pytest

from support.jobs import Job
from support.old_schema import SqliteFile, go_back
from support.yard import Yard

BAD = """\
[server]
listen = "everywhere"
lisen = "127.0.0.1:1"

[scheduler]
lease_ttl_ms = 1000
lease_margin_ms = 900

[database]
url = "mysql://yard:hunter2@127.0.0.1/yard"

[[team]]
id = "Ads!"

[[cluster]]
id = "east"
driver = "abacus"

[[cluster]]
id = "west"
driver = "process"

[colour]
red = true
"""


def test_check_config_reports_everything_at_once(binary, tmp_path):
    """One run, every mistake, each with its line; the password is not shown; exit code 2."""
    file = tmp_path / "yard.toml"
    file.write_text(BAD)
    done = subprocess.run(
        [str(binary), "check-config", "--config", str(file)],
        env={"YARD__LOG__LEVEL": "info"},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 2
    for place, word in [
        (2, "server.listen"),
        (3, "server.lisen"),
        (7, "lease_margin_ms"),
        (10, "password"),
        (13, "Ads!"),
        (17, "abacus"),
        (19, "dir"),
        (23, "colour"),
    ]:
        found = [line for line in done.stderr.splitlines() if f"yard.toml:{place}:" in line]
        assert found and any(word in line for line in found), f"line {place}, {word}:\n{done.stderr}"
    assert "YARD__LOG__LEVEL" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout
    assert "did you mean listen" in done.stderr


def test_check_config_gives_errors_as_json(binary, tmp_path):
    """The same errors, as one problem document on one line; exit code 2. `serve` and `migrate` do so too."""
    file = tmp_path / "yard.toml"
    file.write_text(BAD)
    said = []
    for command in ("check-config", "serve", "migrate"):
        done = subprocess.run(
            [str(binary), command, "--json", "--config", str(file)],
            env={"YARD__LOG__LEVEL": "info"},
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert (done.returncode, done.stdout) == (2, "")
        said.append(json.loads(done.stderr))
    problem = said[0]
    assert said == [problem] * 3
    assert (problem["code"], problem["exit_code"], problem["file"]) == ("invalid_configuration", 2, str(file))
    places = {(error.get("line"), error["field"]) for error in problem["errors"]}
    assert places >= {(2, "server.listen"), (3, "server.lisen"), (23, "colour")}, places
    assert [error["variable"] for error in problem["errors"] if "variable" in error] == ["YARD__LOG__LEVEL"]
    assert problem["detail"].startswith(f"{len(problem['errors'])} problems in ")
    assert "hunter2" not in json.dumps(problem)


def test_check_config_of_a_good_file(yard):
    """Exit 0, a summary, and nothing secret in it."""
    yard.configure()
    done = yard.run("check-config", "--config", str(yard.config_file))
    assert "valid" in done.stdout
    done = yard.run("check-config", "--json", "--config", str(yard.config_file))
    assert json.loads(done.stdout) == {"file": str(yard.config_file), "valid": True}
    assert yard.database.server.password not in done.stdout + done.stderr


def test_serve_refuses_a_wrong_configuration(yard):
    """The same messages as check-config, exit 2, and nothing is started."""
    yard.configure(scheduler={"lease_margin_ms": 1_000_000})
    done = yard.run("serve", "--config", str(yard.config_file), check=False, timeout_s=20)
    assert done.returncode == 2 and "lease_margin_ms" in done.stderr


def test_serve_refuses_an_empty_database_and_says_what_to_do(yard):
    """A production database is only changed by `yard migrate`, on purpose."""
    yard.configure()
    done = yard.run("serve", "--config", str(yard.config_file), check=False, timeout_s=30)
    assert done.returncode == 2
    assert "yard migrate" in done.stderr and "panicked" not in done.stderr
    assert yard.database.query("SHOW TABLES") == []


def test_migrate_is_idempotent_and_concurrent(yard):
    """Four at once on an empty database: all succeed, and the schema is there once."""
    yard.configure()
    command = [str(yard.binary), "migrate", "--config", str(yard.config_file)]
    runs = [
        subprocess.Popen(command, env=yard.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for run in runs:
        out, err = run.communicate(timeout=60)
        assert run.returncode == 0, f"{out}\n{err}"
    yard.migrate()
    assert yard.database.value("SELECT COUNT(*) FROM jobs") == 0


def test_serve_and_migrate_refuse_a_newer_schema(yard):
    """A binary that does not know the schema touches nothing and names both versions."""
    yard.configure()
    yard.migrate()
    yard.database.query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) "
        "VALUES (9999, 'from the future', TRUE, 'x', 0)"
    )
    done = yard.run("serve", "--config", str(yard.config_file), check=False, timeout_s=30)
    assert done.returncode == 2 and "9999" in done.stderr, done.stderr
    again = yard.run("migrate", "--config", str(yard.config_file), check=False)
    assert again.returncode != 0 and "9999" in again.stderr, again.stderr


def test_serve_without_a_database_server_says_so(yard):
    """Nothing listens there: one clear message, no secret in it, exit 2."""
    yard.configure()
    elsewhere = {"YARD__DATABASE__URL": "mysql://yard:hunter2@127.0.0.1:9/yard"}
    done = yard.run(
        "serve", "--config", str(yard.config_file), check=False, timeout_s=60, environment=elsewhere
    )
    assert done.returncode == 2 and "database" in done.stderr
    assert "hunter2" not in done.stderr + done.stdout


@pytest.fixture
def embedded(binary, folder):
    """An installation on SQLite without a queue."""
    yard = Yard(binary, folder, None, None)
    yield yard
    yard.stop()


def test_sqlite_runs_on_one_machine(embedded):
    """The same product on one file, through a crash of its process."""
    yard = embedded
    yard.configure(database={"url": "sqlite:yard.db"})
    yard.migrate()
    [process] = yard.start(1)
    jobs = [Job("ads", f"job-{i}", 0.5) for i in range(10)]
    ids = [yard.api.submitted(job.document(yard.log.path)) for job in jobs]
    process.kill()
    process.start()
    yard.wait_ready()
    for job in ids:
        assert yard.api.wait_end(job)["state"] == "succeeded"
    assert len(yard.log.runs()) == len(jobs)
    assert yard.api.get("/v1/audit")["exact"] is True


def _upgrade(yard, database) -> None:
    """What ran goes on, what waited starts, and the catalog of the configuration becomes version 1."""
    [process] = yard.start(1)
    running = yard.api.submitted(Job("ads", "running", 8, resources={"cpu": 6}).document(yard.log.path))
    yard.api.wait_state(running, "running")
    waiting = [Job("ads", f"waiting-{i}", 0.2, resources={"cpu": 4}) for i in range(3)]
    waiting = [yard.api.submitted(job.document(yard.log.path)) for job in waiting]
    process.terminate()
    go_back(database)
    if yard.database:
        refused = yard.run("serve", "--config", str(yard.config_file), check=False, timeout_s=30)
        assert refused.returncode == 2 and "run `yard migrate`" in refused.stderr, refused.stderr
        yard.migrate()
    # (A file of its own is brought up to date by `yard serve` itself.)
    process.start()
    yard.wait_ready()
    exported = yard.run("export", "--server", process.url).stdout
    assert 'id = "ads"' in exported and 'id = "local"' in exported
    assert yard.run("export", "--version", "1", "--server", process.url).stdout == exported
    for job in [running, *waiting]:
        assert yard.api.wait_end(job, 40)["state"] == "succeeded"
    assert yard.api.job(running)["attempt"] == 1, "what ran was not started again"
    assert len(yard.log.runs()) == 4
    assert yard.api.get("/v1/audit")["exact"] is True


def test_an_installation_of_the_first_schema_goes_on(yard):
    """On a server: an upgrade from before catalogs had versions."""
    yard.configure()
    _upgrade(yard, yard.database)


def test_an_installation_of_the_first_schema_goes_on_with_sqlite(embedded):
    """The same on a file."""
    embedded.configure(database={"url": "sqlite:yard.db"})
    embedded.migrate()
    _upgrade(embedded, SqliteFile(embedded.folder / "yard.db"))
