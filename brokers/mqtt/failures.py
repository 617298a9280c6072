"""What went wrong with a connection, in words, and whether trying again helps."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from brokers.errors import BrokerRefused, BrokerUnavailable
from brokers.mqtt.options import Target

BAD_CREDENTIALS: Final = 0x86
NOT_AUTHORIZED: Final = 0x87
_TAKEN_OVER: Final = 0x8E
NO_SUBSCRIBERS: Final = 0x10
#: Answers to a PUBLISH after which the same message would be refused for ever (3.4.2.1): the topic's name, a payload that
#: is not what it says. A right that is missing can be given.
_NEVER_TAKEN: Final = frozenset({0x90, 0x99})
#: Answers to a CONNECT, and reasons of a DISCONNECT, after which trying again may help: the server is unavailable, busy,
#: shutting down, idle too long, over a rate or a quota, under administration, moved.
_PASSING: Final = frozenset({0x88, 0x89, 0x8B, 0x8D, 0x93, 0x96, 0x97, 0x98, 0x9C, 0x9D, 0x9F, 0xA0})
_SEE_SERVER: Final = "see that the server runs and that nothing between here and there drops connections"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no connection. ``final``: trying again does not help."""

    reason: str
    remedy: str
    final: bool = False

    def error(self, url: str, topics: Sequence[str]) -> BrokerRefused | BrokerUnavailable:
        kind = BrokerRefused if self.final else BrokerUnavailable
        return kind(f"{about(url, topics)}: {self.reason}", remedy=self.remedy)


CLOSED: Final = Failure("it is closed", "make another one")
CUT: Final = Failure("the connection was lost", _SEE_SERVER)
SILENT: Final = Failure("the server does not answer", _SEE_SERVER)
_TAKEN: Final = Failure(
    "another client of the same group has taken the session over",
    "let only one process read a topic for a group; one that makes sure of the session does this once, when it starts",
)


def about(url: str, topics: Sequence[str]) -> str:
    """The beginning of every message."""
    names = list(dict.fromkeys(topics))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{url}: topic {', '.join(repr(name) for name in names[:3])}{more}"


def unreachable(error: Exception, target: Target) -> Failure:
    """From what connecting raised."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Failure(
            f"the server's certificate is not trusted: {error.verify_message}",
            "name the file of the authority that signed it with ca=, and reach the server by a name in its certificate",
            final=True,
        )
    if isinstance(error, ssl.SSLError):
        return Failure(f"TLS failed: {error.reason or error}", "see that this port speaks TLS; its usual port is 8883")
    if isinstance(error, socket.gaierror):
        return Failure(f"the host's name has no address: {error.strerror}", "see that it is written right, and the name server")
    names = ", ".join(f"{name}:{port}" for name, port in target.hosts)
    if isinstance(error, TimeoutError):
        return Failure(f"no answer from {names}", "see that the server runs there and that no firewall is in between")
    return Failure(f"cannot connect to {names}: {error}", "see that the server runs there")


def bad_certificates(error: Exception, target: Target) -> Failure:
    """From what loading certificate files raised."""
    named = ", ".join(path for path in (target.options.ca, target.options.cert, target.options.key) if path)
    return Failure(
        f"the certificate files {named} cannot be used: {error}", "see that each is a PEM file and readable", final=True
    )


def refused(code: int, name: str) -> Failure:
    """From the answer to a CONNECT (3.2.2.2)."""
    if code in (BAD_CREDENTIALS, NOT_AUTHORIZED):
        return Failure(f"the server refused the login: {name}", "see user and password, or the client's certificate", final=True)
    if code in _PASSING:
        return Failure(f"the server takes no connection now: {name}", "it is tried again")
    return Failure(f"the server refused to be connected to: {name}", "it has to speak MQTT version 5; see its log", final=True)


def dropped(code: int, name: str, *, answered: bool, target: Target) -> Failure:
    """From the end of a connection (3.14.2.1). ``answered``: whether the server had accepted it before."""
    if code == _TAKEN_OVER:
        return _TAKEN
    if code >= 0x80 and code != 0x80 and code not in _PASSING:
        return Failure(f"the server ended the connection: {name}", "see the server's log", final=code == NOT_AUTHORIZED)
    if not answered and target.tls and not target.options.cert:
        return Failure(
            "the server ended the connection before it answered",
            "it may want a client certificate: name its files with cert= and key=",
        )
    if not answered:
        return Failure(
            "the server ended the connection before it answered", "see that this port speaks MQTT, and TLS only if it is mqtts:"
        )
    return Failure(f"{CUT.reason}: {name}", CUT.remedy) if code > 0x80 else CUT


def not_subscribed(code: int, name: str) -> Failure:
    """From the answer to a SUBSCRIBE that did not grant quality of service 1 (3.9.3)."""
    if code < 0x80:
        return Failure("the server delivers at most once: it granted quality of service 0", "allow 1 in its settings", final=True)
    return Failure(
        f"the server refused the subscription: {name}",
        "give this user the right to subscribe to the topic" if code == NOT_AUTHORIZED else "see the server's log",
        final=code != 0x97,
    )


def not_published(code: int, topic: str, *, require_subscriber: bool) -> Failure | None:
    """From the answer to a PUBLISH to ``topic`` (3.4.2.1); None when the server has taken the message over."""
    if code == NO_SUBSCRIBERS and require_subscriber:
        return Failure(
            "no session subscribes to the topic: the server would have thrown the messages away",
            "start what reads them (a relay, a pipeline, the master) once; from then on its session keeps them",
        )
    if code < 0x80:
        return None
    if code == NOT_AUTHORIZED:
        return Failure(
            f"the server refused: not authorised to publish to {topic!r}", "give this user the right to publish to the topic"
        )
    return Failure(f"the server refused: reason code 0x{code:02X}", "see the server's log", final=code in _NEVER_TAKEN)
