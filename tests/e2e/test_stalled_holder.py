"""One holder's clock is stopped past its lease; another takes over; then the first goes on, knowing nothing."""

import json
from collections import defaultdict

from support import invariants
from support.jobs import Job
from support.wait import until

# A process that is stopped inside a transaction keeps its row locks until the database ends its silent
# connection, which is after ten seconds.
TAKEN_OVER_S = 25.0


def test_late_writes_of_a_stopped_holder_change_nothing(yard, capsys):
    """Starts, ends and launches are all in the stopped process's hands, several times over."""
    yard.configure(dispatcher={"lease_ttl_ms": 1000, "lease_margin_ms": 300})
    processes = yard.start(3)
    jobs = [Job("ads", f"job-{i:02}", 0.2 + (i % 5) * 0.2, resources={"cpu": 0.5}) for i in range(120)]
    for job in jobs:
        yard.queues.send(job.document(yard.log.path))
    took_over = 0
    for round_ in range(3):
        wanted = (round_ + 1) * 8
        until(f"{wanted} jobs have been started", lambda wanted=wanted: len(yard.log.runs()) >= wanted, 30)
        before = until("it is dispatched", lambda: yard.database.dispatchers().get("local"))
        frozen = yard.process_called(before)
        frozen.freeze()

        def another(before=before) -> bool:
            return yard.database.dispatchers().get("local", before) != before

        until("another process dispatches the cluster", another, TAKEN_OVER_S)
        seen = len(yard.log.runs())
        until("the new one launches", lambda seen=seen: len(yard.log.runs()) > seen, TAKEN_OVER_S)
        frozen.thaw()
        took_over += 1

    def all_ended() -> bool:
        rows = yard.database.query("SELECT state FROM jobs")
        return [row["state"] for row in rows] == ["succeeded"] * len(jobs)

    until("all jobs have succeeded", all_ended, 120, 0.2)
    assert all(process.alive() and process.starts == 1 for process in processes)
    assert len(yard.log.runs()) == len(jobs), "each ran exactly once"
    invariants.check_all(yard)
    tokens = check_tokens_grow(yard)
    stale = sum(yard.api.metric("yard_stale_writes_total", at=process.url) for process in processes)
    with capsys.disabled():
        print(f"\n{took_over} takeovers from a stopped process: {tokens} dispatch tokens, {stale:g} stale writes refused")


def check_tokens_grow(yard) -> int:
    """No launch was begun under an older lease after one under a newer; how many leases there were."""
    lines = yard.database.query("SELECT job_id, at_us, data FROM history WHERE code = 'launch_begun' ORDER BY at_us")
    by_cluster = defaultdict(list)
    for line in lines:
        by_cluster["local"].append(json.loads(line["data"])["lease"])
    for tokens in by_cluster.values():
        assert tokens == sorted(tokens), "a launch was begun under a lease that had been taken over"
    return len(set(by_cluster["local"]))


def test_a_stopped_process_does_not_launch_what_it_had_begun(yard):
    """The launch is begun and committed; before its call to the cluster the process stands still."""
    # The bucket gives one launch every two seconds, so that launches are waited for all the time.
    slow = {"launch_rate_per_s": 0.5, "launch_burst": 1}
    yard.configure(clusters=[yard.process_cluster("local", **slow)])
    yard.start(2)
    ids = [yard.api.submitted(Job("ads", f"job-{i}", 0.1).document(yard.log.path)) for i in range(3)]
    yard.api.wait_state(ids[0], "running", "succeeded")
    before = until("it is dispatched", lambda: yard.database.dispatchers().get("local"))
    frozen = yard.process_called(before)
    frozen.freeze()
    until("another dispatches", lambda: yard.database.dispatchers().get("local", before) != before, TAKEN_OVER_S)
    for job in ids:
        yard.api.wait_end(job, 30)
    runs = len(yard.log.runs())
    frozen.thaw()
    # It must find out by itself: as soon as it has a lease again or shows itself present, it has looked.
    until("the stopped one is back", lambda: len(yard.database.holders()) == 2, 15)
    assert len(yard.log.runs()) == runs == len(ids)
    invariants.check_all(yard)


def test_a_process_stopped_inside_a_transaction_does_not_hold_up_the_others_for_long(yard):
    """It stands still with row locks in its hands: the database undoes its transaction, and others go on."""
    yard.configure()
    [frozen] = yard.start(1)
    with yard.database.connection() as connection, connection.cursor() as ours:
        # Placing needs the team's account. We have it, so the scheduler waits for it inside its transaction.
        ours.execute("BEGIN")
        ours.execute("SELECT used FROM accounts WHERE owner = 'team:ads' FOR UPDATE")
        job = yard.api.submitted(Job("ads", "caught", 0.2).document(yard.log.path))
        waits = "SELECT COUNT(*) FROM information_schema.innodb_lock_waits"
        until("it waits for the account", lambda: yard.database.value(waits))
        frozen.freeze()
        ours.execute("ROLLBACK")
    # Now the account is locked by a process that does nothing any more.
    [other] = yard.start(1)
    second = Job("ads", "second", 0.2).document(yard.log.path)
    answer = yard.api.request("POST", "/v1/jobs", at=other.url, json=second)
    assert answer.status_code == 201

    def both_have_run() -> bool:
        return {run.tag for run in yard.log.runs()} == {"ads/caught", "ads/second"}

    until("the other process places and runs both", both_have_run, TAKEN_OVER_S)
    frozen.thaw()
    for one in (job, answer.json()["id"]):
        assert yard.api.wait_end(one)["state"] == "succeeded"
    assert len(yard.log.runs()) == 2
    invariants.check_all(yard)
