"""The description of the interface as one page, made here from the OpenAPI document: nothing is fetched from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from litestar import Request
from litestar.openapi.plugins import OpenAPIRenderPlugin

from master.rest.description import described

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff }
code, pre { font: 13px/1.4 ui-monospace, monospace } pre { background: #f4f4f4; padding: .6rem; overflow: auto }
h2 { margin-top: 2.2rem; font-size: 1.05rem } .method { color: #fff; background: #246; border-radius: 3px; padding: .1rem .4rem }
table { border-collapse: collapse } td, th { text-align: left; padding: .2rem .8rem .2rem 0; vertical-align: top }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818 } pre { background: #262626 } a { color: #8bf } }
"""


class ReferencePage(OpenAPIRenderPlugin):
    """Renders the OpenAPI document as HTML without scripts."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        document = described(openapi_schema)
        info = document["info"]
        parts = [
            f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(info['title'])}</title><style>{_STYLE}</style>",
            f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info.get('description', ''))}</p>",
            f"<p><a href='{escape(self.get_openapi_json_route(request))}'>OpenAPI document</a></p>",
            *(part for path, item in document["paths"].items() for part in _path(path, item)),
            "<h1>Types</h1>",
            *_types(document["components"]["schemas"]),
        ]
        return "".join(parts).encode()


def _path(path: str, item: dict[str, Any]) -> Iterator[str]:
    for method, operation in item.items():
        if not isinstance(operation, dict) or "responses" not in operation:
            continue
        yield f"<h2><span class=method>{escape(method.upper())}</span> <code>{escape(path)}</code></h2>"
        yield f"<p>{escape(operation.get('summary', ''))}</p>"
        if operation.get("description"):
            yield f"<pre>{escape(operation['description'])}</pre>"
        if parameters := operation.get("parameters"):
            rows = (
                f"<tr><td><code>{escape(one['name'])}</code><td>{escape(one['in'])}<td>{_shape(one.get('schema', {}))}"
                f"<td>{escape(one.get('description', ''))}</tr>"
                for one in parameters
            )
            yield f"<table>{''.join(rows)}</table>"
        for content in operation.get("requestBody", {}).get("content", {}).values():
            yield f"<p>body: {_shape(content.get('schema', {}))}</p>"
        for status, response in operation["responses"].items():
            shapes = ", ".join(_shape(content.get("schema", {})) for content in response.get("content", {}).values())
            yield f"<p>{escape(status)}: {shapes or escape(response.get('description', ''))}</p>"


def _types(schemas: dict[str, Any]) -> Iterator[str]:
    for name, schema in sorted(schemas.items()):
        yield f"<h2 id='{escape(name)}'>{escape(schema.get('title', name))}</h2><p>{escape(schema.get('description', ''))}</p>"
        required = set(schema.get("required", ()))
        rows = (
            f"<tr><td><code>{escape(field)}</code><td>{_shape(shape)}<td>{'' if field in required else 'optional'}</tr>"
            for field, shape in schema.get("properties", {}).items()
        )
        yield f"<table>{''.join(rows)}</table>"


def _shape(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"<a href='#{escape(name)}'>{escape(name)}</a>"
    if choices := schema.get("oneOf") or schema.get("anyOf"):
        return " or ".join(map(_shape, choices))
    if schema.get("type") == "array":
        return "list of " + _shape(schema.get("items", {}))
    if "enum" in schema:
        return escape(" | ".join(map(str, schema["enum"])))
    kind = schema.get("type", "any")
    return escape(" or ".join(kind) if isinstance(kind, list) else str(kind))
