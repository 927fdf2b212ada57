"""Why is my job waiting? Everything that is told would help is done for real, and the job starts."""

import copy
from datetime import datetime

import pytest

from support import invariants
from support.config import toml
from support.jobs import Job
from support.wait import until

LONG = 300  # seconds: for the whole of a test


@pytest.fixture
def one(yard):
    """One process with all roles: two clusters of 8 cpus, a team with a quota of 4 and one without."""

    def start(**sections):
        yard.configure(
            teams=[{"id": "ads", "quota": {"cpu": 4}}, {"id": "search"}],
            clusters=[yard.process_cluster("east"), yard.process_cluster("west")],
            **sections,
        )
        [process] = yard.start(1)
        yard.environment["YARD_SERVER"] = process.url
        yard.wait_clusters()
        return yard

    return start


def submit(yard, team: str, key: str, cpu: float, seconds: float = LONG, **keys) -> str:
    return yard.api.submitted(Job(team, key, seconds, resources={"cpu": cpu}, **keys).document(yard.log.path))


def explained(yard, job: str, *codes: str) -> dict:
    """The explanation, once it tells of a change of each of these kinds."""

    def look():
        found = yard.api.get(f"/v1/jobs/{job}/explain")
        told = {change["code"] for change in found.get("changes", [])}
        return found if told >= set(codes) else None

    return until(f"{job} is told of {codes}", look)


def change(found: dict, code: str) -> dict:
    [wanted] = [change for change in found["changes"] if change["code"] == code]
    return wanted


def fill(yard) -> str:
    """Drains west and fills east; the job that does."""
    yard.run("drain", "west")
    holder = submit(yard, "search", "holder", 8)
    yard.api.wait_state(holder, "running")
    return holder


def end(yard, *jobs: str) -> None:
    """Stops what still runs, and looks that all is well."""
    for job in jobs:
        yard.api.stop(job)
        yard.api.wait_end(job)
    invariants.check_all(yard)


def test_a_drained_cluster_is_resumed(one):
    yard = one()
    holder = fill(yard)
    job = submit(yard, "search", "waits", 6)
    found = explained(yard, job, "cluster_resumed", "job_ends")
    assert found["code"] == "no_cluster"
    assert {c["cluster"]: c["code"] for c in found["clusters"]} == {"east": "full", "west": "drained"}
    told = change(found, "cluster_resumed")
    assert (told["cluster"], told["placed_on"]) == ("west", "west")
    page = yard.run("explain", "search/waits").stdout
    assert page.startswith("It waits: no cluster can take it now (no_cluster)."), page
    assert "  - if west is resumed (on west)" in page, page
    yard.run("resume", told["cluster"])
    assert yard.api.wait_state(job, "running")["cluster"] == told["placed_on"]
    assert yard.run("explain", job).stdout.startswith("It does not wait: it runs on west since ")
    end(yard, holder, job)


def test_the_job_in_the_way_is_stopped(one):
    yard = one()
    holder = fill(yard)
    job = submit(yard, "search", "waits", 6)
    told = change(explained(yard, job, "job_ends"), "job_ends")
    assert [j["job"] for j in told["jobs"]] == [holder]
    yard.run("stop", told["jobs"][0]["job"])
    assert yard.api.wait_state(job, "running")["cluster"] == told["placed_on"]
    end(yard, job)


def test_the_quota_is_raised(one):
    yard = one()
    holder = submit(yard, "ads", "holder", 3)
    yard.api.wait_state(holder, "running")
    first, job = submit(yard, "ads", "first", 2), submit(yard, "ads", "waits", 2)
    found = explained(yard, job, "more_quota", "job_ends")
    assert (found["code"], found["position"]["ahead"]) == ("team_quota", 1)
    assert {c["code"] for c in found["clusters"]} == {"room"}
    told = change(found, "more_quota")
    assert (told["owner_kind"], told["owner"]) == ("team", "ads")
    [extra] = told["extra"]
    assert extra == {"resource": "cpu", "amount": 3.0}
    team = yard.api.get("/v1/teams/ads/explain")
    assert (team["queued"], team["changes"][0]["jobs_more"]) == (2, 2)
    assert "2 more" in yard.run("explain", "--team", "ads").stdout

    def raised(by: float) -> None:
        catalog = {name: copy.deepcopy(yard.config[name]) for name in ("team", "cluster")}
        catalog["team"][0]["quota"]["cpu"] += by
        path = yard.folder / "catalog.toml"
        path.write_text(toml(catalog))
        yard.run("apply", str(path), "--yes")

    raised(extra["amount"] - 1)
    yard.api.wait_state(first, "running")
    assert explained(yard, job, "more_quota")["changes"], "one less is not enough"
    raised(extra["amount"])
    yard.api.wait_state(job, "running")
    end(yard, holder, first, job)


def test_less_is_asked_for(one):
    yard = one()
    holder = submit(yard, "ads", "holder", 1)
    yard.api.wait_state(holder, "running")
    job = submit(yard, "ads", "waits", 4)
    told = change(explained(yard, job, "smaller_request"), "smaller_request")["request"]
    assert told == {"resource": "cpu", "amount": 3.0}
    # A job can't be changed: it is handed over again. (Beside it, room would be kept for the larger one.)
    yard.api.stop(job)
    smaller = submit(yard, "ads", "smaller", told["amount"])
    yard.api.wait_state(smaller, "running")
    end(yard, holder, smaller)


def test_a_higher_priority(one):
    """What is left of the quota is kept for the team's first job; with the priority that is told, the other goes before it."""
    yard = one()
    holder = submit(yard, "ads", "holder", 2)
    yard.api.wait_state(holder, "running")
    first, job = submit(yard, "ads", "first", 4), submit(yard, "ads", "waits", 2)
    found = explained(yard, job, "higher_priority")
    assert (found["code"], found["position"]["ahead"]) == ("quota_reserved", 1)
    told = change(found, "higher_priority")
    assert f"  - with priority {told['priority']} (on " in yard.run("explain", job).stdout
    yard.api.stop(job)
    # The least that does: with one less it stands behind the other still.
    lower = submit(yard, "ads", "lower", 2, priority=told["priority"] - 1)
    assert change(explained(yard, lower, "higher_priority"), "higher_priority")["priority"] == told["priority"]
    yard.api.stop(lower)
    higher = submit(yard, "ads", "higher", 2, priority=told["priority"])
    yard.api.wait_state(higher, "running")
    assert yard.api.job(first)["state"] == "queued"
    end(yard, higher, holder, first)


def test_the_expected_start_comes_true(one):
    """Jobs that run three seconds each, on a cluster that has room for one: after some history, the start is known."""
    yard = one()
    yard.run("drain", "west")
    seconds = 3
    for i in range(3):
        yard.api.wait_end(submit(yard, "search", f"past-{i}", 8, seconds))
    holder, first, job = (submit(yard, "search", key, 8, seconds) for key in ("holder", "first", "waits"))
    yard.api.wait_state(holder, "running")
    found = until(
        "a start is forecast",
        lambda: (e := yard.api.get(f"/v1/jobs/{job}/explain").get("expected_start")) and e["code"] == "forecast" and e,
    )
    assert found["cluster"] == "east"
    yard.api.wait_end(job, timeout_s=30)
    [attempt] = yard.api.job(job)["attempts"]
    started = datetime.fromisoformat(attempt["placed_at"])
    late = (started - datetime.fromisoformat(found["at"])).total_seconds()
    assert abs(late) < 2.5, f"expected {found['at']}, placed {attempt['placed_at']}"
    end(yard, holder, first)
