"""Submissions, and the command that their jobs run."""

import shlex
from dataclasses import dataclass, field
from pathlib import Path

SCRIPT = Path(__file__).with_name("job.sh")


@dataclass
class Job:
    """One submission and what it is to come to."""

    team: str
    key: str
    seconds: float | Path = 0.2  # or the file until which is there it runs: see `Yard.gate`
    outcome: str = "ok"  # what job.sh is to do
    resources: dict = field(default_factory=lambda: {"cpu": 1})
    only: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    max_retries: int | None = None
    timeouts: dict = field(default_factory=dict)
    priority: int = 0
    entrypoint: str | None = None  # instead of job.sh
    ray_cluster: dict = field(default_factory=dict)

    @property
    def tag(self) -> str:
        """How it is called in the cluster's log."""
        return f"{self.team}/{self.key}"

    def document(self, log: Path) -> dict:
        """The JSON document to send."""
        command = [str(SCRIPT), str(log), self.tag, str(self.seconds), self.outcome]
        document: dict = {
            "v": 1,
            "team": self.team,
            "key": self.key,
            "name": self.key,
            "entrypoint": self.entrypoint or shlex.join(command),
            "resources": self.resources,
        }
        clusters = {name: value for name, value in (("only", self.only), ("labels", self.labels)) if value}
        optional = {"clusters": clusters, "timeouts": self.timeouts, "priority": self.priority, "ray_cluster": self.ray_cluster}
        document |= {name: value for name, value in optional.items() if value}
        if self.max_retries is not None:
            document["retry"] = {"max_retries": self.max_retries}
        return document
