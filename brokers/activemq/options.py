"""What a ``stomp:`` URL may say, and where it leads."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Final

import msgspec

from brokers.url import BrokerUrl
from schemas.errors import ConfigurationError
from settings import Bytes, Seconds

_PORT: Final = 61613
_TLS_PORT: Final = 61614


class ActiveMqOptions(msgspec.Struct, frozen=True):
    """What the URL may say after its ``?``."""

    #: PEM file of the authorities to trust instead of the system's; only with ``stomp+ssl``.
    ca: str = ""
    #: PEM files of a client certificate and its key, for a server that asks for one.
    cert: str = ""
    key: str = ""
    #: Seconds between signs of life, both ways; 0 for none.
    heartbeat: Seconds = Seconds(10)
    #: Seconds a reader takes at most to connect.
    connect_timeout: Seconds = Seconds(10)
    #: Deliveries the server sends ahead, for each topic of a reader.
    prefetch: int = 5000
    max_message_bytes: Bytes = Bytes(16_000_000)
    #: Whether a key stays with one reader of a group as long as that lives.
    message_groups: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.prefetch <= 100_000:
            raise ValueError(f"prefetch must be 1 to 100000, not {self.prefetch}")
        if bool(self.cert) != bool(self.key):
            raise ValueError("cert and key belong together")
        if not self.connect_timeout > 0:
            raise ValueError("connect_timeout must be more than 0")


@dataclass(frozen=True, slots=True)
class Address:
    """Who to connect to, and as whom. ``url`` is the one that may be shown."""

    url: str
    hosts: tuple[tuple[str, int], ...]
    user: str
    password: str = field(repr=False)
    secure: bool
    ca: str
    cert: str
    key: str
    heartbeat: float

    def context(self) -> ssl.SSLContext | None:
        """Made for each connection, so that renewed files are used. Raises `OSError` for one that cannot be."""
        if not self.secure:
            return None
        context = ssl.create_default_context(cafile=self.ca or None)
        if self.cert:
            context.load_cert_chain(self.cert, self.key)
        return context


def address_of(url: BrokerUrl, options: ActiveMqOptions) -> Address:
    """Raises `ConfigurationError` for what cannot be connected to."""
    if not url.hosts or url.path:
        raise ConfigurationError(
            f"{url.redacted}: not of the form {url.scheme}://HOST", remedy=f"{url.scheme}://HOST:PORT,HOST:PORT"
        )
    if any(text != text.strip() or "\0" in text for text in (url.user, url.password)):
        raise ConfigurationError(
            f"{url.redacted}: the user or the password begins or ends with a blank, which the server leaves out",
            remedy="see how the password is stored, or give the user another one",
        )
    secure = url.scheme == "stomp+ssl"
    if not secure and (options.ca or options.cert):
        raise ConfigurationError(f"{url.redacted}: ca, cert and key need TLS", remedy="write the URL as stomp+ssl://…")
    return Address(
        url=url.redacted,
        hosts=tuple((host.name, host.port or (_TLS_PORT if secure else _PORT)) for host in url.hosts),
        user=url.user,
        password=url.password,
        secure=secure,
        ca=options.ca,
        cert=options.cert,
        key=options.key,
        heartbeat=float(options.heartbeat),
    )
