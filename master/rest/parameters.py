"""Parameters that many routes share."""

from __future__ import annotations

from typing import Annotated, Final

from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from litestar.types import Scope

from master.errors import Invalid
from master.selection import Selection, parse_label
from master.services import Services
from master.store.pages import MAX_LIMIT

Serving = NamedDependency[Services]
Chosen = NamedDependency[Selection]
#: Who asks, as the audit log names it.
Actor = NamedDependency[str]
Name = FromPath[str]

_FILTERS: Final = ("site", "gateway", "application", "device", "channel", "topic", "label")

Many = list[str] | None
After = Annotated[str | None, QueryParameter(description="Continue a list after this: the `next` of the part before.")]
Limit = Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT, description="Items in one part at most.")]
InState = Annotated[str | None, QueryParameter(name="state", description="Only those in this state.")]
Number = Annotated[int, QueryParameter(ge=0, le=2**62, description="Only what has a number above this.")]


def chosen(  # noqa: PLR0917 - Litestar passes them by name
    site: Annotated[Many, QueryParameter(description="Only of these sites.")] = None,
    gateway: Annotated[Many, QueryParameter(description="Only of these gateways.")] = None,
    application: Annotated[Many, QueryParameter(description="Only of these applications.")] = None,
    device: Annotated[Many, QueryParameter(description="Only of these devices.")] = None,
    channel: Annotated[Many, QueryParameter(description="Only of these channels.")] = None,
    topic: Annotated[Many, QueryParameter(description="Only these topics.")] = None,
    label: Annotated[Many, QueryParameter(description="Only of gateways with these labels, each `key:value`.")] = None,
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


def chosen_by(chosen: Selection, *names: str) -> Selection:
    """``chosen``. Raises `Invalid` when it chooses by anything but ``names``: what is asked for must not be passed over."""
    others = [name for name in _FILTERS if getattr(chosen, name) and name not in names]
    if others:
        raise Invalid(f"these are not chosen by {', '.join(others)}", remedy="choose by " + ", ".join(names))
    return chosen


def actor(scope: Scope) -> str:
    """Who asks, as the audit log names it."""
    return str(scope.get("state", {}).get("actor", "anonymous"))
