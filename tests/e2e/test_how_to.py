"""The examples in docs/how-to, run as they stand there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from env import provision
from env.cache import Unavailable

from support.queues import Queues

ROOT = Path(__file__).resolve().parents[2]
HOW_TO = ROOT / "docs" / "how-to"
CLIENT = ROOT / "clients" / "python" / "src"
MINUTE_S = 60


def examples(name: str) -> list[str]:
    """The Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", (HOW_TO / f"{name}.md").read_text(), re.DOTALL)


def interpreter(name: str) -> str:
    """A venv with what the page needs; without it the test is left out, or fails if nothing may be."""
    try:
        return str(provision.venv(ROOT / "tests" / "how-to" / f"{name}.txt"))
    except Unavailable as reason:
        if os.environ.get("YARD_TEST_REQUIRE"):
            raise
        pytest.skip(f"left out: {reason}")


def run(yard, process, command: list[str], **environment: str) -> str:
    """Runs a program of a user of ours in the test's folder; its output."""
    access = {"YARD_SERVER": process.url, "YARD_TOKEN": getattr(yard.api, "token", None) or "none"}
    env = {**os.environ, "PYTHONPATH": str(CLIENT), **access, **environment}
    done = subprocess.run(command, cwd=yard.folder, env=env, capture_output=True, text=True, timeout=5 * MINUTE_S)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout + done.stderr


def script(yard, code: str) -> str:
    """A file with this code."""
    path = yard.folder / "example.py"
    path.write_text(code)
    return str(path)


def test_boto3(yard):
    yard.configure()
    [process] = yard.start(1)
    send, ask = examples("boto3")
    queues: Queues = yard.queues
    environment = {"DAY": "2026-11-25", "QUEUE_URL": queues.url, **queues.environment}
    assert run(yard, process, [sys.executable, script(yard, ask)], DAY="2026-11-24").strip() == "not seen yet"
    run(yard, process, [sys.executable, script(yard, send)], **environment)
    yard.api.wait_receipt("ads", "nightly-2026-11-25")
    assert run(yard, process, [sys.executable, script(yard, ask)], DAY="2026-11-25").strip() == "succeeded"


def test_airflow(yard):
    yard.configure()
    [process] = yard.start(1)
    [dag] = examples("airflow")
    home = yard.folder / "airflow"
    (home / "dags").mkdir(parents=True)
    (home / "dags" / "train.py").write_text(dag)
    environment = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "POKE_S": "0.5",
    }
    python = interpreter("airflow")
    for command in (["db", "migrate"], ["dags", "reserialize"], ["dags", "test", "train"]):
        printed = run(yard, process, [python, "-m", "airflow", *command], **environment)
    assert "42" in printed
    [job] = yard.api.get("/v1/jobs")["jobs"]
    assert job["state"] == "succeeded" and job["key"].startswith("airflow/train/")


def test_dagster(yard):
    yard.configure()
    [process] = yard.start(1)
    [asset] = examples("dagster")
    home = yard.folder / "dagster"
    home.mkdir()
    command = [interpreter("dagster"), script(yard, asset)]
    printed = run(yard, process, command, DAGSTER_HOME=str(home), DAGSTER_DISABLE_TELEMETRY="1")
    assert "42" in printed
    [job] = yard.api.get("/v1/jobs")["jobs"]
    assert job["state"] == "succeeded" and job["key"].startswith("dagster/model/")
