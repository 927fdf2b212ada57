"""The HTTP API from outside: statuses, problems, idempotency, paging, logs, switches, metrics."""

import json
import re

import pytest

from support import invariants
from support.jobs import Job
from support.wait import until


@pytest.fixture
def served(yard):
    """One process with all roles."""
    # A claim is not given back, which history would tell, if a commit takes its time.
    yard.configure(teams=[{"id": "ads", "quota": {"cpu": 8}}, {"id": "ml"}], scheduler={"lease_ttl_ms": 6000})
    yard.start(1)
    return yard


def check_problem(answer, status: int, code: str) -> dict:
    """An RFC 9457 document with the right status in both places."""
    assert answer.status_code == status, f"{answer.status_code} {answer.text[:500]}"
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["code"]) == (status, code), problem
    assert problem["type"] == f"urn:yard:problem:{code}" and problem["title"] and problem["detail"]
    return problem


def test_a_key_is_idempotent_for_ever_and_by_every_door(served):
    """201 and Location, 200 for the same value however it is written, 409 for another; SQS knows it too."""
    yard = served
    document = Job("ads", "once", 0.1).document(yard.log.path)
    first = yard.api.submit(document)
    assert first.status_code == 201 and first.json()["created"] is True
    job = first.json()["id"]
    assert first.headers["location"] == f"/v1/jobs/{job}"
    spaced = json.dumps(dict(reversed(document.items())), indent=3)
    again = yard.api.request("POST", "/v1/jobs", data=spaced, headers={"content-type": "application/json"})
    assert again.status_code == 200 and (again.json()["id"], again.json()["created"]) == (job, False)
    other = yard.api.submit({**document, "priority": 1})
    assert check_problem(other, 409, "conflict")["job"] == job
    yard.queues.send(document)
    yard.queues.send({**document, "priority": 2})
    until("both messages are taken in", lambda: yard.queues.waiting() == 0)
    assert len(yard.queues.dead_letters()) == 1
    receipt = yard.api.receipt("ads", "once")
    assert receipt["verdict"] == "accepted" and receipt["job"] == job and len(receipt["conflicts"]) == 2
    assert yard.api.wait_end(job)["state"] == "succeeded"
    assert yard.api.submit(document).status_code == 200, "also after its end"
    assert len(yard.log.runs()) == 1
    # The same key in another team is another job.
    assert yard.api.submit({**document, "team": "ml"}).status_code == 201


def test_errors_are_problems_that_name_every_field(served):
    """What can't be read, what can't be accepted, what is not there, what is not allowed."""
    yard = served
    good = Job("ads", "x").document(yard.log.path)
    bad = yard.api.submit({**good, "resources": {"cpu": -1, "memory": "much"}, "colour": "red"})
    problem = check_problem(bad, 422, "rejected")
    assert {error["field"] for error in problem["errors"]} == {"resources.cpu", "resources.memory", "colour"}
    text = {"content-type": "application/json"}
    check_problem(yard.api.request("POST", "/v1/jobs", data="{", headers=text), 400, "bad_request")
    check_problem(yard.api.request("POST", "/v1/jobs", data="{}", headers={"content-type": "text/plain"}), 415, "unsupported_media_type")
    check_problem(yard.api.request("POST", "/v1/jobs", data=" " * (2 << 20), headers=text), 413, "body_too_large")
    check_problem(yard.api.request("GET", "/v1/jobs/not-an-id"), 400, "bad_request")
    check_problem(yard.api.request("GET", "/v1/jobs?limit=none"), 400, "bad_request")
    check_problem(yard.api.request("GET", "/v1/jobs?state=walking"), 400, "bad_request")
    unknown = "/v1/jobs/01900000-0000-7000-8000-000000000000"
    for path in (unknown, f"{unknown}/history", f"{unknown}/logs", "/v1/receipts/ads/none", "/v1/nothing"):
        check_problem(yard.api.request("GET", path), 404, "not_found")
    check_problem(yard.api.request("POST", "/v1/clusters/atlantis/drain"), 404, "not_found")
    check_problem(yard.api.request("DELETE", "/v1/jobs"), 405, "method_not_allowed")


def test_lists_are_paged_and_filtered(served):
    """Every job once over all pages, newest first; filters hold for every page."""
    yard = served
    yard.api.request("POST", "/v1/clusters/local/drain")
    ids = [yard.api.submitted(Job(("ads", "ml")[i % 2], f"job-{i:02}").document(yard.log.path)) for i in range(25)]
    yard.api.stop(ids[0])

    def pages(query: str) -> list[dict]:
        found, cursor = [], ""
        while True:
            page = yard.api.get(f"/v1/jobs?limit=7{query}{cursor}")
            assert len(page["jobs"]) <= 7
            found += page["jobs"]
            if "next" not in page:
                return found
            cursor = f"&cursor={page['next']}"

    assert [job["id"] for job in pages("")] == ids[::-1]
    assert [job["id"] for job in pages("&team=ml")] == ids[1::2][::-1]
    assert [job["id"] for job in pages("&state=stopped")] == [ids[0]]
    assert len(pages("&state=queued&team=ads")) == 12
    assert pages("&cluster=local") == []


