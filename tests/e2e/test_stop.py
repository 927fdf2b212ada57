"""A wish to stop, in every state that a job can be in."""

import os
import time

from support import invariants
from support.jobs import Job
from support.reaper import belonging_to
from support.wait import until


def test_a_queued_job_ends_at_once(yard):
    """Nothing is launched; asking again changes nothing."""
    yard.configure()
    yard.start(1)
    assert yard.api.request("POST", "/v1/clusters/local/drain").status_code == 200
    job = yard.api.submitted(Job("ads", "queued").document(yard.log.path))
    for _ in range(2):
        assert yard.api.stop(job).status_code == 200
        assert yard.api.job(job)["state"] == "stopped"
    assert yard.log.runs() == [] and yard.api.job(job)["attempts"] == []
    invariants.check_all(yard)


def test_a_placed_job_is_never_sent(yard):
    """It waits for its cluster's launch rate, charged; the stop refunds it."""
    slow = {"launch_rate_per_s": 0.05, "launch_burst": 1}
    # The next holder of a lease that is lost would begin with a full bucket.
    yard.configure(clusters=[yard.process_cluster("local", **slow)], dispatcher={"lease_ttl_ms": 30000})
    yard.start(1)
    first, second = (yard.api.submitted(Job("ads", key, 0.1).document(yard.log.path)) for key in ("a", "b"))
    waiting = {first, second}

    def one_waits() -> str | None:
        found = {job: yard.api.job(job)["state"] for job in waiting}
        states = sorted(found.values())
        ready = states in (["placed", "succeeded"], ["launching", "succeeded"])
        return next((job for job, state in found.items() if state != "succeeded"), None) if ready else None

    held = until("one has run and one waits for its launch", one_waits)
    assert yard.api.stop(held).status_code in (200, 202)
    assert yard.api.wait_end(held)["state"] == "stopped"
    assert len(yard.log.runs()) == 1
    invariants.check_all(yard)


def test_a_running_job_ends_with_everything_it_started(yard):
    """SIGTERM to the whole group; a child in the background that outlives its parent is ended too."""
    yard.configure()
    yard.start(1)
    job = yard.api.submitted(Job("ads", "parent", 300, "child").document(yard.log.path))
    [run] = until("it runs", lambda: yard.log.started("ads/parent"))
    beat = yard.log.path.with_name(f"cluster.log.{run.name}.beat")
    until("its child is at work", beat.exists)
    assert yard.api.stop(job).status_code in (200, 202)
    assert yard.api.wait_end(job)["state"] == "stopped"
    assert [run.how for run in yard.log.runs()] == ["stopped"]
    attempt = yard.folder / "clusters" / "local" / run.name
    until("nothing of it is left", lambda: not belonging_to(attempt))
    size = beat.stat().st_size
    time.sleep(0.5)  # two of its beats: there must be none
    assert beat.stat().st_size == size
    invariants.check_all(yard)


def test_a_job_that_does_not_listen_is_killed_after_the_grace(yard):
    """SIGKILL comes after stop_grace_s; not before."""
    yard.configure(clusters=[yard.process_cluster("local", stop_grace_s=1)])
    yard.start(1)
    job = yard.api.submitted(Job("ads", "deaf", 300, "deaf").document(yard.log.path))
    until("it runs", lambda: yard.log.started("ads/deaf"))
    yard.api.wait_state(job, "running")
    began = time.monotonic()
    yard.api.stop(job)
    assert yard.api.wait_end(job)["state"] == "stopped"
    assert time.monotonic() - began >= 1.0
    [run] = yard.log.runs()
    assert run.end is None, "it had no chance to say good-bye"
    until("nothing of it is left", lambda: not belonging_to(yard.folder / "clusters" / "local" / run.name))


def test_a_stop_is_carried_out_whoever_dies_meanwhile(yard):
    """The wish is a fact on the row: killed right after taking it, the next process carries it out."""
    yard.configure()
    [process] = yard.start(1)
    job = yard.api.submitted(Job("ads", "long", 300).document(yard.log.path))
    yard.api.wait_state(job, "running")
    process.freeze()  # no dispatcher of ours does anything between the wish and the kill
    [other] = yard.start(1, arguments=["--roles", "api"])
    assert yard.api.request("POST", f"/v1/jobs/{job}/stop", at=other.url, json={}).status_code in (200, 202)
    process.kill()
    process.start()
    yard.wait_ready()
    assert yard.api.wait_end(job)["state"] == "stopped"
    assert [run.how for run in yard.log.runs()] == ["stopped"]
    invariants.check_all(yard)


def test_stopping_what_has_ended_changes_nothing(yard):
    """It says so, and the job stays as it ended; an unknown job is a 404."""
    yard.configure()
    yard.start(1)
    job = yard.api.submitted(Job("ads", "short", 0.1).document(yard.log.path))
    assert yard.api.wait_end(job)["state"] == "succeeded"
    lines = yard.api.history(job)
    assert yard.api.stop(job).status_code == 200
    assert yard.api.job(job)["state"] == "succeeded" and yard.api.history(job) == lines
    assert yard.api.stop("01900000-0000-7000-8000-000000000000").status_code == 404


def test_a_job_on_ray_is_stopped_during_its_launch_and_while_it_runs(yard_ray):
    """Ray takes seconds to start a command: the stop comes before it, and for another after it."""
    yard = yard_ray
    yard.configure(clusters=[yard.ray_cluster(0)])
    yard.start(1)
    early = yard.api.submitted(Job("ads", "early", 300).document(yard.log.path))
    yard.api.wait_state(early, "launching", "running")
    assert yard.api.stop(early).status_code in (200, 202)
    late = yard.api.submitted(Job("ads", "late", 300).document(yard.log.path))
    until("the second one runs", lambda: yard.log.started("ads/late"), 60)
    assert yard.api.stop(late).status_code in (200, 202)
    for job in (early, late):
        assert yard.api.wait_end(job, 40)["state"] == "stopped"
    invariants.check_all(yard)


def test_a_stop_outlives_the_folder_of_a_job(yard):
    """A job that removes its own folder (or an operator who does) is still ended, and not launched again."""
    yard.configure()
    yard.start(1)
    job = yard.api.submitted(Job("ads", "gone", entrypoint='rm -rf "$PWD/.."; sleep 300').document(yard.log.path))
    yard.api.wait_state(job, "running", "launching")
    yard.api.stop(job)
    ended = yard.api.wait_end(job)
    assert ended["state"] == "stopped", ended
    until("nothing of it is left", lambda: not jobs_processes(yard))


def jobs_processes(yard) -> list[int]:
    """What still runs below the clusters' folders."""
    return [pid for pid in belonging_to(yard.folder / "clusters") if pid != os.getpid()]
