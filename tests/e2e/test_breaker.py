"""A cluster whose launches keep failing is left alone for a while, says so, and comes back by itself."""

import shutil
import time

from support import invariants
from support.jobs import Job
from support.wait import until

PAUSE_S = 1  # dispatcher.breaker_pause_s, as support/config.py has it


def east(yard) -> dict:
    """The cluster, as the API shows it."""
    [cluster] = yard.api.get("/v1/clusters")["clusters"]
    return cluster


def start_from(yard, program) -> None:
    """One process that runs from `program`, with which it launches jobs; commands stay with the usual one."""
    usual, yard.binary = yard.binary, shutil.copy2(yard.binary, program)
    [process] = yard.start(1)
    yard.binary, yard.environment["YARD_SERVER"] = usual, process.url
    until("the cluster takes jobs", lambda: east(yard)["takes_jobs"])


def held_back(yard, job: str) -> dict:
    """The explanation of a job that waits for the cluster, once it says that launches are held back there."""

    def look():
        found = yard.api.get(f"/v1/jobs/{job}/explain")
        told = {change["code"] for change in found.get("changes", [])}
        return found if [c["code"] for c in found.get("clusters", [])] == ["breaker_open"] and told else None

    return until("it is told that launches are held back", look)


def test_launches_that_fail_are_held_back_until_one_comes_through(yard):
    """The program that starts jobs may not be executed for a while. A single job that is called again and again is enough
    for the cluster to be refused to others; nothing is done by hand but giving the program back."""
    # A lease that is not doubted when a renewal takes its time: a dispatcher that has lost it begins with nothing held back.
    yard.configure(clusters=[yard.process_cluster("east")], dispatcher={"lease_ttl_ms": 15000})
    program = yard.folder / "yard-with-which-jobs-are-launched"
    start_from(yard, program)
    before = yard.api.submitted(Job("ads", "before").document(yard.log.path))
    assert yard.api.wait_end(before)["state"] == "succeeded"

    program.chmod(0o600)
    first = yard.api.submitted(Job("ads", "first").document(yard.log.path))
    until("launches are held back", lambda: east(yard)["breaker_open"])
    second = yard.api.submitted(Job("ads", "second").document(yard.log.path))
    found = held_back(yard, second)
    assert found["code"] == "no_cluster"
    [told] = found["changes"]
    assert (told["code"], told["cluster"], told["obstacles"]) == ("cluster_back", "east", ["breaker_open"])
    page = yard.run("explain", second).stdout
    assert page.startswith("It waits: no cluster can take it now (no_cluster)."), page
    assert "  - if east takes launches again (on east)" in page, page
    assert "(launches held back)" in yard.run("clusters").stdout
    assert east(yard)["health"] == "ready", "it answers: only launches fail"
    assert yard.processes[0].log_text().count("launch calls keep failing") == 1

    # Longer than the pause: what is in flight is called again, and that is trial enough.
    over = time.monotonic() + 3 * PAUSE_S
    while time.monotonic() < over:
        assert east(yard)["breaker_open"] and yard.api.job(second)["state"] == "queued"
        time.sleep(0.1)

    program.chmod(0o700)
    for job in (first, second):
        assert yard.api.wait_end(job)["state"] == "succeeded"
    assert [len(yard.log.started(f"ads/{key}")) for key in ("first", "second")] == [1, 1]
    until("nothing is held back", lambda: not east(yard)["breaker_open"])
    assert "held back" not in yard.run("clusters").stdout
    invariants.check_all(yard)
