"""What a registration must be, before anything of it is stored."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from brokers.url import parse_url
from master.errors import Refused
from schemas.errors import ConfigurationError, SchemaError
from schemas.registry import EventSchema, event_schema
from schemas.rpc import Application, Channel, Register
from schemas.topics import check_part, check_topic, commands_topic, results_topic

_DEVICE: Final = "{device}"
#: A variable in a URL, and its default.
_VARIABLE: Final = re.compile(r"\$\{[^}:]*(?::-([^}]*)|:[^}]*)?\}")


@dataclass(frozen=True, slots=True)
class Checked:
    """A registration that holds together, with its schemas read."""

    message: Register
    #: By (application, channel).
    schemas: dict[tuple[str, str], EventSchema]


def check(message: Register) -> Checked:
    """Raises `Refused` with the reason and the remedy."""
    try:
        commands_topic(message.gateway)
        results_topic(message.gateway)
        check_part("site", message.site)
    except ConfigurationError as error:
        raise Refused(error.message, remedy=error.remedy) from None
    if message.epoch < 0:
        raise Refused(f"epoch {message.epoch} is negative")
    transports = _unique("transport", [transport.name for transport in message.transports])
    for transport in message.transports:
        _check_url(transport.name, transport.url)
    if message.commands_transport not in transports:
        raise Refused(
            f"commands_transport {message.commands_transport!r} is not one of the transports",
            remedy="one of " + ", ".join(sorted(transports)) if transports else "define a transport",
        )
    _unique("application", [application.name for application in message.applications])
    schemas = {}
    for application in message.applications:
        schemas.update(_check_application(application, transports))
    return Checked(message, schemas)


def _check_application(application: Application, transports: set[str]) -> dict[tuple[str, str], EventSchema]:
    _unique(f"channel of {application.name}", [channel.name for channel in application.channels])
    _unique(f"command of {application.name}", [command.name for command in application.commands])
    return {
        (application.name, channel.name): _check_channel(application.name, channel, transports)
        for channel in application.channels
    }


def _check_channel(application: str, channel: Channel, transports: set[str]) -> EventSchema:
    where = f"{application}.{channel.name}"
    if channel.transport not in transports:
        raise Refused(
            f"{where}: transport {channel.transport!r} is not defined", remedy="one of " + ", ".join(sorted(transports))
        )
    if (_DEVICE in channel.topic) != (channel.grouping == "single"):
        raise Refused(
            f"{where}: topic {channel.topic!r} does not fit grouping {channel.grouping!r}", remedy=f"a single one holds {_DEVICE}"
        )
    try:
        check_topic(channel.topic.replace(_DEVICE, "device", 1))
        return _schema(channel.schema, where)
    except (ConfigurationError, SchemaError) as error:
        raise Refused(error.message, remedy=error.remedy) from None


@lru_cache(maxsize=256)
def _schema(text: str, where: str) -> EventSchema:
    # A fleet registers the same few again and again.
    return event_schema(text, origin=where)


def _check_url(name: str, url: str) -> None:
    """Refuse what is no broker URL or holds a secret, also as the default of a variable."""
    # Variables of the gateway need not be set here: a password is judged by its form alone.
    literal = _VARIABLE.sub(lambda found: found[1] or found[0], url)
    begins = _VARIABLE.match(literal)
    if begins is not None and begins.end() == len(literal):
        return  # whoever reads sets all of it
    # What a variable at the beginning stands for: a scheme, or also what follows one.
    rest = literal[begins.end() :] if begins else literal
    scheme = rest.startswith("://") or (rest.startswith(":") and "@" not in rest)
    stand_in = "" if begins is None else "x" if scheme else "x://h"
    try:
        shown = parse_url(stand_in + rest, _Anything()).redacted
    except ConfigurationError as error:
        raise Refused(f"transport {name}: {error.message}", remedy=error.remedy) from None
    if shown != stand_in + rest:
        raise Refused(
            f"transport {name}: {begins[0] if begins else ''}{shown.removeprefix(stand_in)} holds a secret",
            remedy="write it as a variable, ${NAME}, that each reader sets",
        )


class _Anything(dict[str, str]):
    """An environment in which every variable is set."""

    def get(self, _name: str, _default: object = None) -> str:
        return "x"


def _unique(kind: str, names: list[str]) -> set[str]:
    found: set[str] = set()
    for name in names:
        if not name:
            raise Refused(f"a {kind} has no name")
        if name in found:
            raise Refused(f"{kind} {name!r} is there twice", remedy="give each a name of its own")
        found.add(name)
    return found
