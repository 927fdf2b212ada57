"""What really ran at the clusters: from the log that the jobs themselves write, and from Ray's job list.

Nothing here asks Switchyard. Its times need no allowance for skew: all are of one host's clock, and a charge
is committed before the launch and refunded after the end, so what runs is always inside what is charged.
"""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Run:
    """One attempt as its cluster had it. Times are in nanoseconds since the epoch."""

    name: str  # yard-<job>-<attempt>
    tag: str  # team/key
    cluster: str
    start: int
    end: int | None = None
    how: str | None = None  # end-<exit code> or stopped

    @property
    def job(self) -> str:
        """The job's id, without hyphens."""
        return self.name.split("-")[1]

    @property
    def attempt(self) -> int:
        """Which launch of the job."""
        return int(self.name.rsplit("-", 1)[1])

    @property
    def team(self) -> str:
        """Who is charged."""
        return self.tag.split("/", 1)[0]


class ClusterLog:
    """The log that `job.sh` writes."""

    def __init__(self, path: Path):
        self.path = path

    def lines(self) -> list[list[str]]:
        """The fields of every complete line: time, what, name, tag, pid, folder."""
        if not self.path.exists():
            return []
        complete, _, _ = self.path.read_text().rpartition("\n")
        lines = [line.split(" ", 5) for line in complete.splitlines()]
        broken = [line for line in lines if len(line) != 6]
        assert not broken, f"lines that are not whole: {broken[:3]}"
        return lines

    def runs(self) -> list[Run]:
        """Every start with its end. A second start of one name is a run of its own."""
        runs: list[Run] = []
        open_runs: dict[tuple[str, str], Run] = {}
        for time, what, name, tag, pid, folder in self.lines():
            if what == "start":
                run = Run(name, tag, _cluster_of(folder), int(time))
                open_runs[name, pid] = run
                runs.append(run)
            else:
                run = open_runs.pop((name, pid))
                run.end, run.how = int(time), what
        return runs

    def started(self, tag: str) -> list[Run]:
        """The runs of one submission, in order."""
        return [run for run in self.runs() if run.tag == tag]


def _cluster_of(folder: str) -> str:
    """The process driver runs an attempt in <dir of the cluster>/<name>/work; Ray runs it elsewhere."""
    parts = Path(folder).parts
    return parts[-3] if parts[-1] == "work" and parts[-2].startswith("yard-") else "ray"


def ray_jobs(head) -> list[dict]:
    """The submissions that a Ray head knows, in its own words."""
    status, text = head.request("GET", "/api/jobs/")
    assert status == 200, f"{head.name}: {status} {text[:500]}"
    return [job for job in json.loads(text) if job["type"] == "SUBMISSION"]


def ray_runs(head, cluster: str, tags: dict[str, str]) -> list[Run]:
    """Ray's submissions as runs; `tags` gives the submission of each job id (without hyphens)."""
    runs = []
    for job in ray_jobs(head):
        run = Run(job["submission_id"], "", cluster, 0, None, job["status"])
        # A head is shared by tests. What an earlier one deleted may be listed as a ghost, without times (docs/facts).
        if run.job not in tags:
            continue
        run.tag, run.start = tags[run.job], job["start_time"] * 1_000_000
        run.end = job["end_time"] and job["end_time"] * 1_000_000
        runs.append(run)
    return runs


def launched_twice(runs: list[Run]) -> list[str]:
    """Names that were started more than once: must be none."""
    return [name for name, count in Counter(run.name for run in runs).items() if count > 1]


def overlaps(runs: list[Run]) -> list[tuple[str, str]]:
    """Pairs of runs of one job that were alive at the same time: must be none."""
    by_job = defaultdict(list)
    for run in runs:
        by_job[run.job].append(run)
    found = []
    for group in by_job.values():
        group.sort(key=lambda run: run.start)
        for before, after in zip(group, group[1:]):
            if before.end is None or before.end > after.start:
                found.append((before.name, after.name))
    return found


def peaks(runs: list[Run], by: str, use: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """The most of each resource in use at once, by `team` or `cluster`.

    `use` gives what each submission (by tag) asks for; a run without an end counts to the end of time.
    """
    changes = defaultdict(list)
    for run in runs:
        amounts = {**use[run.tag], "jobs": 1}
        changes[getattr(run, by)].append((run.start, 1, amounts))
        if run.end is not None:
            changes[getattr(run, by)].append((run.end, -1, amounts))
    found: dict[str, dict[str, float]] = {}
    for owner, steps in changes.items():
        now: Counter = Counter()
        most: Counter = Counter()
        for _, sign, amounts in sorted(steps, key=lambda step: step[:2]):  # ends before starts of the same moment
            for resource, amount in amounts.items():
                now[resource] += sign * amount
                most[resource] = max(most[resource], now[resource])
        found[owner] = dict(most)
    return found


def exceeded(most: dict[str, dict[str, float]], bounds: dict[str, dict[str, float]]) -> list[str]:
    """Where a peak is above its bound: must be nowhere."""
    return [
        f"{owner}: {amount:g} of {resource}, bound {bounds[owner][resource]:g}"
        for owner, amounts in most.items()
        for resource, amount in amounts.items()
        if resource in bounds.get(owner, {}) and amount > bounds[owner][resource] + 1e-9
    ]
