"""The storm: three processes share the work of hundreds of jobs while one of them is killed every second."""

import os
import time
from collections import Counter

import pytest

from support import evidence, invariants, storm
from support.killer import Killer
from support.wait import until


def test_300_jobs_while_processes_are_killed(yard_ray, capsys):
    """On MariaDB, SQS, two process clusters and two Ray heads: all ends as it should, and exactly once."""
    run_storm(yard_ray, capsys, seed=20, count=300, on_ray=12)


@pytest.mark.mysql
def test_60_jobs_while_processes_are_killed_on_mysql(yard, capsys):
    """The same on a real MySQL, smaller and without Ray."""
    run_storm(yard, capsys, seed=9, count=60, on_ray=0)


def run_storm(yard, capsys, *, seed: int, count: int, on_ray: int) -> None:
    """Sends, kills, waits for the end of every job, then looks at everything that must hold."""
    seed = int(os.environ.get("YARD_TEST_SEED", seed))
    leases = {"lease_ttl_ms": 1500, "lease_margin_ms": 400}
    yard.configure(teams=storm.TEAMS, clusters=storm.clusters(yard), scheduler=leases, dispatcher=leases)
    yard.start(3)
    made = storm.plan(yard, seed, count, on_ray)
    senders = storm.Senders(yard, made)
    began = time.monotonic()
    with Killer(yard, seed) as killer:
        senders.send_first()
        senders.send_again()
        senders.stop_some()

        def all_ended() -> bool:
            killer.check()
            return ended(yard) == count and yard.queues.waiting() == 0

        until(f"all {count} jobs have ended and the queue is empty", all_ended, 900, 0.2)
    killer.check()
    took = time.monotonic() - began
    assert killer.kills >= took / 3, f"only {killer.kills} kills in {took:.0f} s: this was no storm"
    yard.wait_ready()
    runs = all_runs(yard)
    check_fates(yard, made)
    invariants.check_all(yard, runs)
    most = check_bounds(yard, made, runs)
    check_queues(yard, made)
    with capsys.disabled():
        print(summary(yard, made, runs, most, killer.kills, took))


def ended(yard) -> int:
    """How many jobs have ended, by their rows."""
    states = [row["state"] for row in storm.job_rows(yard)]
    return sum(state in invariants.ENDS for state in states)


def all_runs(yard) -> list[evidence.Run]:
    """What ran, by the jobs' log; Ray's own list must name the same attempts on Ray."""
    runs = yard.log.runs()
    tags = {row["id"].hex(): row["tag"] for row in storm.job_rows(yard)}
    by_ray = {}
    for head in yard.ray:
        found = evidence.ray_runs(head, f"ray-{head.cluster}", tags)
        by_ray |= {run.name: run for run in found}
    logged = {run.name for run in runs if run.cluster == "ray"}
    assert logged == set(by_ray), f"Ray and the jobs' log differ: {logged ^ set(by_ray)}"
    for run in runs:
        run.cluster = by_ray[run.name].cluster if run.name in by_ray else run.cluster
    return runs


def check_fates(yard, made: storm.Plan) -> None:
    """Every job is there once, in the state and with the number of attempts that its command determines."""
    rows = storm.job_rows(yard)
    counts = Counter(row["tag"] for row in rows)
    assert set(counts) == set(made.fates) and set(counts.values()) == {1}, "jobs are missing, doubled or unknown"
    wrong = {row["tag"]: (row["state"], row["attempts"]) for row in rows if made.fates[row["tag"]] != (row["state"], row["attempts"])}
    assert not wrong, f"not as they should be: {[(tag, got, made.fates[tag]) for tag, got in wrong.items()]}"


def check_bounds(yard, made: storm.Plan, runs: list[evidence.Run]) -> dict:
    """At no moment did more run at the clusters than quotas and capacities allow; and they were made use of."""
    use = {job.tag: job.resources for job in made.jobs}
    by_team = evidence.peaks(runs, "team", use)
    by_cluster = evidence.peaks(runs, "cluster", use)
    over = evidence.exceeded(by_team, storm.TEAM_BOUNDS) + evidence.exceeded(by_cluster, storm.CLUSTER_BOUNDS)
    assert not over, f"exceeded: {over}"
    fullest = max(
        by_team[team].get(resource, 0) / bound
        for team, bounds in storm.TEAM_BOUNDS.items()
        for resource, bound in bounds.items()
    )
    assert fullest > 0.7, f"the load was too small to say anything about quotas: {by_team}"
    return {**by_team, **by_cluster}


def check_queues(yard, made: storm.Plan) -> None:
    """The queue is empty; the dead-letter queue has exactly what was not accepted, each with a reason."""
    assert yard.queues.waiting() == 0
    letters = yard.queues.dead_letters()
    assert {letter["body"] for letter in letters} == made.dead
    assert all(letter.get("yard.reason") for letter in letters), letters[:3]


def summary(yard, made, runs, most, kills: int, took: float) -> str:
    """What happened, for people."""
    rows = storm.job_rows(yard)
    states = Counter(row["state"] for row in rows)
    lost = len(set(made.fates) - {row["tag"] for row in rows if row["state"] in invariants.ENDS})
    twice, at_once = evidence.launched_twice(runs), evidence.overlaps(runs)
    shown = {owner: {name: round(amount, 3) for name, amount in amounts.items()} for owner, amounts in most.items()}
    lines = [
        "",
        f"the storm on {yard.database.server.name}: {len(made.jobs)} jobs in {took:.1f} s, {kills} kills of 3 processes",
        f"  ended: {dict(states)}; lost {lost}, doubled {len(rows) - len(made.fates)}",
        f"  at the clusters: {len(runs)} attempts ran, of {len({run.job for run in runs})} jobs; "
        f"{len(twice)} twice, {len(at_once)} beside another of its job",
        f"  by SQS {len(made.by_sqs)}, by HTTP {len(made.by_http)}, again {len(made.again)}, dead letters {len(made.dead)}",
        *(f"  most at once, {owner}: {amounts}" for owner, amounts in sorted(shown.items())),
    ]
    return "\n".join(lines)
