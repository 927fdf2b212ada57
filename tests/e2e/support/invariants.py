"""What must be true at the end of every test, asked of the database itself and of the clusters' own log."""

import json
import re
from collections import defaultdict
from pathlib import Path

from . import evidence
from .evidence import Run
from .wait import until
from .yard import Yard

ENDS = ("succeeded", "failed", "stopped", "expired")
STATE_MACHINE = Path(__file__).resolve().parents[3] / "docs" / "state-machine.md"


def check_all(yard: Yard, runs: list[Run] | None = None) -> None:
    """Everything that holds once all jobs have ended. `runs` defaults to those of the jobs' own log."""
    runs = yard.log.runs() if runs is None else runs
    check_histories(yard)
    check_ledger(yard)
    check_nothing_held(yard)
    check_clusters(yard, runs)


def check_histories(yard: Yard) -> None:
    """Every job has ended exactly once, by allowed transitions only, without a gap, and is what its history says."""
    allowed = _transitions()
    lines = defaultdict(list)
    for line in yard.database.query("SELECT * FROM history ORDER BY job_id, seq"):
        lines[line["job_id"]].append(line)
    jobs = yard.database.query("SELECT id, state, version, attempts FROM jobs")
    assert {job["id"] for job in jobs} == set(lines), "jobs and histories are not of the same jobs"
    for job in jobs:
        own = lines[job["id"]]
        name = job["id"].hex()
        assert [line["seq"] for line in own] == list(range(1, len(own) + 1)), f"{name}: a gap in its history"
        state, placed, ends = None, 0, 0
        for line in own:
            assert line["from_state"] == state, f"{name}: line {line['seq']} is from {line['from_state']}, was {state}"
            step = (state, line["code"], line["to_state"])
            wish = line["code"] == "stop_requested" and line["to_state"] == state
            assert wish or step in allowed, f"{name}: no such transition: {step}"
            state = line["to_state"]
            placed += line["code"] == "placed"
            ends += state in ENDS and not wish
        assert ends == 1 and state in ENDS, f"{name}: ended {ends} times, is {state}"
        assert job["state"] == state, f"{name}: its row says {job['state']}, its history {state}"
        assert job["version"] == len(own), f"{name}: version {job['version']}, {len(own)} lines of history"
        assert job["attempts"] == placed, f"{name}: {job['attempts']} attempts, placed {placed} times"


def check_ledger(yard: Yard) -> None:
    """Nothing is charged any more: by the audit, by the API, and by the rows themselves."""
    audit = yard.api.get("/v1/audit")
    assert audit["exact"] is True and audit["drift"] == [], f"the audit found drift: {audit}"
    for team in yard.api.get("/v1/teams")["teams"]:
        assert not _amounts(team["used"]), f"team {team['id']} still uses {team['used']}"
    for row in yard.database.query("SELECT owner, used FROM accounts"):
        assert not _amounts(json.loads(row["used"])), f"{row['owner']} is still charged {row['used']}"


def check_nothing_held(yard: Yard) -> None:
    """No row is claimed, pending or wished to stop; only processes that live hold leases."""
    held = (
        "SELECT COUNT(*) FROM jobs WHERE ready IS NOT NULL OR pending_us IS NOT NULL "
        "OR cluster IS NOT NULL OR lease_token IS NOT NULL"
    )
    assert yard.database.value(held) == 0, "jobs that have ended are still held"
    assert yard.database.value("SELECT COUNT(*) FROM stop_wishes") == 0, "wishes to stop are left"
    alive = [process for process in yard.processes if process.alive()]

    def only_the_living() -> bool:
        return len(yard.database.holders()) <= len(alive)

    until(f"at most {len(alive)} processes hold leases", only_the_living, 60)


def check_clusters(yard: Yard, runs: list[Run]) -> None:
    """The clusters ran exactly the attempts of the store: none twice, none of one job at the same time."""
    assert not evidence.launched_twice(runs), f"launched twice: {evidence.launched_twice(runs)}"
    assert not evidence.overlaps(runs), f"alive at the same time: {evidence.overlaps(runs)}"
    rows = yard.database.query("SELECT job_id, number, cluster, end_code FROM attempts")
    stored = {f"yard-{row['job_id'].hex()}-{row['number']}": row for row in rows}
    ran = {run.name: run for run in runs}
    unknown = set(ran) - set(stored)
    assert not unknown, f"ran at a cluster, but the store has no such attempt: {sorted(unknown)[:5]}"
    # An attempt may end without its command having run, but not as one that succeeded or failed by itself.
    by_itself = {name for name, row in stored.items() if row["end_code"] in ("succeeded", "user_error")}
    missing = by_itself - set(ran)
    assert not missing, f"ended by itself says the store, but never ran: {sorted(missing)[:5]}"
    for name, run in ran.items():
        row = stored[name]
        assert run.cluster in ("ray", row["cluster"]), f"{name}: placed on {row['cluster']}, ran on {run.cluster}"
        want = {"end-0": "succeeded", "end-3": "user_error"}.get(run.how)
        assert want in (None, row["end_code"]), f"{name}: ended as {run.how}, recorded as {row['end_code']}"


def _amounts(used) -> list:
    """Every number in it that is not zero, however deep."""
    if isinstance(used, dict):
        return [found for value in used.values() for found in _amounts(value)]
    number = float(re.sub(r"[^0-9.]", "", str(used)) or 0)
    return [used] if number else []


def _transitions() -> set[tuple[str | None, str, str]]:
    """The table in docs/state-machine.md, which a test holds to the code."""
    text = STATE_MACHINE.read_text().split("<!-- transitions: begin -->")[1].split("<!-- transitions: end -->")[0]
    rows = [line.strip("| ").split(" | ") for line in text.strip().splitlines()[2:]]
    found = {(None if old == "—" else old, event.strip("`"), new) for old, event, new in rows}
    assert len(found) >= 20, f"the table of transitions can't be read: {found}"
    return found