def test_logs_are_read_and_followed(served):
    """While it runs the log grows and the stream stays open; it ends with the job."""
    yard = served
    gate = yard.gate()
    command = f"echo one; until [ -e {gate} ]; do sleep 0.1; done; echo two"
    job = yard.api.submitted(Job("ads", "talker", entrypoint=command).document(yard.log.path))
    yard.api.wait_state(job, "running")
    with yard.api.request("GET", f"/v1/jobs/{job}/logs?follow=true", stream=True, timeout=20) as answer:
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain")
        chunks = answer.iter_content(None)
        assert next(chunks) == b"one\n"
        assert yard.api.job(job)["state"] == "running", "the first line came while it ran"
        gate.touch()
        assert b"".join(chunks) == b"two\n"
    yard.api.wait_end(job)
    assert yard.api.request("GET", f"/v1/jobs/{job}/logs").text == "one\ntwo\n"
    yard.api.request("POST", "/v1/clusters/local/drain")
    waiting = yard.api.submitted(Job("ads", "waiting").document(yard.log.path))
    check_problem(yard.api.request("GET", f"/v1/jobs/{waiting}/logs"), 409, "no_attempt")


def test_a_drained_cluster_gets_no_new_jobs_and_keeps_its_own(served):
    """Drain and resume are idempotent and outlive a restart of the process."""
    yard = served
    [process] = yard.processes
    gate = yard.gate()
    running = yard.api.submitted(Job("ads", "running", gate).document(yard.log.path))
    yard.api.wait_state(running, "running")
    for _ in range(2):
        answer = yard.api.request("POST", "/v1/clusters/local/drain")
        assert answer.status_code == 200 and answer.json() == {"id": "local", "switch": "drained"}
    waiting = yard.api.submitted(Job("ads", "waiting", 0.1).document(yard.log.path))
    process.kill()
    process.start()
    yard.wait_ready()
    gate.touch()
    assert yard.api.wait_end(running)["state"] == "succeeded", "those it has run to their end"
    found = until("it says why it waits", lambda: yard.api.job(waiting).get("waiting", {}).get("clusters"))
    assert "drained" in found["local"], found
    assert yard.api.job(waiting)["state"] == "queued"
    assert yard.api.request("POST", "/v1/clusters/local/resume").json()["switch"] == "open"
    assert yard.api.wait_end(waiting)["state"] == "succeeded"
    invariants.check_all(yard)


def test_teams_and_clusters_show_what_is_in_use(served):
    """Quota, use and free while a job runs; history in order with who did what."""
    yard = served
    gate = yard.gate()
    job = yard.api.submitted(Job("ads", "busy", gate, resources={"cpu": 2, "memory": "1GiB"}).document(yard.log.path))
    yard.api.wait_state(job, "running")
    team = next(team for team in yard.api.get("/v1/teams")["teams"] if team["id"] == "ads")
    assert team["quota"] == {"cpu": 8.0} and team["open"] == {"running": 1}
    assert (team["used"]["cpu"], team["used"]["memory_bytes"], team["used"]["jobs"]) == (2.0, 1 << 30, 1)
    [cluster] = yard.api.get("/v1/clusters")["clusters"]
    assert (cluster["capacity"]["cpu"], cluster["used"]["cpu"], cluster["free"]["cpu"]) == (8.0, 2.0, 6.0)
    assert cluster["health"] == "ready" and cluster["takes_jobs"] is True
    gate.touch()
    yard.api.wait_end(job)
    lines = yard.api.history(job)
    assert [line["event"] for line in lines] == ["accepted", "claimed", "placed", "launch_begun", "started", "succeeded"]
    assert [line["seq"] for line in lines] == [1, 2, 3, 4, 5, 6]
    roles = [line["actor"].split(":")[0] for line in lines]
    assert roles[1:] == ["scheduler", "scheduler", "dispatcher", "dispatcher", "dispatcher"], roles
    invariants.check_all(yard)


METRIC = re.compile(r'[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-zA-Z_][a-zA-Z0-9_]*="(\\.|[^"\\])*",?)*\})? (NaN|[+-]?Inf|[-+0-9.eE]+)')


def test_metrics_parse_and_count(served):
    """Every line is in Prometheus's format, and one job is counted where it went."""
    yard = served
    [process] = yard.processes
    yard.queues.send(Job("ads", "counted", 0.1).document(yard.log.path))
    receipt = until("it is taken in", lambda: yard.api.receipt("ads", "counted"))
    yard.api.wait_end(receipt["job"])
    answer = yard.api.request("GET", "/metrics", at=process.url)
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain")
    lines = [line for line in answer.text.splitlines() if line and not line.startswith("#")]
    about = {kind: {line.split()[2] for line in answer.text.splitlines() if line.startswith(f"# {kind} ")} for kind in ("HELP", "TYPE")}
    assert len(about["TYPE"]) > 15 and about["HELP"] == about["TYPE"], "each says what it is"
    assert lines and not [line for line in lines if not METRIC.fullmatch(line)]
    assert yard.api.metric("yard_intake_total", process.url, verdict="accepted") == 1
    assert yard.api.metric("yard_launches_total", process.url, cluster="local") == 1
    for path in ("/healthz", "/readyz"):
        assert yard.api.request("GET", path, at=process.url).status_code == 200
