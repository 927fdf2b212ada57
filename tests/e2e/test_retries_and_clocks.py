"""How attempts end and who pays for the next one; the clocks of queueing and running."""

import contextlib
import os
import signal

from support import invariants
from support.jobs import Job
from support.reaper import belonging_to
from support.wait import until


def test_a_jobs_own_failure_costs_its_own_retries(yard):
    """None by default; with two, the third attempt is the last. The log's end and exit code are kept."""
    yard.configure()
    yard.start(1)
    once = yard.api.submitted(Job("ads", "once", 0.1, "fail").document(yard.log.path))
    thrice = yard.api.submitted(Job("ads", "thrice", 0.1, "fail", max_retries=2).document(yard.log.path))
    at_last = yard.api.submitted(Job("ads", "at-last", 0.1, "fail-until-3", max_retries=5).document(yard.log.path))
    for job, state, attempts in ((once, "failed", 1), (thrice, "failed", 3), (at_last, "succeeded", 3)):
        ended = yard.api.wait_end(job)
        assert (ended["state"], len(ended["attempts"])) == (state, attempts), ended
    failed = yard.api.job(thrice)
    assert failed["failure"]["class"] == "user_error" and failed["failure"]["exit_code"] == 3
    assert "bye from ads/thrice with code 3" in failed["failure"]["message"]
    assert [run.attempt for run in yard.log.started("ads/thrice")] == [1, 2, 3]
    waits = [line for line in yard.api.history(thrice) if line["event"] == "retried"]
    assert [line["data"]["budget"] for line in waits] == ["own", "own"]
    invariants.check_all(yard)


def test_the_run_timeout_ends_an_attempt_and_is_not_retried(yard):
    """However many retries the job has left: the same again would end the same."""
    yard.configure()
    yard.start(1)
    document = Job("ads", "endless", 300, max_retries=3, timeouts={"run_s": 3}).document(yard.log.path)
    ended = yard.api.wait_end(yard.api.submitted(document))
    assert (ended["state"], ended["failure"]["class"], len(ended["attempts"])) == ("failed", "run_timeout", 1)
    assert [run.how for run in yard.log.runs()] == ["stopped"]
    invariants.check_all(yard)


def test_the_queue_timeout_ends_a_job_that_waits_too_long(yard):
    """It says while it waits why it does, and ends as expired without having been launched."""
    yard.configure(teams=[{"id": "ads", "quota": {"jobs": 1}}])
    yard.start(1)
    gate = yard.gate()
    long = yard.api.submitted(Job("ads", "long", gate).document(yard.log.path))
    yard.api.wait_state(long, "running")
    job = yard.api.submitted(Job("ads", "late", timeouts={"queue_s": 6}).document(yard.log.path))
    until("it says why it waits", lambda: yard.api.job(job).get("waiting"))
    ended = yard.api.wait_end(job)
    assert ended["state"] == "expired" and ended["attempts"] == []
    gate.touch()
    assert yard.api.wait_end(long)["state"] == "succeeded"
    invariants.check_all(yard)


def test_an_attempt_that_vanishes_is_lost_and_costs_the_installations_retries(yard):
    """Its shim and all its processes are killed behind our back: lost, and retried without retries of its own."""
    yard.configure()
    yard.start(1)
    job = yard.api.submitted(Job("ads", "victim", 10, max_retries=0).document(yard.log.path))
    [run] = until("it runs", lambda: yard.log.started("ads/victim"))
    yard.api.wait_state(job, "running")
    for pid in belonging_to(yard.folder / "clusters" / "local" / run.name):
        with contextlib.suppress(ProcessLookupError):  # the first death brings about the others
            os.kill(pid, signal.SIGKILL)
    ended = yard.api.wait_end(job, 60)
    assert ended["state"] == "succeeded", ended
    assert [attempt["end"] for attempt in ended["attempts"]] == ["lost", "succeeded"]
    retried = [line for line in yard.api.history(job) if line["event"] == "retried"]
    assert [line["data"]["budget"] for line in retried] == ["infra"]


def test_what_a_cluster_refuses_is_not_retried(yard):
    """A process cluster can't install packages: refused as such, whatever retries there are."""
    yard.configure()
    yard.start(1)
    document = Job("ads", "packages", max_retries=3).document(yard.log.path) | {"runtime_env": {"pip": ["torch"]}}
    ended = yard.api.wait_end(yard.api.submitted(document))
    assert ended["state"] == "failed" and ended["failure"]["class"] == "refused_by_cluster", ended
    assert "pip" in ended["failure"]["message"] and len(ended["attempts"]) == 1
    assert yard.log.runs() == []
    invariants.check_all(yard)


def test_a_runtime_env_that_fails_costs_own_retries(yard):
    """A working directory that is not there."""
    yard.configure()
    yard.start(1)
    environment = {"runtime_env": {"working_dir": "/nowhere/at/all"}}
    document = Job("ads", "nowhere", max_retries=1).document(yard.log.path) | environment
    ended = yard.api.wait_end(yard.api.submitted(document))
    assert ended["state"] == "failed" and ended["failure"]["class"] == "runtime_env", ended
    assert len(ended["attempts"]) == 2
    invariants.check_all(yard)


def test_what_somebody_stopped_at_ray_past_us_stays_stopped(yard_ray):
    """Stopped with Ray's own tools: failed as stopped_at_cluster, not launched again."""
    yard = yard_ray
    yard.configure(clusters=[yard.ray_cluster(0)])
    yard.start(1)
    job = yard.api.submitted(Job("ads", "foreign-hand", 300, max_retries=3).document(yard.log.path))
    [run] = until("it runs", lambda: yard.log.started("ads/foreign-hand"), 30)
    assert yard.ray[0].request("POST", f"/api/jobs/{run.name}/stop")[0] == 200
    ended = yard.api.wait_end(job, 30)
    assert ended["state"] == "failed" and ended["failure"]["class"] == "stopped_at_cluster", ended
    assert len(yard.log.runs()) == 1
    invariants.check_all(yard)
