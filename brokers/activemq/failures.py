"""What can go wrong with a connection, and what it means for who uses the broker."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Final

from brokers.errors import BrokerRefused, BrokerUnavailable

_RUNNING: Final = "see that the server runs, speaks STOMP on that port, and is neither out of memory nor of disk"
_RIGHTS: Final = "see the user and password in the URL, and what the server lets this user do"
_CERTIFICATE: Final = "see that ca= names the authority of the server's certificate, and that this is for the host in the URL"
#: Topics that an error lists.
_NAMED: Final = 5


class SessionFailed(Exception):
    """A connection cannot be used, or not made. ``refused`` when the server said no and will say it again."""

    def __init__(self, reason: str, *, remedy: str = _RUNNING, refused: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy
        self.refused = refused


def network_failure(error: OSError) -> SessionFailed:
    if isinstance(error, ssl.SSLCertVerificationError):
        return SessionFailed(
            f"the server's certificate is not trusted: {error.verify_message}", remedy=_CERTIFICATE, refused=True
        )
    if isinstance(error, ssl.SSLError):
        return SessionFailed(f"TLS failed: {error}", remedy="see that the port speaks TLS, and whether it asks for a certificate")
    return SessionFailed(error.strerror or str(error) or type(error).__name__)


def server_error(text: str, *, connecting: bool) -> SessionFailed:
    """What an ERROR frame says, by its ``message`` header."""
    if connecting or "not authorized" in text:
        return SessionFailed(text, remedy=_RIGHTS, refused=True)
    if too_large(text):
        return SessionFailed(text, remedy="lower max_message_bytes in the URL, or raise wireFormat.maxDataLength of the server")
    return SessionFailed(text)


def too_large(text: str) -> bool:
    """Whether the server says that a message was too large (ActiveMQ's StompCodec)."""
    return "maximum data length" in text or "maximum frame size" in text


def only_rolled_back(text: str) -> bool:
    """Whether an ERROR says no more than that something in the transaction went wrong."""
    return "marked rollback only" in text


def broker_error(url: str, topics: Sequence[str], failed: SessionFailed) -> BrokerUnavailable | BrokerRefused:
    kind = BrokerRefused if failed.refused else BrokerUnavailable
    return kind(f"{url}: topic {named(topics)}: {failed.reason}", remedy=failed.remedy)


def named(topics: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = len(topics) - _NAMED
    return ", ".join(map(repr, topics[:_NAMED])) + (f" and {more} more" if more > 0 else "")
