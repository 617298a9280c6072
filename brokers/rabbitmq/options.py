"""What an ``amqp:`` or ``amqps:`` URL may say after its ``?``."""

from __future__ import annotations

from typing import Literal

import msgspec

from settings import Bytes, Seconds


class RabbitOptions(msgspec.Struct, frozen=True):
    """Zero turns ``heartbeat`` and ``expires`` off."""

    #: Files in PEM: authorities to trust instead of the system's, and this client's certificate and key.
    ca: str = ""
    cert: str = ""
    key: str = ""
    #: Who this client is: the user and password of the URL, or the name in its certificate.
    auth: Literal["plain", "external"] = "plain"
    #: Seconds of silence after which either side takes the other for dead.
    heartbeat: Seconds = Seconds(30)
    #: Deliveries per topic that a reader may have in hand.
    prefetch: int = 1_000
    max_message_bytes: Bytes = Bytes(16_000_000)
    queue_type: Literal["classic", "quorum"] = "classic"
    #: Only one reader of a group gets deliveries, the others wait for its end: order per key, whatever their number.
    single_active_consumer: bool = False
    #: Seconds without a reader after which the queue of a group goes, with what is in it.
    expires: Seconds = Seconds(0)
    #: What happens to messages of a topic that is kept for no group.
    unread: Literal["drop", "refuse"] = "drop"

    def __post_init__(self) -> None:
        if not 1 <= self.prefetch <= 65_535:
            raise ValueError(f"prefetch must be 1 to 65535, not {self.prefetch}")
        if self.heartbeat and not 1 <= self.heartbeat <= 65_535:
            raise ValueError(f"heartbeat must be 1 to 65535 seconds, or 0, not {self.heartbeat:g}")
        if self.expires and self.expires < 0.001:
            raise ValueError(f"expires must be at least 1ms, or 0, not {self.expires:g}")
