"""The catalog: `yard apply` puts teams, clusters and policy in force while everything runs; `yard export` gives them back."""

import json
import time

from support import config as configs
from support import invariants
from support.jobs import Job
from support.wait import until


def document(teams: list[dict], clusters: list[dict], **sections) -> str:
    """A catalog document."""
    return "# Applied by a test.\n" + configs.toml({"team": teams, "cluster": clusters, **sections})


def apply(yard, text: str, *options: str, check: bool = True):
    """`yard apply`, from a file."""
    file = yard.folder / "catalog.toml"
    file.write_text(text)
    return yard.run("apply", str(file), *options, "--server", yard.processes[0].url, check=check)


def versions(yard) -> list[dict]:
    """Every version, newest first."""
    return yard.api.get("/v1/catalog/versions")["versions"]


def submitted_once_known(yard, make) -> str:
    """The id of the first job that is accepted: processes take a catalog over one by one, within moments."""
    count = 0

    def send():
        nonlocal count
        count += 1
        answer = yard.api.submit(make(count).document(yard.log.path))
        return answer.json()["id"] if answer.status_code == 201 else None

    return until("a job is accepted under the new catalog", send, 10)


def test_a_raised_quota_starts_a_waiting_job(yard):
    """The job waits for its team's quota; with one CPU more it runs beside the other, on any process."""
    clusters = [yard.process_cluster("local")]
    yard.configure(teams=[{"id": "ads", "quota": {"cpu": 1}}], clusters=clusters)
    yard.start(2)
    first = yard.api.submitted(Job("ads", "first", 300).document(yard.log.path))
    # Only then the second: of two that wait together, two schedulers at once may begin with either.
    yard.api.wait_state(first, "running")
    second = yard.api.submitted(Job("ads", "second", 0.2).document(yard.log.path))
    until("it is said why the other waits", lambda: yard.api.job(second).get("waiting"))
    done = apply(yard, document([{"id": "ads", "quota": {"cpu": 2}}], clusters), "--yes")
    assert "team ads: quota.cpu 1 → 2" in done.stderr + done.stdout
    assert yard.api.wait_end(second)["state"] == "succeeded"
    assert yard.api.job(first)["state"] == "running"
    [newest, *_] = versions(yard)
    assert (newest["by"], newest["source"]) == ("user:bootstrap", "applied")
    assert yard.api.stop(first).status_code == 202
    yard.api.wait_end(first)
    invariants.check_all(yard)


def test_clusters_come_change_and_go_under_running_processes(yard):
    """A new cluster runs a job; its settings change and the job runs on; it is taken out and the job runs to its end, even
    when every process is started anew meanwhile; then the cluster is gone."""
    local, extra = yard.process_cluster("local"), yard.process_cluster("extra", labels={"kind": "extra"})
    teams = [{"id": "ads"}]
    yard.configure(teams=teams, clusters=[local])
    processes = yard.start(2)
    refused = yard.api.submit(Job("ads", "early", only=["extra"]).document(yard.log.path))
    assert refused.status_code == 422 and refused.json()["errors"][0]["code"] == "never_fits"
    done = apply(yard, document(teams, [local, extra]), "--yes")
    assert "cluster extra: added" in done.stderr + done.stdout
    quick = submitted_once_known(yard, lambda n: Job("ads", f"quick-{n}", only=["extra"]))
    assert yard.api.wait_end(quick)["state"] == "succeeded"

    gate = yard.gate()
    long = yard.api.submitted(Job("ads", "long", gate, only=["extra"]).document(yard.log.path))
    yard.api.wait_state(long, "running")
    changed = {**extra, "poll_interval_ms": 100, "launch_burst": 3}
    done = apply(yard, document(teams, [local, changed]), "--yes")
    assert "cluster extra: launch_burst 100 → 3" in done.stderr + done.stdout
    until("the cluster is taken anew", lambda: any("settings have changed" in p.log_text() for p in processes), 10)

    renamed = apply(yard, document(teams, [local, {**extra, "id": "renamed"}]), "--dry-run")
    assert "where extra is, which has 1 open job: stopped, and tried again; drain it first" in renamed.stdout
    text = document(teams, [local])
    dry = apply(yard, text, "--dry-run")
    assert "cluster extra: removed (has 1 open job: stays until they end)" in dry.stdout
    apply(yard, text, "--yes")
    for process in processes:
        assert process.terminate() == 0
        process.start()
    yard.wait_ready()
    gate.touch()
    assert yard.api.wait_end(long, timeout_s=40)["state"] == "succeeded"
    assert len(yard.log.started("ads/long")) == 1, "it was not launched again"
    invariants.check_all(yard)


