"""One function per endpoint: a request, and how its answer is read. Nothing here does I/O, so that the synchronous and the
asynchronous client are the same."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast
from urllib.parse import quote

from ._errors import api_error
from ._models import (
    ExplanationView,
    HistoryView,
    JobList,
    JobView,
    ReceiptView,
    StopAnswerView,
    Submission,
    Submitted,
)

T = TypeVar("T")

WAIT_S = 20.0
"""How long one request waits at most for a change of a job."""

ENDED = frozenset({"succeeded", "failed", "stopped", "expired"})
"""The states that a job does not leave."""


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request and how its answer is read."""

    method: str
    path: str
    read: Callable[[int, Any], T]
    json: Any = None
    params: Mapping[str, Any] = field(default_factory=dict)


def _of(kind: type[T]) -> Callable[[int, Any], T]:
    def read(status: int, body: Any) -> T:
        if status >= 400:
            raise api_error(status, body)
        return cast(T, body)

    return read


def _or_none(kind: type[T]) -> Callable[[int, Any], T | None]:
    def read(status: int, body: Any) -> T | None:
        return None if status == 404 else _of(kind)(status, body)

    return read


def submit(document: Submission) -> Call[Submitted]:
    """A submission without a key gets one, so that sending it again is harmless."""
    if not document.get("key"):
        document = cast(Submission, {**document, "key": f"py:{uuid.uuid4()}"})
    if not document.get("v"):
        document = cast(Submission, {**document, "v": 1})
    return Call("POST", "/v1/jobs", _of(Submitted), json=document)


def job(id: str, wait_s: int = 0) -> Call[JobView]:
    """With `wait_s` it is answered when something has happened to the job, it has ended, or the time is over."""
    return Call("GET", f"/v1/jobs/{_segment(id)}", _of(JobView), params={"wait": f"{wait_s}s"} if wait_s else {})


def jobs(params: Mapping[str, Any]) -> Call[JobList]:
    return Call("GET", "/v1/jobs", _of(JobList), params={k: v for k, v in params.items() if v is not None})


def history(id: str, after: int) -> Call[HistoryView]:
    return Call("GET", f"/v1/jobs/{_segment(id)}/history", _of(HistoryView), params={"after": after} if after else {})


def explain(id: str) -> Call[ExplanationView]:
    return Call("GET", f"/v1/jobs/{_segment(id)}/explain", _of(ExplanationView))


def stop(id: str, reason: str | None) -> Call[StopAnswerView]:
    body = {"reason": reason} if reason else None
    return Call("POST", f"/v1/jobs/{_segment(id)}/stop", _of(StopAnswerView), json=body)


def receipt(team: str, key: str) -> Call[ReceiptView | None]:
    return Call("GET", f"/v1/receipts/{_segment(team)}/{quote(key)}", _or_none(ReceiptView))


def wait_of(left_s: float | None, timeout_s: float) -> int:
    """For how many seconds the next request is to wait: no longer than there is time, and well within its own timeout."""
    longest = min(WAIT_S, timeout_s / 2)
    return max(1, int(longest if left_s is None else min(longest, left_s)))


def log_path(id: str) -> str:
    return f"/v1/jobs/{_segment(id)}/logs"


def _segment(text: str) -> str:
    return quote(text, safe="")
