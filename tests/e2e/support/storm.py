"""The storm: many mixed submissions by both doors, while processes are killed. Seeded, so that it can be repeated."""

import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from .jobs import Job
from .wait import until
from .yard import Yard

GIB = 1 << 30
TEAMS = [
    {"id": "ads", "quota": {"cpu": 8, "memory": "6GiB"}},
    {"id": "ml", "quota": {"cpu": 6, "gpu": 2}},
    {"id": "ops", "quota": {"cpu": 6, "jobs": 5}},
]
TEAM_BOUNDS = {
    "ads": {"cpu": 8, "memory": 6 * GIB},
    "ml": {"cpu": 6, "gpu": 2},
    "ops": {"cpu": 6, "jobs": 5},
}
CLUSTER_BOUNDS = {
    "east": {"cpu": 6, "gpu": 2, "memory": 8 * GIB, "jobs": 8},
    "west": {"cpu": 5, "gpu": 1, "memory": 4 * GIB, "jobs": 6},
    "ray-a": {"cpu": 4, "jobs": 3},
    "ray-b": {"cpu": 4, "gpu": 2, "jobs": 3},
}
SHAPES = {
    "ads": [{"cpu": 1}, {"cpu": 2, "memory": GIB}, {"cpu": 0.5, "memory": 2 * GIB}],
    "ml": [{"cpu": 1, "gpu": 1}, {"cpu": 0.5, "gpu": 0.5}, {"cpu": 2}],
    "ops": [{"cpu": 1}, {"cpu": 0.5}],
}
# What job.sh does, the retries, and what must come of it: state and number of attempts.
FATES = [
    (70, "ok", None, ("succeeded", 1)),
    (8, "fail", 0, ("failed", 1)),
    (12, "fail-until-2", 2, ("succeeded", 2)),
    (5, "fail-until-3", 2, ("succeeded", 3)),
    (5, "fail", 1, ("failed", 2)),
]


def clusters(yard: Yard) -> list[dict]:
    """The clusters of the storm: two of processes, and the Ray heads that there are."""
    east = {"capacity": {"cpu": 6, "gpu": 2, "memory": "8GiB"}, "jobs_max": 8}
    west = {"capacity": {"cpu": 5, "gpu": 1, "memory": "4GiB"}, "jobs_max": 6}
    found = [yard.process_cluster("east", **east), yard.process_cluster("west", **west)]
    return found + [yard.ray_cluster(i, jobs_max=3) for i in range(len(yard.ray))]


@dataclass
class Plan:
    """What is sent, and what is to come of it."""

    jobs: list[Job] = field(default_factory=list)
    fates: dict[str, tuple[str, int]] = field(default_factory=dict)  # by tag: state, attempts
    to_stop: list[Job] = field(default_factory=list)
    by_http: list[dict] = field(default_factory=list)
    by_sqs: list[str] = field(default_factory=list)
    again: list[tuple[str, dict]] = field(default_factory=list)  # the same or another body, sent later: door, document
    rejected: list[str] = field(default_factory=list)  # bodies
    conflicts: list[str] = field(default_factory=list)  # bodies, by SQS
    http_conflicts: int = 0

    @property
    def dead(self) -> set[str]:
        """What must end up in the dead-letter queue, as a set: delivery is at least once."""
        return set(self.rejected) | set(self.conflicts)


