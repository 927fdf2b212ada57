"""When a call is tried again. Every call may be: submissions have keys, and stopping twice changes nothing."""

from __future__ import annotations

import random
from dataclasses import dataclass

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0


@dataclass
class Patience:
    """The tries of one call. Times are of a monotonic clock, in seconds."""

    until: float
    pause_s: float = FIRST_PAUSE_S

    def next_pause(self, now: float, retry_after: str | None = None) -> float | None:
        """How long to wait before the next try; `None` if patience is over."""
        pause = self.pause_s * random.uniform(0.5, 1.0)
        self.pause_s = min(self.pause_s * 2, LONGEST_PAUSE_S)
        if retry_after is not None and retry_after.isdigit():
            pause = max(pause, float(retry_after))
        return pause if now + pause < self.until else None


def is_passing(status: int) -> bool:
    """Whether a later try may be answered otherwise."""
    return status in (429, 502, 503, 504)
