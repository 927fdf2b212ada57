"""The asynchronous client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, TypeVar, cast

import httpx
from typing_extensions import Self, Unpack

from . import _calls as calls
from ._errors import NotFound, api_error
from ._logs import LOOK_AGAIN_S, NO_LOG, Attempt, Reader, Source, attempt_after, has_ended, is_over
from ._models import ExplanationView, JobSummary, JobView, LineView, ReceiptView, StopAnswerView, Submission, Submitted
from ._policy import Patience, is_passing
from ._wire import CHUNK_BYTES, Lines, body, gave_up, settings, stream_error

T = TypeVar("T")


class AsyncClient:
    """Talks to one installation, in one event loop. Close it, or use it in an `async with`."""

    def __init__(
        self,
        server: str | None = None,
        *,
        token: str | None = None,
        timeout_s: float = 30.0,
        patience_s: float = 60.0,
    ):
        """`server` and `token` come from YARD_SERVER and YARD_TOKEN if they are not given. `timeout_s` is of one request;
        for `patience_s` it is tried again."""
        self._http = httpx.AsyncClient(**settings(server, token, timeout_s))
        self._patience_s = patience_s
        self._timeout_s = timeout_s

    async def submit(self, document: Submission | None = None, **fields: Unpack[Submission]) -> Submitted:
        """Hands over a job: a whole document, or its fields. The same document under the same key is the same job."""
        return await self._run(calls.submit(cast(Submission, {**(document or {}), **fields})))

    async def job(self, id: str) -> JobView:
        """One job, whole."""
        return await self._run(calls.job(id))

    async def jobs(self, **filters: Any) -> AsyncIterator[JobSummary]:
        """Jobs, newest first, page after page. Filters are those of `GET /v1/jobs`: team, state, cluster, …"""
        while True:
            page = await self._run(calls.jobs(filters))
            for job in page["jobs"]:
                yield job
            filters["cursor"] = page.get("next")
            if filters["cursor"] is None:
                return

    async def history(self, id: str) -> AsyncIterator[LineView]:
        """Everything that happened to a job."""
        after: int | None = 0
        while after is not None:
            page = await self._run(calls.history(id, after))
            for line in page["lines"]:
                yield line
            after = page.get("next")

    async def explain(self, id: str) -> ExplanationView:
        """Why a job waits, and what would change that."""
        return await self._run(calls.explain(id))

    async def stop(self, id: str, reason: str | None = None) -> StopAnswerView:
        """Asks for a job to be stopped. Asking twice changes nothing."""
        return await self._run(calls.stop(id, reason))

    async def receipt(self, team: str, key: str) -> ReceiptView | None:
        """What became of a submission, through whichever door it came; `None` as long as none has been seen."""
        return await self._run(calls.receipt(team, key))

    async def wait(self, id: str, timeout_s: float | None = None) -> JobView:
        """The job, once it has ended. Raises `TimeoutError` when `timeout_s` is over."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left_s = None if deadline is None else deadline - time.monotonic()
            # Less than a second can't be waited for at the server.
            here_s = left_s if left_s is not None and left_s < 1 else None
            wait_s = 0 if here_s is not None else calls.wait_of(left_s, self._timeout_s)
            if here_s is not None and here_s > 0:
                await asyncio.sleep(here_s)
            job = await self._run(calls.job(id, wait_s))
            if job["state"] in calls.ENDED:
                return job
            if here_s is not None:
                raise TimeoutError(f"job {id} is still {job['state']} after {timeout_s:g} s")

    async def logs(
        self, id: str, *, attempt: Attempt = None, source: Source = "job", offset: int = 0, follow: bool = False
    ) -> AsyncIterator[bytes]:
        """A job's output from byte `offset` on, of the last attempt unless told otherwise. With `follow`, until the given
        attempt has ended; without a given one it waits for the first, and goes on to the job's end, attempt after attempt.
        A stream that breaks is taken up where it broke; of all attempts, and of pods (`source`), it can't be, and raises
        `Unreachable`."""
        reader = Reader(attempt, source, offset, follow)
        if reader.goes_on:
            reader.attempt = await self._attempt_after(id, None)
        while True:
            missing = None
            try:
                async for chunk in self._stream(id, reader):
                    yield chunk
            except NotFound as error:
                if not (reader.goes_on and error.code == NO_LOG):
                    raise
                missing = error  # of an attempt that never ran, perhaps
            number = reader.attempt
            following = await self._attempt_after(id, number) if reader.goes_on and isinstance(number, int) else None
            if following is None and missing is not None:
                raise missing
            if following is None:
                return
            reader.turn_to(following)

    async def _attempt_after(self, id: str, number: int | None) -> int | None:
        """The next attempt (without a number the last), when there is one; `None` if the job has ended without."""
        wait_s = 0
        while True:
            job = await self._run(calls.job(id, wait_s))
            if (found := attempt_after(job, number)) is not None or has_ended(job):
                return found
            wait_s = LOOK_AGAIN_S

    async def _stream(self, id: str, reader: Reader) -> AsyncIterator[bytes]:
        """To the end of what the reader asks for, in as many requests as that takes."""
        patience = Patience(time.monotonic() + self._patience_s)
        while True:
            failure: Exception
            after = None
            try:
                async with self._http.stream("GET", calls.log_path(id), params=reader.params()) as answer:
                    if answer.status_code < 400:
                        reader.opened(answer.headers)
                        async for chunk in answer.aiter_bytes(CHUNK_BYTES if not reader.follow else None):
                            reader.took(chunk)
                            patience = Patience(time.monotonic() + self._patience_s)
                            yield chunk
                        if reader.more:
                            continue
                        return
                    failure = stream_error(answer.status_code, await answer.aread())
                    after = answer.headers.get("retry-after")
                    if reader.goes_on and failure.code == NO_LOG and not is_over(await self._run(calls.job(id)), reader):
                        patience.until = time.monotonic() + self._patience_s  # placed, and not launched yet
                    elif not is_passing(answer.status_code):
                        raise failure
            except httpx.TransportError as error:
                failure = error
            pause = patience.next_pause(time.monotonic(), after) if reader.may_try_again() else None
            if pause is None:
                raise gave_up(failure) from failure
            await asyncio.sleep(pause)

    async def log_lines(
        self, id: str, *, attempt: Attempt = None, source: Source = "job", follow: bool = False
    ) -> AsyncIterator[str]:
        """As `logs`, in lines of text."""
        lines = Lines()
        async for chunk in self.logs(id, attempt=attempt, source=source, follow=follow):
            for line in lines.feed(chunk):
                yield line
        for line in lines.feed(b"", final=True):
            yield line

    async def close(self) -> None:
        """Closes its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, call: calls.Call[T]) -> T:
        patience = Patience(time.monotonic() + self._patience_s)
        while True:
            after = None
            failure: Exception
            try:
                answer = await self._http.request(call.method, call.path, params=call.params, json=call.json)
                if not is_passing(answer.status_code):
                    return call.read(answer.status_code, body(answer))
                failure, after = api_error(answer.status_code, body(answer)), answer.headers.get("retry-after")
            except httpx.TransportError as error:
                failure = error
            pause = patience.next_pause(time.monotonic(), after)
            if pause is None:
                raise gave_up(failure) from failure
            await asyncio.sleep(pause)
