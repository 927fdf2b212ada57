"""Where a reader is in a job's output, and what it asks for next. Nothing here does I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ._calls import ENDED
from ._models import JobView

Attempt = int | Literal["all"] | None
"""One attempt by its number, all that there are now one after the other, or the last."""

Source = Literal["job", "head", "workers", "submitter"]
"""Whose output: that of the job's command, or of pods of its own Ray cluster (Kubernetes clusters only)."""

NO_LOG = "no_log"
"""The code for an attempt that has no log, yet or any more."""

LOOK_AGAIN_S = 2
"""How long one look for a job's next attempt waits at most."""


@dataclass
class Reader:
    """What has been read. The log of one attempt has offsets, by which a stream that breaks is taken up where it broke; all
    attempts together, and what pods print, have none."""

    attempt: Attempt
    source: Source
    offset: int
    follow: bool
    begun: bool = False
    more: bool = False

    def __post_init__(self) -> None:
        self.has_offsets = self.attempt != "all" and self.source == "job"
        self.goes_on = self.follow and self.has_offsets and self.attempt is None

    def params(self) -> dict[str, Any]:
        """The parameters of the next request. What is at its default is left out, since not everything goes together."""
        asked = {
            "attempt": self.attempt,
            "source": self.source if self.source != "job" else None,
            "offset": self.offset or None,
            "follow": "true" if self.follow else None,
            # Only the log's own bytes: offsets are counted in those.
            "plain": "true" if self.has_offsets else None,
        }
        return {name: value for name, value in asked.items() if value is not None}

    def opened(self, headers: Mapping[str, str]) -> None:
        """A stream begins: of which attempt, at which byte (some before may not have been kept), and whether it ends where
        bytes are missing."""
        if not self.has_offsets:
            return
        attempt, first = headers.get("x-yard-attempt", ""), headers.get("x-yard-log-offset", "")
        if self.attempt is None and attempt.isdigit():
            self.attempt = int(attempt)
        if first.isdigit():
            self.offset = max(self.offset, int(first))
        self.more = headers.get("x-yard-log-more") == "true"

    def took(self, chunk: bytes) -> None:
        """What is handed out."""
        self.begun = True
        self.offset += len(chunk) if self.has_offsets else 0

    def may_try_again(self) -> bool:
        """Whether another request would hand out nothing twice."""
        return self.has_offsets or not self.begun

    def turn_to(self, attempt: int) -> None:
        """Another attempt, from its beginning."""
        self.attempt, self.offset = attempt, 0


def attempt_after(job: JobView, number: int | None) -> int | None:
    """The attempt after this one; without a number, the last one."""
    numbers = [attempt["number"] for attempt in job["attempts"]]
    if number is None:
        return max(numbers, default=None)
    return min((one for one in numbers if one > number), default=None)


def has_ended(job: JobView) -> bool:
    """Whether there will be no other attempt."""
    return job["state"] in ENDED


def is_over(job: JobView, reader: Reader) -> bool:
    """Whether the attempt that is read has ended."""
    return all(attempt.get("ended_at") for attempt in job["attempts"] if attempt["number"] == reader.attempt)
