"""Parameters that many routes share."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request
from litestar.params import Parameter

from master.selection import Selection, parse_label
from master.store.pages import MAX_LIMIT

Many = list[str] | None
After = Annotated[str | None, Parameter(description="Continue a list after this: the `next` of the part before.")]
Limit = Annotated[int, Parameter(ge=1, le=MAX_LIMIT, description="Items in one part at most.")]
InState = Annotated[str | None, Parameter(query="state", description="Only those in this state.")]
Number = Annotated[int, Parameter(ge=0, le=2**62, description="Only what has a number above this.")]


def chosen(  # noqa: PLR0917 - Litestar passes them by name
    site: Annotated[Many, Parameter(description="Only of these sites.")] = None,
    gateway: Annotated[Many, Parameter(description="Only of these gateways.")] = None,
    application: Annotated[Many, Parameter(description="Only of these applications.")] = None,
    device: Annotated[Many, Parameter(description="Only of these devices.")] = None,
    channel: Annotated[Many, Parameter(description="Only of these channels.")] = None,
    topic: Annotated[Many, Parameter(description="Only these topics.")] = None,
    label: Annotated[Many, Parameter(description="Only of gateways with these labels, each `key:value`.")] = None,
) -> Selection:
    """The part of the fleet that a request is about. Each may be given several times."""
    return Selection(
        site=tuple(site or ()),
        gateway=tuple(gateway or ()),
        application=tuple(application or ()),
        device=tuple(device or ()),
        channel=tuple(channel or ()),
        topic=tuple(topic or ()),
        label=tuple(map(parse_label, label or ())),
    )


def actor(request: Request[Any, Any, Any]) -> str:
    """Who asks, as the audit log names it."""
    return str(request.scope.get("state", {}).get("actor", "anonymous"))
