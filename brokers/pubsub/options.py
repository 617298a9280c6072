"""What a ``pubsub:`` URL says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from brokers.url import BrokerUrl
from schemas.errors import ConfigurationError
from settings import Bytes, Seconds

_EMULATOR_VARIABLE: Final = "PUBSUB_EMULATOR_HOST"
_SERVICE: Final = "pubsub.googleapis.com"
_DAY: Final = 86_400.0


class PubsubOptions(msgspec.Struct, frozen=True):
    """What may stand after the ``?``."""

    #: ``host:port`` of an emulator: spoken to in plain text, without credentials.
    emulator: str = ""
    #: ``host`` or ``host:port`` of the service: a regional or private endpoint.
    endpoint: str = ""
    #: A file with the certificates to trust instead of the system's.
    ca: str = ""
    #: A credentials file's content (written as ``file:PATH``); the environment's credentials otherwise.
    credentials: str = ""
    #: Whether topics and subscriptions that are missing are made.
    create: bool = True
    #: Whether subscriptions made here are exactly-once ones.
    exactly_once: bool = False
    #: Seconds after which the deliveries of a reader that died go to another.
    ack_deadline: Seconds = Seconds(30)
    #: Seconds of silence after which the server is asked whether it is there.
    keepalive: Seconds = Seconds(30)
    #: Seconds that a subscription made here keeps what nobody acknowledges.
    retention: Seconds = Seconds(7 * _DAY)
    #: Deliveries that a reader holds, handed out or waiting, and their bytes.
    max_outstanding: int = 2_000
    max_outstanding_bytes: Bytes = Bytes(64_000_000)

    def __post_init__(self) -> None:
        if not 10 <= self.ack_deadline <= 600:
            raise ValueError(f"ack_deadline must be 10s to 600s, not {self.ack_deadline:g}s")
        if not 1 <= self.keepalive <= 600:
            raise ValueError(f"keepalive must be 1s to 600s, not {self.keepalive:g}s")
        if not 600 <= self.retention <= 7 * _DAY:
            raise ValueError(f"retention must be 10m to 7d, not {self.retention:g}s")
        if self.max_outstanding < 1 or self.max_outstanding_bytes < 1:
            raise ValueError("max_outstanding and max_outstanding_bytes must be at least 1")
        if self.emulator and (self.endpoint or self.ca or self.credentials):
            raise ValueError("an emulator takes no endpoint, ca or credentials")


@dataclass(frozen=True, slots=True)
class Target:
    """Which project, where, and how. Only ``url`` may be shown."""

    project: str
    url: str
    #: ``host:port``
    address: str
    emulated: bool
    options: PubsubOptions = field(repr=False)


def target_of(url: BrokerUrl, environment: Mapping[str, str]) -> Target:
    """Raises `ConfigurationError`. An emulator named by ``PUBSUB_EMULATOR_HOST`` is used when the URL names no server."""
    if len(url.hosts) != 1 or url.hosts[0].port or url.path or url.user:
        raise ConfigurationError(f"{url.redacted}: names no project", remedy="write it as pubsub://PROJECT")
    options = url.options_as(PubsubOptions)
    emulator = options.emulator or ("" if options.endpoint else environment.get(_EMULATOR_VARIABLE, ""))
    address = emulator or options.endpoint or _SERVICE
    if not emulator and ":" not in address:
        address += ":443"
    return Target(url.hosts[0].name, url.redacted, address, bool(emulator), options)