def plan(yard: Yard, seed: int, count: int, on_ray: int) -> Plan:
    """`count` jobs, `on_ray` of them for the Ray clusters, and what else arrives with them."""
    dice = random.Random(seed)
    made = Plan()
    weights = [weight for weight, *_ in FATES]
    stops = max(2, count // 75)
    for i in range(count):
        team = ("ads", "ml", "ops")[i % 3]
        _, outcome, retries, fate = dice.choices(FATES, weights)[0]
        job = Job(team, f"storm-{i:03}", round(dice.uniform(0.1, 0.8), 2), outcome, dice.choice(SHAPES[team]))
        job.max_retries, job.priority, job.labels = retries, dice.choice([0, 0, 0, 5]), {"kind": "process"}
        if i < on_ray:
            job.labels, job.resources = {"kind": "ray"}, {"cpu": 1}
        elif i >= count - stops:
            job.seconds, job.outcome, fate = 300, "ok", ("stopped", 1)
            made.to_stop.append(job)
        made.jobs.append(job)
        made.fates[job.tag] = fate
    documents = [job.document(yard.log.path) for job in made.jobs]
    dice.shuffle(documents)
    half = len(documents) // 2
    made.by_http, for_sqs = documents[:half], documents[half:]
    _add_repeats(made, dice, count // 15, count // 30)
    made.rejected = _rejected(yard, max(4, count // 30))
    made.by_sqs = [json.dumps(document) for document in for_sqs] + made.rejected
    dice.shuffle(made.by_sqs)
    return made


def _add_repeats(made: Plan, dice: random.Random, repeats: int, conflicts: int) -> None:
    """The same body again, and other bodies under the same keys, by both doors."""
    documents = made.by_http
    for document in dice.sample(documents, min(repeats, len(documents))):
        made.again.append((dice.choice(["sqs", "http"]), document))
    for i, document in enumerate(dice.sample(documents, min(conflicts, len(documents)))):
        other = {**document, "name": "another body under the same key"}
        door = ("sqs", "http")[i % 2]
        made.again.append((door, other))
        if door == "sqs":
            made.conflicts.append(json.dumps(other))
        else:
            made.http_conflicts += 1


def _rejected(yard: Yard, count: int) -> list[str]:
    good = Job("ads", "x").document(yard.log.path)
    kinds = [
        lambda i: "no JSON at all " * i,
        lambda i: json.dumps({**good, "key": f"bad-{i}", "team": "nobody"}),
        lambda i: json.dumps({**good, "key": f"bad-{i}", "resources": {"cpu": 10_000}}),
        lambda i: json.dumps({**good, "key": f"bad-{i}", "colour": "red", "entrypoint": 7}),
    ]
    return [kinds[i % len(kinds)](i + 1) for i in range(count)]


class Senders:
    """Sends a plan by both doors at once, through whatever processes live."""

    def __init__(self, yard: Yard, made: Plan):
        self._yard, self._plan = yard, made
        self.answers: dict[int, int] = {}  # HTTP status → how often
        self._lock = threading.Lock()

    def send_first(self) -> None:
        """Everything but the repeats. Returns when all of it has been handed over."""
        with ThreadPoolExecutor(8) as pool:
            jobs = [pool.submit(self._http, document, {200, 201}) for document in self._plan.by_http]
            jobs += [pool.submit(self._yard.queues.send, body) for body in self._plan.by_sqs]
            for job in jobs:
                job.result()

    def send_again(self) -> None:
        """The repeats, once every first submission has its receipt: only then is it sure which body is first."""
        until("every job has been accepted", lambda: self._accepted() == len(self._plan.jobs), 400, 0.2)
        conflicts = {"another body under the same key"}
        for door, document in self._plan.again:
            if door == "sqs":
                self._yard.queues.send(document)
            else:
                self._http(document, {409} if document["name"] in conflicts else {200})

    def stop_some(self) -> None:
        """Stops those jobs that would run for ever, each once it really runs."""
        ids = {row["tag"]: row["id"].hex() for row in job_rows(self._yard)}
        for job in self._plan.to_stop:
            until(f"{job.tag} runs", lambda job=job: self._yard.log.started(job.tag), 600, 0.2)

            def stop(job=job) -> bool:
                return self._yard.api.stop(ids[job.tag]).status_code in (200, 202)

            until(f"the wish to stop {job.tag} is taken", stop, 30)

    def _accepted(self) -> int:
        return self._yard.database.value("SELECT COUNT(*) FROM jobs")

    def _http(self, document: dict, wanted: set[int]) -> None:
        answer = self._yard.api.submit(document)
        assert answer.status_code in wanted, f"{document['key']}: {answer.status_code} {answer.text[:500]}"
        with self._lock:
            self.answers[answer.status_code] = self.answers.get(answer.status_code, 0) + 1


def job_rows(yard: Yard) -> list[dict]:
    """Every job of the store with its tag."""
    return yard.database.query("SELECT id, CONCAT(team, '/', idem_key) AS tag, state, attempts FROM jobs")
