"""What pika's errors mean for who uses the broker."""

from __future__ import annotations

import re
import ssl
from typing import Final

from pika import exceptions as pika_errors  # type: ignore[import-untyped]
from pika.adapters.utils import connection_workflow  # type: ignore[import-untyped]

from brokers.errors import BrokerRefused, BrokerUnavailable

_ACCESS_REFUSED: Final = 403
_PRECONDITION_FAILED: Final = 406
_NOT_ALLOWED: Final = 530
_TOO_LARGE: Final = re.compile(r"message size [0-9]+ is larger than configured max size ([0-9]+)")
_REMEDIES: Final = {
    _ACCESS_REFUSED: "grant the right: rabbitmqctl set_permissions -p VHOST USER CONFIGURE WRITE READ",
    _PRECONDITION_FAILED: "use the options that the queue was made with, or delete it: rabbitmqctl delete_queue",
    _NOT_ALLOWED: "make the vhost that ends the URL (rabbitmqctl add_vhost), or let the user in: rabbitmqctl set_permissions",
}
#: What the server says with 406 to a reader that kept deliveries longer than its ``consumer_timeout``.
_TOO_SLOW: Final = "delivery acknowledgement"


class LinkFailed(Exception):
    """A connection, or a channel of it, has ended or never came to be; ``cause`` is pika's word on why."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


def describe(url: str, user: str, about: str, error: BaseException) -> BrokerUnavailable | BrokerRefused:
    """The broker error for ``error``. ``about`` says what was being done, with the topic."""
    cause = _root(error.cause if isinstance(error, LinkFailed) else error)
    where = f"{url}: {about}"
    text = repr(cause)
    if isinstance(cause, TimeoutError) or "Timeout" in type(cause).__name__:
        return BrokerUnavailable(
            f"{where}: no answer in time: {cause}" if str(cause) else f"{where}: no answer in time",
            remedy="see whether the server is up, reachable, and has memory and disk left: rabbitmq-diagnostics status",
        )
    if isinstance(cause, pika_errors.ProbableAuthenticationError) and "(403)" in text:
        return BrokerRefused(
            f"{where}: the server does not let the user {user!r} in",
            remedy="check user and password (rabbitmqctl authenticate_user); guest may come only from the server's own machine",
        )
    code = _NOT_ALLOWED if "(530)" in text else getattr(cause, "reply_code", 0)
    if code in _REMEDIES and _TOO_SLOW not in text:
        return BrokerRefused(f"{where}: {_reply(cause)}", remedy=_REMEDIES[code])
    if isinstance(cause, ssl.SSLError) or ("certificate" in text.lower() and not code):
        return _tls(where, cause)
    remedy = "see whether the server is up and the URL has its host and port (5672, TLS: 5671)"
    if url.startswith("amqps:"):
        # In TLS 1.3 a server may refuse a client after the handshake, and be gone before its reason is read.
        remedy += "; if it asks for a certificate of its clients, name one it accepts: ?cert=FILE&key=FILE"
    return BrokerUnavailable(f"{where}: {_reply(cause)}", remedy=remedy)


def size_limit(error: BaseException) -> int | None:
    """The server's own limit, in bytes, when it closed the channel over too large a message."""
    found = _TOO_LARGE.search(str(error))
    return int(found[1]) if found else None


def _tls(where: str, cause: BaseException) -> BrokerRefused | BrokerUnavailable:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return BrokerRefused(
            f"{where}: the server's certificate is not trusted: {cause.verify_message}",
            remedy="name the authority that made it with ?ca=FILE, and the server by a name that is in its certificate",
        )
    if "certificate" in str(cause).lower():
        return BrokerRefused(
            f"{where}: the server does not accept this client's certificate: {cause}",
            remedy="name one that its authority has made, with its key: ?cert=FILE&key=FILE",
        )
    return BrokerUnavailable(f"{where}: TLS failed: {cause}", remedy="see whether the port is the one for TLS (5671)")


def _root(error: BaseException) -> BaseException:
    """What is inside the wrappers of pika's attempts to connect."""
    while True:
        if isinstance(error, connection_workflow.AMQPConnectionWorkflowFailed):
            error = error.exceptions[-1]
        elif isinstance(error, connection_workflow.AMQPConnectorPhaseErrorBase):
            error = error.exception
        elif type(error) is pika_errors.AMQPConnectionError and error.args and isinstance(error.args[0], BaseException):
            error = error.args[0]
        else:
            return error


def _reply(error: BaseException) -> str:
    """The server's own words where there are any."""
    return getattr(error, "reply_text", "") or str(error) or type(error).__name__
