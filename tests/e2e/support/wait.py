"""Waiting for a condition, always with a deadline, never a bare sleep."""

import time
from typing import Callable, TypeVar

T = TypeVar("T")


def until(what: str, condition: Callable[[], T], timeout_s: float = 20.0, pause_s: float = 0.05) -> T:
    """Polls until `condition` gives something true, and returns that.

    An `AssertionError` or `OSError` inside the condition counts as 'not yet', and
    is part of the message when the time is over.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        last: object = None
        try:
            if found := condition():
                return found
            last = found
        except (AssertionError, OSError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"after {timeout_s:g} s still not true: {what} (last: {str(last)[:2000]})")
        time.sleep(pause_s)


def always(what: str, condition: Callable[[], bool], for_s: float, pause_s: float = 0.05) -> None:
    """Checks that `condition` holds, over and over, for a while: for what must *not* happen."""
    deadline = time.monotonic() + for_s
    while time.monotonic() < deadline:
        assert condition(), f"not true any more: {what}"
        time.sleep(pause_s)
