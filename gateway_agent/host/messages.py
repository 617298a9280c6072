"""What the agent and a child say to each other over their socket pair, in MessagePack."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

#: A child may have so many batches and bytes under way to the disk; then it waits.
MAX_BATCHES: Final = 16
MAX_BYTES: Final = 4 << 20
#: One batch, and so what `Context.together` holds, at most; a message of the link has some room around it.
MAX_BATCH_BYTES: Final = 4 << 20
MAX_MESSAGE_BYTES: Final = 48 << 20
#: Seconds between heartbeats of a child.
BEAT: Final = 1.0


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Base of all messages."""


class ChannelSpec(msgspec.Struct, frozen=True, array_like=True):
    name: str
    #: JSON text.
    schema: str
    direction: Literal["in", "out", "both"]


class CommandTaken(msgspec.Struct, frozen=True, array_like=True):
    name: str
    args: dict[str, Any]


# From the agent.


class Start(Message, frozen=True):
    """The first message: what to run. ``schemas`` overrides the schema of channels by name."""

    site: str
    application: str
    driver: str
    settings: dict[str, Any]
    origin: str
    folder: str
    schemas: dict[str, str] = {}


class Go(Message, frozen=True):
    """The channels are accepted: begin. ``single`` names those whose devices have topics of their own."""

    state: bytes
    single: tuple[str, ...]
    max_event_bytes: int


class Ack(Message, frozen=True):
    """All batches up to this number are on disk."""

    number: int


class Execute(Message, frozen=True):
    id: str
    device: str
    name: str
    args: str
    deadline: int


class Stop(Message, frozen=True):
    """Return from `run` soon."""


# From the child.


class Hello(Message, frozen=True):
    """The driver is made. Nothing is emitted before `Go`."""

    version: str
    channels: tuple[ChannelSpec, ...]
    commands: tuple[CommandTaken, ...]
    devices: tuple[str, ...]


class Group(msgspec.Struct, frozen=True, array_like=True):
    """Events of a channel, and of one device where the channel's devices have topics of their own."""

    channel: str
    device: str
    tails: list[bytes]


class Events(Message, frozen=True):
    """What is to become durable as a whole. ``devices`` (device, channel) were not emitted on before."""

    number: int
    groups: list[Group]
    state: bytes | None
    devices: list[tuple[str, str]]


class Beat(Message, frozen=True):
    """The child is alive."""


class Line(Message, frozen=True):
    """A line for the log."""

    level: Literal["debug", "info", "warning", "error"]
    event: str
    fields: dict[str, Any]


class Rejected(Message, frozen=True):
    """Input that could not be made into events; ``where`` and ``reason`` are those of the last."""

    count: int
    where: str
    reason: str


class Executed(Message, frozen=True):
    """What became of a command: ``detail`` is the result as JSON, or why there is none."""

    id: str
    step: Literal["done", "failed", "expired"]
    detail: str


class End(Message, frozen=True):
    """The last message: all that was emitted is on disk, or why it ended."""

    kind: Literal["finished", "stopped", "failed", "refused"]
    detail: str


ToChild = Start | Go | Ack | Execute | Stop
ToAgent = Hello | Events | Beat | Line | Rejected | Executed | End
