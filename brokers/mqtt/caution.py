"""What publishers of one broker have learnt of its server, so that the next one need not learn it again."""

from __future__ import annotations

from typing import Final

from brokers.doubts import Doubts

#: Messages of a portion; all of it is on its way at once, if the server does not want fewer.
MOST: Final = 1_000


class Caution:
    """How many messages to send before the first answer, and which topics to send last.

    After a connection was lost the first portion is a single message, and each next one twice as large. A server that has
    become slow gets somewhere that way; and of one that ends the connection after it turned a message down, as mosquitto 2.0
    does, the answer is read: it would be lost if more had been sent after that message.
    """

    def __init__(self) -> None:
        self.portion = MOST
        self.doubts = Doubts()
