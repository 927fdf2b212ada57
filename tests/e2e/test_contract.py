"""The API is what its description says: schemathesis reads that, asks a real server, and finds nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CONTRACT = Path(__file__).parent / "contract"
# It takes about a minute on a machine that has nothing else to do.
TIMEOUT_S = 600


def schemathesis(yard, token: str, *, report: Path, phases: str) -> subprocess.CompletedProcess:
    """One run, with this token."""
    environment = {**os.environ, "YARD_CONTRACT_TOKEN": token, "SCHEMATHESIS_HOOKS": "hooks", "NO_PROXY": "*"}
    environment["PYTHONPATH"] = str(CONTRACT)
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONTRACT / "schemathesis.toml"), "run"]
    command += [f"{yard.processes[0].url}/openapi.json", "--phases", phases]
    # One thread: CPython 3.11 now and then fails when two parse Python at once, as hypothesis does ("AST constructor
    # recursion depth mismatch", python/cpython#106905).
    command += ["--workers", "1"]
    command += ["--report", "ndjson", "--report-ndjson-path", str(report), "--no-color"]
    return subprocess.run(
        command, env=environment, cwd=yard.folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


@pytest.fixture
def installation(yard):
    """A server with jobs in several states."""
    yard.configure(
        teams=[{"id": "ads"}, {"id": "search"}],
        # The API is what is tried: few of the jobs that are made need to run.
        clusters=[yard.process_cluster("local", launch_rate_per_s=2, launch_burst=4)],
        server={"request_timeout_s": 10},
        access={"bootstrap_token_env": "YARD_TEST_OPERATOR", "requests_per_minute": 1_000_000},
    )
    yard.start()
    job = {"v": 1, "team": "ads", "entrypoint": "echo hello"}
    ended = yard.api.submitted({**job, "key": "ended"})
    holder = yard.api.submitted({**job, "key": "running", "entrypoint": "sleep 300", "resources": {"gpu": 2}})
    yard.api.wait_state(holder, "running")
    yard.api.submitted({**job, "team": "search", "key": "waiting", "resources": {"gpu": 1}})
    yard.api.wait_end(ended)
    return yard


@pytest.mark.parametrize("role", ["operator", "viewer"])
def test_the_api_is_what_its_description_says(installation, role):
    yard = installation
    token = yard.api.token
    if role == "viewer":
        made = yard.api.request("POST", "/v1/tokens", json={"name": "v", "role": "viewer", "teams": ["ads"]})
        token = made.json()["token"]
    phases = "examples,coverage,fuzzing,stateful" if role == "operator" else "examples,coverage"
    report = yard.folder / "report.ndjson"
    done = schemathesis(yard, token, report=report, phases=phases)
    assert done.returncode == 0, f"exit code {done.returncode}\n{found(done.stdout)}\n{done.stderr[-2000:]}"
    described = {
        f"{method.upper()} {path}" for path, item in yard.api.get("/openapi.json")["paths"].items() for method in item
    }
    assert described <= operations_in(report), "operations that were not tried"


def found(output: str) -> str:
    """What schemathesis found wrong, without its progress before that."""
    lines = [line[:400] for line in output.splitlines()]
    heads = [i for i, line in enumerate(lines) if line.startswith("===") and (" ERRORS " in line or " FAILURES " in line)]
    return "\n".join(lines[heads[0] :][:400] if heads else lines[-400:])


def operations_in(report: Path) -> set[str]:
    """The operations for which the report has an answer."""
    labels = set()
    for line in report.read_text().splitlines():
        labels |= set(_labels(json.loads(line)))
    return labels


def _labels(value):
    """Every operation that an event of the report names."""
    if isinstance(value, dict):
        if isinstance(value.get("label"), str):
            yield value["label"]
        for inner in value.values():
            yield from _labels(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _labels(inner)
