"""SIGTERM: the process finishes what is in hand and goes; jobs go on and are adopted."""

import time

from support import invariants
from support.jobs import Job
from support.wait import until


def test_sigterm_leaves_jobs_running_and_the_next_process_adopts_them(yard):
    """Exit 0 well within the drain time, leases given back, and not one job launched again."""
    yard.configure()
    [first] = yard.start(1)
    gate = yard.gate()
    jobs = [Job("ads", f"long-{i}", gate) for i in range(4)]
    ids = [yard.api.submitted(job.document(yard.log.path)) for job in jobs]
    for job in ids:
        yard.api.wait_state(job, "running")
    began = time.monotonic()
    assert first.terminate() == 0
    assert time.monotonic() - began < 5, "draining does not wait for jobs"
    assert not yard.database.live_leases(), "leases are given back"
    assert all(run.end is None for run in yard.log.runs()), "the jobs go on"
    first.start()
    yard.wait_ready()
    gate.touch()
    for job in ids:
        assert yard.api.wait_end(job)["state"] == "succeeded"
    assert len(yard.log.runs()) == len(jobs)
    invariants.check_all(yard)


def test_sigterm_under_load_loses_nothing(yard):
    """Rolling restarts of two processes while submissions come in by both doors."""
    yard.configure()
    processes = yard.start(2)
    jobs = [Job("ads", f"job-{i:02}", 0.3, resources={"cpu": 0.5}) for i in range(40)]
    for i, job in enumerate(jobs):
        document = job.document(yard.log.path)
        if i % 2:
            yard.queues.send(document)
        else:
            assert yard.api.submit(document).status_code in (200, 201)
        if i % 10 == 5:
            process = processes[(i // 10) % 2]
            assert process.terminate() == 0
            process.start()

    def all_ended() -> bool:
        rows = yard.database.query("SELECT state FROM jobs")
        return [row["state"] for row in rows] == ["succeeded"] * len(jobs)

    until("all jobs have succeeded", all_ended, 60, 0.2)
    until("the queue is empty", lambda: yard.queues.waiting() == 0)
    assert len(yard.log.runs()) == len(jobs)
    invariants.check_all(yard)


def test_a_second_signal_does_not_wait(yard):
    """A log that somebody follows keeps a drain waiting; a second SIGTERM ends it at once."""
    yard.configure(server={"drain_timeout_s": 60})
    [process] = yard.start(1)
    job = yard.api.submitted(Job("ads", "long", 60).document(yard.log.path))
    yard.api.wait_state(job, "running")
    path = f"/v1/jobs/{job}/logs?follow=true"
    with yard.api.request("GET", path, at=process.url, stream=True) as follower:
        assert follower.status_code == 200
        process.signal(15)
        began = time.monotonic()
        process.terminate()
        assert time.monotonic() - began < 5
