"""What has become of the messages of one call of `publish`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from brokers.contract import Message

#: Bytes of a key: it is in the header of a message, which has to fit one frame (of 128 kB, unless a server is told otherwise).
MAX_KEY_BYTES: Final = 32_000


class Sending:
    """Which messages are sent and confirmed. Written by the link's thread; read by others when it is over."""

    def __init__(self, messages: Sequence[Message], indexes: Sequence[int]) -> None:
        self.messages = messages
        self.indexes = indexes
        #: How many of ``indexes`` were sent, and how many of these were answered.
        self.sent = 0
        self.answered = 0
        #: Topics whose messages came back because they are kept for no group, and whether the server rejected any.
        self.returned: set[str] = set()
        self.rejected = False
        self._stored = bytearray(len(messages))

    @property
    def done(self) -> bool:
        return self.answered == len(self.indexes)

    def answer(self, index: int, *, stored: bool) -> None:
        self.answered += 1
        if not stored:
            self.rejected = True
        elif self.messages[index].topic not in self.returned:
            self._stored[index] = True

    def missing(self) -> list[int]:
        """Which messages have to be published again: those not stored, and for the order what follows one of their key."""
        behind: set[tuple[str, str]] = set()
        found = []
        for index in self.indexes:
            message = self.messages[index]
            place = (message.topic, message.key)
            if not self._stored[index] or place in behind:
                behind.add(place)
                found.append(index)
        return found
