"""A flaw of kafka-python 3.0 mended: what a server says right before it closes a connection was thrown away.

With it went the reason: a wrong password mostly looked like a server that is not there. The end of the connection is
read again by the next look at it.
"""

from __future__ import annotations

from kafka.net import manager  # type: ignore[import-untyped]
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport  # type: ignore[import-untyped]


class TcpTransport(KafkaTCPTransport):  # type: ignore[misc]
    def _sock_recv(self) -> tuple[bytes, Exception | None]:
        data, error = super()._sock_recv()
        return data, None if data else error


class TlsTransport(KafkaSSLTransport):  # type: ignore[misc]
    def _sock_recv(self) -> tuple[bytes, Exception | None]:
        data, error = super()._sock_recv()
        return data, None if data else error


def use_them() -> None:
    """From here on the connections of this process have them."""
    manager.KafkaTCPTransport = TcpTransport
    manager.KafkaSSLTransport = TlsTransport
