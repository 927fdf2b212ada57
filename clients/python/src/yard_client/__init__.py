"""A small, typed client of Switchyard: one queue in, many Ray clusters out."""

from ._async_client import AsyncClient
from ._client import Client
from ._errors import ApiError, Conflict, Denied, NotFound, Rejected, Unreachable, YardError
from ._models import (
    ExplanationView,
    FailureView,
    FieldProblem,
    JobSummary,
    JobView,
    LineView,
    ReceiptView,
    StopAnswerView,
    Submission,
    Submitted,
)

__all__ = [
    "ApiError",
    "AsyncClient",
    "Client",
    "Conflict",
    "Denied",
    "ExplanationView",
    "FailureView",
    "FieldProblem",
    "JobSummary",
    "JobView",
    "LineView",
    "NotFound",
    "ReceiptView",
    "Rejected",
    "StopAnswerView",
    "Submission",
    "Submitted",
    "Unreachable",
    "YardError",
]
