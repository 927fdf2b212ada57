"""What can go wrong."""

from __future__ import annotations

from collections.abc import Sequence

from ._models import FieldProblem


class YardError(Exception):
    """Everything that this package raises, but for `TimeoutError`."""


class Unreachable(YardError):
    """The server could not be reached, or could not answer, for as long as the client had patience."""


class ApiError(YardError):
    """The server refused the request; decide by `code` (docs/http-api.md lists them)."""

    def __init__(self, status: int, code: str, detail: str, errors: Sequence[FieldProblem] = (), job: str | None = None):
        lines = [f"{code} ({status}): {detail}"]
        lines += [f"  {error['field'] or 'document'}: {error['message']}" for error in errors]
        super().__init__("\n".join(lines))
        self.status = status
        """The HTTP status."""
        self.code = code
        """The stable code."""
        self.detail = detail
        """What went wrong this time."""
        self.errors = list(errors)
        """Everything that is wrong with the request, by field."""
        self.job = job
        """The job that it is about: with a conflict, the one that has the key."""


class Rejected(ApiError):
    """The submission can't be accepted: `errors` has every reason."""


class Conflict(ApiError):
    """The key belongs to a job with another document: `job`."""


class NotFound(ApiError):
    """There is no such job or log, or it is another team's."""


class Denied(ApiError):
    """The token is missing, not valid any more, or not allowed to do this."""


_BY_STATUS = {401: Denied, 403: Denied, 404: NotFound}
_BY_CODE = {"rejected": Rejected, "conflict": Conflict}


def api_error(status: int, problem: object) -> ApiError:
    """The error for a problem document, or for whatever came in its place."""
    fields = problem if isinstance(problem, dict) else {}
    code = str(fields.get("code", "unknown"))
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status) or ApiError
    detail = str(fields.get("detail", "the server gave no reason"))
    return kind(status, code, detail, fields.get("errors") or (), fields.get("job"))
