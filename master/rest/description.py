"""The OpenAPI document, with what Litestar does not know of: every error is a problem document."""

from __future__ import annotations

from typing import Any, Final

from litestar import Request
from litestar.openapi.plugins import JsonRenderPlugin

from master.rest.problems import PROBLEM_TYPE

_PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "title": "Problem",
    "description": "Why a request failed (RFC 9457), and what to do.",
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "remedy": {"type": "string"},
    },
    "required": ["title", "status", "detail"],
}
_RESPONSE: Final[dict[str, Any]] = {
    "description": "400 a wrong form, 401 the token, 404 no such thing, 409 a contradiction, 413 too long a body, 422 cannot be "
    "carried out, 502 the gateway's error, 503 too much to do or no answer from a gateway, 504 no answer in time.",
    "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def described(document: dict[str, Any]) -> dict[str, Any]:
    """``document`` with the master's errors in place of Litestar's own; that one stays as it is."""
    components = document["components"]
    return {
        **document,
        "paths": {path: {name: _operation(part) for name, part in item.items()} for path, item in document["paths"].items()},
        "components": {**components, "schemas": {**components["schemas"], "Problem": _PROBLEM}},
    }


def _operation(part: Any) -> Any:
    if not isinstance(part, dict) or "responses" not in part:
        return part
    answers = {status: response for status, response in part["responses"].items() if status < "400"}
    return {**part, "responses": {**answers, "default": _RESPONSE}}


class Document(JsonRenderPlugin):
    """Serves it as JSON."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return super().render(request, described(openapi_schema))