def test_a_wrong_document_is_refused_whole_and_a_dry_run_writes_nothing(yard):
    """Every error at once with its line, exit 3; and neither of the two makes a version."""
    yard.configure()
    yard.start(1)
    before = versions(yard)
    bad = """\
[[team]]
id = "Ads"
[[team]]
id = "search"
cohort = "nowhere"
[[priority_class]]
id = "high"
priority = 5000
[[cluster]]
id = "east"
driver = "abacus"
[scheduler]
claim_max = 1
"""
    done = apply(yard, bad, "--yes", check=False)
    assert done.returncode == 3
    for line, word in [(2, "Ads"), (5, "nowhere"), (8, "-1000 to 1000"), (11, "abacus"), (12, "scheduler")]:
        found = [text for text in done.stderr.splitlines() if f"line {line}:" in text]
        assert found and any(word in text for text in found), f"line {line}, {word}:\n{done.stderr}"
    answer = yard.api.request("PUT", "/v1/catalog", data=bad, headers={"Content-Type": "application/toml"})
    assert answer.status_code == 422 and answer.json()["code"] == "invalid_catalog"
    assert len(answer.json()["errors"]) == 5

    good = document([{"id": "ads", "weight": 3}], [yard.process_cluster("local")])
    dry = apply(yard, good, "--dry-run", "--json")
    assert json.loads(dry.stdout)["answer"] == "dry_run"
    assert [change["field"] for change in json.loads(dry.stdout)["changes"]] == ["weight"]
    assert apply(yard, good, check=False).returncode == 2, "nobody to ask"
    assert apply(yard, good, "--yes", "--expected", "99", check=False).returncode == 3
    assert versions(yard) == before


def test_what_was_applied_is_given_back_and_outlives_a_restart(yard):
    """Export gives the text to the byte; a process that starts with another configuration leaves it in force and says so."""
    yard.configure(teams=[{"id": "ads", "quota": {"cpu": 1}}])
    [process] = yard.start(1)
    text = document([{"id": "ads", "quota": {"cpu": 3}}, {"id": "more"}], [yard.process_cluster("local")])
    apply(yard, text, "--yes")
    assert yard.run("export", "--server", process.url).stdout == text
    assert process.terminate() == 0
    process.start()
    yard.wait_ready()
    assert yard.run("export", "--server", process.url).stdout == text
    assert "yard export" in process.log_text()
    teams = yard.api.get("/v1/teams")["teams"]
    assert [(team["id"], team["quota"]) for team in teams] == [("ads", {"cpu": 3.0}), ("more", {})]
    job = yard.api.submitted(Job("more", "k").document(yard.log.path))
    assert yard.api.wait_end(job)["state"] == "succeeded"
    table = yard.run("catalog", "--server", process.url).stdout.splitlines()
    assert "applied" in table[1] and "configuration" in table[2]
    first = yard.run("export", "--version", "1", "--server", process.url).stdout
    assert "[[team]]" in first and "[server]" not in first
    invariants.check_all(yard)


def test_a_team_that_submits_too_fast_is_held_at_both_doors(yard):
    """HTTP: 429 with Retry-After, and nothing is kept. SQS: put off, all of it accepted in the end, and nobody else waits."""
    rate, slow = {"per_minute": 60, "burst": 2}, {"per_minute": 2, "burst": 2}
    yard.configure(teams=[{"id": "ads", "submit_rate": rate}, {"id": "ops", "submit_rate": slow}, {"id": "search"}])
    [process] = yard.start(1)
    answers = [yard.api.submit(Job("ops", f"http-{i}").document(yard.log.path)) for i in range(4)]
    assert [answer.status_code for answer in answers[:2]] == [201, 201]
    late = answers[3]
    assert late.status_code == 429 and late.json()["code"] == "rate_limited"
    assert int(late.headers["Retry-After"]) >= 1
    assert yard.api.receipt("ops", "http-3") is None
    sent = time.monotonic()
    for i in range(5):
        yard.queues.send(Job("ads", f"sqs-{i}").document(yard.log.path))
    began = time.monotonic()
    yard.queues.send(Job("search", "other").document(yard.log.path))
    until("the other team's job is there", lambda: yard.api.receipt("search", "other"), 3)
    assert time.monotonic() - began < 3
    keys = [f"sqs-{i}" for i in range(5)]
    until("all that was put off is accepted", lambda: all(yard.api.receipt("ads", key) for key in keys), 30)
    assert time.monotonic() - sent > 2, "held to one a second"
    assert all(yard.api.receipt("ads", key)["verdict"] == "accepted" for key in keys)
    assert yard.api.metric("yard_rate_limited_total", process.url, team="ads") > 0
    until("the queue is empty", lambda: yard.queues.waiting() == 0)
    assert not yard.queues.dead_letters()
