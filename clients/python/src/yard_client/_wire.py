"""What both clients do with HTTP, without doing it: settings, headers, bodies, lines."""

from __future__ import annotations

import codecs
import os
from typing import Any

import httpx

from ._errors import ApiError, Unreachable, api_error

DEFAULT_SERVER = "http://127.0.0.1:8920"
CHUNK_BYTES = 65_536


def settings(server: str | None, token: str | None, timeout_s: float) -> dict[str, Any]:
    """The arguments of httpx's clients. What is not given comes from YARD_SERVER and YARD_TOKEN."""
    token = token or os.environ.get("YARD_TOKEN")
    return {
        "base_url": (server or os.environ.get("YARD_SERVER") or DEFAULT_SERVER).rstrip("/"),
        "headers": {"Authorization": f"Bearer {token}"} if token else {},
        "timeout": httpx.Timeout(timeout_s, connect=min(timeout_s, 5.0)),
    }


def body(answer: httpx.Response) -> Any:
    """The JSON of an answer; its text if it is none (a proxy's error page)."""
    try:
        return answer.json()
    except ValueError:
        return answer.text


def gave_up(failure: Exception) -> Exception:
    """What to raise when patience is over: a refusal as it is, a failure of the way to the server as such."""
    if isinstance(failure, ApiError):
        return failure
    return Unreachable(f"the server can't be reached: {failure}")


def stream_error(status: int, content: bytes) -> ApiError:
    """The error for a stream that was refused."""
    answer = httpx.Response(status, content=content)
    return api_error(status, body(answer))


class Lines:
    """Cuts a stream of bytes into lines of text."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, chunk: bytes, final: bool = False) -> list[str]:
        """The lines that are complete now; at the end, also one that lacks its line feed."""
        *lines, self._rest = (self._rest + self._decoder.decode(chunk, final)).split("\n")
        if final and self._rest:
            lines.append(self._rest)
            self._rest = ""
        return [line.removesuffix("\r") for line in lines]
