"""What a gateway and its master say to each other: JSON-RPC 2.0 over one WebSocket, `PATH` on the master.

The gateway opens the connection and both sides may call. Gateway → master: `register` once per
connection, then `heartbeat`, and `report` when something happens. Master → gateway: `ping`,
`get_status`, `list`, and the notification `superseded` before it closes a connection whose gateway
has connected again with a newer epoch. Times are µs since 1970, UTC.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from schemas.ledger import TopicLedger

PATH: Final = "/rpc/gateway"
#: The longest message either side accepts; a longer one closes the connection.
MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024

# Codes of errors: those of JSON-RPC 2.0, section 5.1, and the master's own.
PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
#: `register` was refused; ``data`` says what to do. The same registration will be refused again.
REFUSED: Final = -32001
#: The gateway's id is in use, or was, with a newer epoch. The connection is closed after it.
STALE_EPOCH: Final = -32002
#: Called before `register`, or for another gateway than the one registered.
NOT_REGISTERED: Final = -32003
#: The master cannot serve it now; trying again later helps.
BUSY: Final = -32004

# Codes with which the master closes the WebSocket (RFC 6455, section 7.4.2: 4000-4999 are private).
CLOSE_STALE_EPOCH: Final = 4409
CLOSE_NOT_REGISTERED: Final = 4408
CLOSE_FORGOTTEN: Final = 4410

Grouping = Literal["grouped", "single"]
Direction = Literal["in", "out", "both"]
ApplicationState = Literal["starting", "running", "stopped", "restarting", "failed"]


class Channel(msgspec.Struct, frozen=True):
    """A channel of an application: where its events are."""

    name: str
    #: One topic when grouped; a template with ``{device}`` when single.
    topic: str
    grouping: Grouping
    direction: Direction
    transport: str
    #: JSON text of the event schema.
    schema: str


class CommandSpec(msgspec.Struct, frozen=True):
    """A command that the devices of an application take. ``args`` is a JSON schema."""

    name: str
    args: dict[str, Any] = {}


class Application(msgspec.Struct, frozen=True):
    name: str
    driver: str
    version: str
    channels: tuple[Channel, ...] = ()
    commands: tuple[CommandSpec, ...] = ()


class Transport(msgspec.Struct, frozen=True):
    """A broker the gateway publishes to. ``url`` holds no secret: variables stand unexpanded in it."""

    name: str
    url: str


class Register(msgspec.Struct, frozen=True):
    """Parameters of `register`."""

    gateway: str
    site: str
    epoch: int
    version: str
    transports: tuple[Transport, ...]
    #: Name of the transport that carries the gateway's commands and their results.
    commands_transport: str
    applications: tuple[Application, ...]
    labels: dict[str, str] = {}


class Registered(msgspec.Struct, frozen=True):
    """Result of `register`: how long the lease lasts, and how often to renew it, in seconds."""

    lease_seconds: float
    heartbeat_seconds: float


class ApplicationStatus(msgspec.Struct, frozen=True):
    name: str
    state: ApplicationState
    restarts: int = 0
    detail: str = ""


class DeviceSeen(msgspec.Struct, frozen=True):
    """A device that has emitted events on a channel of an application."""

    device: str
    application: str
    channels: tuple[str, ...]


class OutboxStatus(msgspec.Struct, frozen=True):
    """``accepted`` and ``published`` count events since the outbox was made; the others are what stands now."""

    accepted: int
    published: int
    buffered_events: int
    buffered_bytes: int
    dropped: int
    damaged: int
    #: Empty from agents that did not tell it yet.
    topics: tuple[TopicLedger, ...] = ()


class Heartbeat(msgspec.Struct, frozen=True):
    """Parameters of `heartbeat`. ``devices`` holds all that were seen in this epoch."""

    gateway: str
    epoch: int
    time: int
    applications: tuple[ApplicationStatus, ...]
    devices: tuple[DeviceSeen, ...]
    outbox: OutboxStatus


class Report(msgspec.Struct, frozen=True):
    """Parameters of `report`: an event in the gateway's own life, for its operator."""

    gateway: str
    kind: str
    application: str
    detail: str
    time: int


class Superseded(msgspec.Struct, frozen=True):
    """Parameters of `superseded`: the epoch that took the place of the one spoken to."""

    gateway: str
    epoch: int


class Request(msgspec.Struct, frozen=True, omit_defaults=False):
    """A JSON-RPC 2.0 request; without ``id`` a notification."""

    method: str
    params: msgspec.Raw = msgspec.Raw(b"{}")
    id: int | str | None = None
    jsonrpc: Literal["2.0"] = "2.0"


class RpcError(msgspec.Struct, frozen=True):
    code: int
    message: str
    data: str = ""


class Response(msgspec.Struct, frozen=True, omit_defaults=True):
    """A JSON-RPC 2.0 response: either ``result`` or ``error``."""

    id: int | str | None
    result: msgspec.Raw = msgspec.Raw(b"")
    error: RpcError | None = None
    jsonrpc: Literal["2.0"] = "2.0"
