"""What an MQTT URL may say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from brokers.url import BrokerUrl, Host
from schemas.errors import ConfigurationError
from settings import Bytes, Seconds

_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}
#: The largest packet there is (specification, 1.5.5), less what goes before the value.
_LARGEST: Final = 268_000_000


class MqttOptions(msgspec.Struct, frozen=True):
    """What may stand after the ``?``."""

    #: File with the certificates of the authorities to trust; the system's when empty.
    ca: str = ""
    #: File with the client's certificate, and what vouches for it.
    cert: str = ""
    #: File with its key; empty when it is in the same file.
    key: str = ""
    #: Seconds that reaching a server, and each of its answers, may take.
    connect_timeout: Seconds = Seconds(10)
    #: Seconds of silence after which the server is asked whether it is there.
    keepalive: Seconds = Seconds(30)
    #: Seconds that the server keeps a group's session, and what is queued in it, while no reader is connected.
    session_expiry: Seconds = Seconds(7 * 86_400)
    #: Deliveries of a topic that the server sends before the first of them is acknowledged.
    window: int = 1_000
    max_message_bytes: Bytes = Bytes(16_000_000)
    #: Changes after which the server writes what it keeps: mosquitto's autosave_interval, or more.
    writes_every: int = 1
    #: Whether a message that no session subscribes to counts as not published.
    require_subscriber: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.window <= 65_535:
            raise ValueError(f"window must be 1 to 65535, not {self.window}")
        if not 1 <= self.writes_every <= 10_000:
            raise ValueError(f"writes_every must be 1 to 10000, not {self.writes_every}")
        if not 1 <= self.keepalive <= 65_535:
            raise ValueError(f"keepalive must be 1 to 65535 s, not {self.keepalive}")
        if not 0 < self.connect_timeout <= 3_600:
            raise ValueError(f"connect_timeout must be more than 0 and at most 3600 s, not {self.connect_timeout}")
        if not 1 <= self.session_expiry < 0xFFFF_FFFF:
            raise ValueError(f"session_expiry must be 1 to 4294967294 s, not {self.session_expiry}")
        if self.max_message_bytes > _LARGEST:
            raise ValueError(f"max_message_bytes must be at most {_LARGEST}, not {self.max_message_bytes}")
        if self.key and not self.cert:
            raise ValueError("key without cert: name the certificate it belongs to")


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to connect to, and as whom. Only ``shown`` may be shown."""

    shown: str
    hosts: tuple[tuple[str, int], ...]
    tls: bool
    user: str
    password: str
    options: MqttOptions

    def __repr__(self) -> str:
        return f"Target({self.shown})"


def target_of(url: BrokerUrl) -> Target:
    """Raises `ConfigurationError` for a URL that names no host, or what MQTT does not have."""
    options = url.options_as(MqttOptions)
    tls = url.scheme == "mqtts"
    if not url.hosts or not all(host.name for host in url.hosts):
        raise ConfigurationError(f"{url.redacted}: names no host", remedy=f"write it as {url.scheme}://host:{_PORTS[url.scheme]}")
    if url.path:
        raise ConfigurationError(f"{url.redacted}: {url.path!r} is too much", remedy="end the URL after the host's port")
    if options.ca + options.cert and not tls:
        raise ConfigurationError(f"{url.redacted}: certificates are for TLS", remedy="write mqtts: instead of mqtt:")
    if url.password and not url.user:
        raise ConfigurationError(f"{url.redacted}: a password without a user", remedy="write it as user:${PASSWORD}@host")
    return Target(url.redacted, tuple(_address(url, host) for host in url.hosts), tls, url.user, url.password, options)


def _address(url: BrokerUrl, host: Host) -> tuple[str, int]:
    return host.name, _PORTS[url.scheme] if host.port is None else host.port
