"""Errors as clients see them: problem documents (RFC 9457) with a remedy."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from master.control.jsonrpc import RpcFailure
from master.errors import Ambiguous, Busy, Conflict, Invalid, NotFound
from master.views import Problem
from schemas.errors import ConfigurationError, IoTCloudError
from telemetry.logs import logger

_STATUSES: Final[tuple[tuple[type[IoTCloudError], int], ...]] = (
    (NotFound, 404),
    (Ambiguous, 409),
    (Conflict, 409),
    (Invalid, 422),
    (Busy, 503),
    (RpcFailure, 502),
    (ConfigurationError, 400),
)
PROBLEM_TYPE: Final = "application/problem+json"


def answer(status: int, detail: str, remedy: str = "") -> Response[Problem]:
    problem = Problem(HTTPStatus(status).phrase, status, detail, remedy)
    return Response(problem, status_code=status, media_type=PROBLEM_TYPE)


def refused(_request: Request[Any, Any, Any], error: IoTCloudError) -> Response[Problem]:
    """An error raised on purpose."""
    status = next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)
    return answer(status, error.message, error.remedy)


def rejected(_request: Request[Any, Any, Any], error: HTTPException) -> Response[Problem]:
    """What Litestar refuses before a handler sees it."""
    detail = error.detail
    if isinstance(error, ValidationException) and isinstance(error.extra, list):
        detail = "; ".join(_shown(item) for item in error.extra) or detail
    response = answer(error.status_code, detail, "the interface is described at /schema" if error.status_code < 500 else "")
    response.headers.update(error.headers or {})
    return response


def too_deep(_request: Request[Any, Any, Any], _error: RecursionError) -> Response[Problem]:
    """A body of brackets within brackets."""
    return answer(400, "the body is nested too deeply")


def failed(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """A defect. Its text stays in the log."""
    logger("rest").error("a request failed", method=request.method, path=request.url.path, exc_info=error)
    return answer(500, "the master failed to answer", "see its log")


def _shown(item: Any) -> str:
    return f"{item.get('key', '')}: {item.get('message', '')}".strip(": ") if isinstance(item, dict) else str(item)
