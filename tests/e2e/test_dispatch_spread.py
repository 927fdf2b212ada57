"""Dispatchers spread over the replicas by themselves, and a dead one's clusters find new ones."""

import time
from collections import Counter

from support import invariants
from support.jobs import Job
from support.wait import always, until

CLUSTERS = ["north", "east", "south", "west", "centre"]
LEASE_TTL_S = 2.0


def shares(yard) -> Counter:
    """How many clusters each process dispatches; nothing while any cluster is free."""
    held = yard.database.dispatchers()
    return Counter(held.values()) if set(held) == set(CLUSTERS) else Counter()


def test_clusters_are_shared_out_and_taken_over(yard):
    """5 clusters over 3 processes: each has 1 or 2. One is killed: its share moves within a lease."""
    yard.configure(clusters=[yard.process_cluster(name) for name in CLUSTERS])
    yard.start(3)

    def spread() -> bool:
        return sorted(shares(yard).values()) == [1, 2, 2]

    until("the clusters are spread over three processes", spread, 20)
    always("nothing moves any more", spread, for_s=1.5)
    victim = yard.process_holding("north")
    dead = yard.database.dispatchers()["north"]
    jobs = [Job("ads", f"on-{name}", 1, only=[name]) for name in CLUSTERS]
    ids = [yard.api.submitted(job.document(yard.log.path)) for job in jobs]
    for job in ids:
        yard.api.wait_state(job, "running", "succeeded")
    victim.kill()
    began = time.monotonic()

    # One may take more than its share, and give it back, before the other has looked.
    def taken_over() -> bool:
        found = shares(yard)
        return dead not in found and sorted(found.values()) == [2, 3]

    until("the dead one's clusters are dispatched by others", taken_over, LEASE_TTL_S + 4)
    assert time.monotonic() - began < LEASE_TTL_S + 4
    for job in ids:
        assert yard.api.wait_end(job)["state"] == "succeeded"
    victim.start()
    yard.wait_ready()
    until("the new process gets its share", spread, 20)
    assert len(yard.log.runs()) == len(CLUSTERS)
    invariants.check_all(yard)


def test_roles_can_be_split_over_processes(yard):
    """One process per role does together what one with all roles does."""
    yard.configure()
    for role in ("api", "intake", "scheduler", "dispatcher"):
        yard.start(1, arguments=["--roles", role], ready=role == "api")
    yard.queues.send(Job("ads", "by-sqs").document(yard.log.path))
    by_http = Job("ads", "by-http").document(yard.log.path)
    [api, *_] = yard.processes
    answer = yard.api.request("POST", "/v1/jobs", at=api.url, json=by_http)
    assert answer.status_code == 201
    receipt = until("the message is taken in", lambda: yard.api.receipt("ads", "by-sqs"))
    for job in (answer.json()["id"], receipt["job"]):
        assert yard.api.wait_end(job)["state"] == "succeeded"
    assert len(yard.log.runs()) == 2
    invariants.check_all(yard)
