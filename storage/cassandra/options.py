"""What a ``cassandra:`` URL may say."""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

from schemas.errors import ConfigurationError
from settings import Seconds
from storage.address import Address

Consistency = Literal["one", "two", "three", "quorum", "all", "local_quorum", "each_quorum", "local_one"]

_KEYSPACE: Final = re.compile(r"[a-z][a-z0-9_]{0,47}")


class CassandraOptions(msgspec.Struct, frozen=True):
    """What may follow the ``?``."""

    #: Copies of each row in a keyspace that is made when it is not there; 0: it has to be there.
    replication: int = 0
    #: The data center to write to. Empty: that of the first server reached.
    datacenter: str = ""
    #: How many copies must have a row before it counts as written.
    consistency: Consistency = "local_quorum"
    #: How long aggregates, sessions, commands, alerts and dead letters are kept; 0: for ever.
    ttl: Seconds = Seconds(0)
    #: How long a write is tried again.
    retry: Seconds = Seconds(60)
    connect_timeout: Seconds = Seconds(10)
    #: How long one request may take.
    timeout: Seconds = Seconds(10)
    #: Requests on their way at once.
    in_flight: int = 64
    #: File with the authority to trust; it, or ``tls=true`` for the system's, encrypts connections.
    ca: str = ""
    tls: bool = False
    #: Files with the client's certificate and its key.
    cert: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.replication <= 32:
            raise ValueError("replication must be 0 to 32")
        if not 0 <= self.ttl <= 20 * 365 * 86_400:
            raise ValueError("ttl must be 0 to 20 years")
        if not 1 <= self.in_flight <= 1024:
            raise ValueError("in_flight must be 1 to 1024")
        for name in ("connect_timeout", "timeout"):
            if not 0.1 <= getattr(self, name) <= 600:
                raise ValueError(f"{name} must be 100 ms to 10 min")
        if not 0 <= self.retry <= 86_400:
            raise ValueError("retry must be 0 to 1d")
        if bool(self.cert) != bool(self.key):
            raise ValueError("cert and key go together")
        if self.cert and not self.encrypted:
            raise ValueError("cert and key are for encrypted connections: add ca or tls=true")

    @property
    def encrypted(self) -> bool:
        return self.tls or bool(self.ca)


def keyspace_of(address: Address) -> str:
    """Raises `ConfigurationError`."""
    if not _KEYSPACE.fullmatch(address.name):
        raise ConfigurationError(
            f"{address.redacted}: {address.name!r} is not a keyspace",
            remedy="end the URL with /NAME, of small letters, digits and _",
        )
    return address.name
