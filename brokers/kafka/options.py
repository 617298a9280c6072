"""What a ``kafka:`` URL may say, and what the client library makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec
from kafka import codec  # type: ignore[import-untyped]

from brokers.url import BrokerUrl, Host
from schemas.errors import ConfigurationError
from settings import Bytes

_PORT: Final = 9092
_PACKAGES: Final = {"snappy": "python-snappy", "lz4": "lz4", "zstd": "zstandard"}

Compression = Literal["none", "gzip", "snappy", "lz4", "zstd"]
Mechanism = Literal["plain", "scram-sha-256", "scram-sha-512"]


class KafkaOptions(msgspec.Struct, frozen=True):
    """What may follow the ``?``."""

    #: Of topics that come into being when they are first published to.
    partitions: int = 1
    #: Copies of each partition of the topics we make; 0: as many as the cluster makes by default.
    replication: int = 0
    compression: Compression = "none"
    max_message_bytes: Bytes = Bytes(1_000_000)
    #: How the password of the URL is shown to be known.
    mechanism: Mechanism = "scram-sha-512"
    #: Let ``plain`` send the password over a connection that is not encrypted.
    plain_without_tls: bool = False
    #: File with the authorities to trust instead of the system's.
    ca: str = ""
    #: Files with the client's certificate and its key.
    cert: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.partitions <= 1024:
            raise ValueError(f"partitions must be 1 to 1024, not {self.partitions}")
        if not 0 <= self.replication <= 32:
            raise ValueError(f"replication must be 0 to 32, not {self.replication}")
        if not 1 <= self.max_message_bytes <= 100_000_000:
            raise ValueError("max_message_bytes must be 1 to 100MB")
        if bool(self.cert) != bool(self.key):
            raise ValueError("cert and key go together")


def connection_settings(url: BrokerUrl, options: KafkaOptions) -> Mapping[str, Any]:
    """Settings for the connections of kafka-python, without the certificates. Raises `ConfigurationError`."""
    if not url.hosts:
        raise ConfigurationError(f"{url.redacted}: names no server", remedy=f"write it as {url.scheme}://host:9092,host:9092")
    if url.path:
        raise ConfigurationError(f"{url.redacted}: a path means nothing to Kafka", remedy="leave out what follows the servers")
    encrypted = url.scheme != "kafka"
    if not encrypted and (options.ca or options.cert):
        raise ConfigurationError(
            f"{url.redacted}: ca, cert and key are for encrypted connections", remedy="begin the URL with kafkas://"
        )
    if url.user and options.mechanism == "plain" and not (encrypted or options.plain_without_tls):
        raise ConfigurationError(
            f"{url.redacted}: mechanism=plain shows the password to everybody on the way, as kafka:// is not encrypted",
            remedy="begin the URL with kafkas://, or use mechanism=scram-sha-512; on a network that you trust, or in a tunnel,"
            " add plain_without_tls=true",
        )
    _check_codec(url, options.compression)
    return {
        "bootstrap_servers": [_address(host) for host in url.hosts],
        "client_id": "iotcloud",
        "security_protocol": ("SASL_" if url.user else "") + ("SSL" if encrypted else "PLAINTEXT"),
        **(
            {
                "sasl_mechanism": options.mechanism.upper(),
                "sasl_plain_username": url.user,
                "sasl_plain_password": url.password,
            }
            if url.user
            else {}
        ),
    }


def _address(host: Host) -> str:
    name = f"[{host.name}]" if ":" in host.name else host.name
    return f"{name}:{host.port or _PORT}"


def _check_codec(url: BrokerUrl, compression: Compression) -> None:
    if compression != "none" and not getattr(codec, f"has_{compression}")():
        raise ConfigurationError(
            f"{url.redacted}: compression={compression} needs a library that is not installed",
            remedy=f"pip install {_PACKAGES[compression]}, or use compression=gzip, which needs none",
        )
