"""Making the queues of a group, and emptying them. STOMP cannot delete a queue."""

from __future__ import annotations

import time
from typing import Final

from brokers.activemq.failures import SessionFailed
from brokers.activemq.session import Session

#: Seconds without a message after which a queue is looked at, whether it is empty.
_QUIET: Final = 0.3
_MESSAGES: Final = 1_000


def make_queue(session: Session, queue: str, *, deadline: float) -> None:
    """Raises `SessionFailed`. A queue comes into being with a subscription; this one matches no message."""
    headers = {"destination": queue, "id": "make", "ack": "client", "selector": "1 = 0"}
    session.ask([], "SUBSCRIBE", headers, deadline=deadline)
    session.ask([], "UNSUBSCRIBE", {"id": "make"}, deadline=deadline)


def empty_queue(session: Session, queue: str, *, deadline: float) -> None:
    """Take out all there is. Raises `SessionFailed`, also when more keeps coming until the deadline."""
    while True:
        # Acknowledged by the server as it sends them.
        session.ask([], "SUBSCRIBE", {"destination": queue, "id": "empty", "ack": "auto"}, deadline=deadline)
        while session.take(_MESSAGES, until=min(deadline, time.monotonic() + _QUIET)):
            pass
        session.ask([], "UNSUBSCRIBE", {"id": "empty"}, deadline=deadline)
        while session.take(_MESSAGES, until=0.0):
            pass
        if _is_empty(session, queue, deadline):
            return
        if time.monotonic() > deadline:
            raise SessionFailed("there was always more to take out", remedy="see that nobody publishes meanwhile, and try again")


def _is_empty(session: Session, queue: str, deadline: float) -> bool:
    """What ActiveMQ shows to a browser of a queue ends with a message that says so."""
    session.ask([], "SUBSCRIBE", {"destination": queue, "id": "browse", "ack": "auto", "browser": "true"}, deadline=deadline)
    seen = 0
    while True:
        messages = session.take(1, until=deadline)
        if not messages:
            raise SessionFailed("the server did not show what is in the queue before the deadline")
        if messages[0].headers.get("browser") == "end":
            break
        seen += 1
    session.ask([], "UNSUBSCRIBE", {"id": "browse"}, deadline=deadline)
    return seen == 0
