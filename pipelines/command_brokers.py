"""Which broker the commands for a gateway go through."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

from master.client import Client, MasterUnavailable
from schemas.errors import ConfigurationError

#: Seconds for which an answer of the master is used without asking again.
_FRESH: Final = 30.0
#: Gateways whose brokers are remembered.
_REMEMBERED: Final = 10_000


class FindBroker(Protocol):
    def __call__(self, gateway: str) -> str:
        """URL of the broker that a gateway's commands go through. Raises `IoTCloudError` while it is not known."""


@dataclass(frozen=True)
class OneBroker:
    """All commands go through one broker."""

    url: str

    def __call__(self, gateway: str) -> str:  # noqa: ARG002  (see FindBroker)
        return self.url


@dataclass(frozen=True)
class MasterKnows:
    """Each gateway's commands go through the broker that it has told the master at ``url``."""

    url: str
    token: str = ""

    def __call__(self, gateway: str) -> str:
        """Raises `MasterError`, and `ConfigurationError` for a gateway the master does not know."""
        return _addresses(self.url, self.token).of(gateway)


class _Addresses:
    """What a master has said. While it is away, what it said last still holds."""

    def __init__(self, client: Client, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, str]] = {}

    def of(self, gateway: str) -> str:
        with self._lock:
            asked, known = self._known.get(gateway, (0.0, ""))
            if known and self._monotonic() - asked < _FRESH:
                return known
            try:
                found = self._ask(gateway)
            except MasterUnavailable:
                if not known:
                    raise
                return known
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[gateway] = (self._monotonic(), found)
            return found

    def _ask(self, gateway: str) -> str:
        for found in self._client.gateways(gateway=gateway):
            for transport in found.transports:
                if transport.name == found.commands_transport:
                    return transport.url
        raise ConfigurationError(f"the master knows no gateway {gateway!r}", remedy="it has to register; is its name right?")


@lru_cache(maxsize=16)
def _addresses(url: str, token: str) -> _Addresses:
    return _Addresses(Client(url, token or None))
