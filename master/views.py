"""What the REST interface shows, as the server writes it and the client reads it. Times: µs since 1970, UTC."""

from __future__ import annotations

from typing import Any, Final, Generic, TypeVar

import msgspec

from schemas import rpc
from schemas.command import FINAL_STEPS
from schemas.rpc import CommandSpec, OutboxStatus, Transport

#: The master's own steps of a command, before any of the gateway's: written down, taken over by the broker, given up.
ISSUED: Final = "issued"
SENT: Final = "sent"
UNSENT: Final = "unsent"
#: Steps after which nothing follows. (A result that arrives after `UNSENT` still counts.)
FINAL: Final = FINAL_STEPS | {UNSENT}

T = TypeVar("T")


class Page(msgspec.Struct, Generic[T], frozen=True):
    """A part of a list; ``next`` is the ``after`` of the following part, null on the last."""

    items: list[T]
    next: str | None


class Site(msgspec.Struct, frozen=True):
    """A site, with its gateways counted by state."""

    site: str
    online: int
    suspect: int
    lost: int


class Gateway(msgspec.Struct, frozen=True):
    """A gateway; ``state`` is online, suspect or lost, told by its lease."""

    gateway: str
    site: str
    labels: dict[str, str]
    version: str
    epoch: int
    state: str
    lease_until: int
    seen_time: int
    first_time: int
    registered_time: int
    commands_transport: str
    transports: list[Transport]
    applications: list[str]
    outbox: OutboxStatus | None


class Application(msgspec.Struct, frozen=True):
    """An application on a gateway."""

    site: str
    gateway: str
    application: str
    driver: str
    version: str
    state: rpc.ApplicationState
    restarts: int
    detail: str
    available: bool
    commands: list[CommandSpec]


class Channel(msgspec.Struct, frozen=True):
    """A channel of an application: the topic (with ``{device}`` when single), where it is, and what it carries."""

    site: str
    gateway: str
    application: str
    channel: str
    topic: str
    grouping: rpc.Grouping
    direction: rpc.Direction
    transport: str
    broker: str
    fingerprint: str
    schema: str
    available: bool


class DeviceChannel(msgspec.Struct, frozen=True):
    """A channel as one device has it; ``seen`` when the device has sent events on it."""

    channel: str
    topic: str
    broker: str
    direction: rpc.Direction
    fingerprint: str
    schema: str
    seen: bool


class Device(msgspec.Struct, frozen=True):
    """A device that a gateway has seen. Its channels and commands are those of its application."""

    site: str
    gateway: str
    application: str
    device: str
    available: bool
    epoch: int
    first_time: int
    channels: list[DeviceChannel]
    commands: list[str]


class Topic(msgspec.Struct, frozen=True):
    """A topic on a broker. ``reader`` is the fingerprint of the schema that reads every schema written to it."""

    broker: str
    topic: str
    site: str
    grouping: rpc.Grouping
    direction: rpc.Direction
    fingerprints: list[str]
    reader: str
    gateways: list[str]
    channels: list[str]
    available: bool


class Schema(msgspec.Struct, frozen=True):
    """An event schema. ``fingerprint``, hexadecimal as on the wire, is that of ``frame``: the array that a frame holds."""

    fingerprint: str
    name: str
    first_time: int
    event: dict[str, Any]
    frame: dict[str, Any]


class CommandRequest(msgspec.Struct, frozen=True):
    """An order. ``id`` makes sending it again harmless; ``gateway`` is needed when several have the device."""

    name: str
    args: dict[str, Any] = {}
    #: Seconds from now after which it is not executed.
    deadline: float = 30.0
    id: str | None = None
    gateway: str | None = None
    issuer: str = ""


class Command(msgspec.Struct, frozen=True):
    """A command and the last step it reached; name, args, issuer and times are null when somebody else sent it."""

    id: str
    gateway: str
    device: str
    name: str | None
    args: dict[str, Any] | None
    issuer: str | None
    issued_time: int | None
    deadline: int | None
    state: str
    state_time: int
    detail: str
    final: bool


class CommandState(msgspec.Struct, frozen=True):
    """A step of a command. ``number`` rises; ``detail`` is a JSON result, or why it failed."""

    number: int
    id: str
    gateway: str
    device: str
    state: str
    time: int
    detail: str
    final: bool


class Report(msgspec.Struct, frozen=True):
    """An event in a gateway's own life."""

    number: int
    gateway: str
    application: str
    kind: str
    detail: str
    time: int
    recorded_time: int


class Problem(msgspec.Struct, frozen=True):
    """Why a request failed (RFC 9457), and what to do."""

    title: str
    status: int
    detail: str
    remedy: str = ""
