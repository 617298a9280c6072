"""What has become of the messages of one call of `publish`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from brokers.contract import Message

#: Bytes of a key: it is in the header of a message, which has to fit one frame (of 128 kB, unless a server is told otherwise).
MAX_KEY_BYTES: Final = 32_000


class Sending:
    """Which messages are sent and confirmed. Written by the link's thread; read by others when it is over.

    After the first message of a topic that is not stored, no more of it is sent. ``doubtful`` topics begin with a single
    message, which the rest follows once it is stored.
    """

    def __init__(
        self, messages: Sequence[Message], indexes: Sequence[int], doubtful: Mapping[str, Sequence[int]] | None = None
    ) -> None:
        doubtful = doubtful or {}
        self.messages = messages
        self._all = sorted([*indexes, *(index for members in doubtful.values() for index in members)])
        self._held = {topic: members[1:] for topic, members in doubtful.items()}
        #: What to send, in this order, and how many of these were sent, or passed over, and how many are settled.
        self._queue = [*indexes, *(members[0] for members in doubtful.values())]
        self._at = 0
        self._settled = 0
        #: Topics whose messages came back because they are kept for no group, those of which the server rejected one, and both.
        self.returned: set[str] = set()
        self.rejected: set[str] = set()
        self.barred: set[str] = set()
        self._stored = bytearray(len(messages))

    @property
    def done(self) -> bool:
        return self._settled == len(self._queue)

    def next(self) -> int | None:
        """The position of the message to send next; `sent` says that it is."""
        while self._at < len(self._queue):
            index = self._queue[self._at]
            if self.messages[index].topic not in self.barred:
                return index
            self._at += 1
            self._settled += 1
        return None

    def sent(self) -> None:
        self._at += 1

    def answer(self, index: int, *, stored: bool) -> None:
        topic = self.messages[index].topic
        held = self._held.pop(topic, ()) if self._held else ()
        self._settled += 1
        if not stored:
            self.rejected.add(topic)
            self.barred.add(topic)
        elif topic in self.returned:
            self.barred.add(topic)
        else:
            self._stored[index] = True
            self._queue += held

    def stored(self, index: int) -> bool:
        return bool(self._stored[index])

    def missing(self) -> list[int]:
        """Which messages have to be published again: those not stored, and for the order what follows one of their key."""
        behind: set[tuple[str, str]] = set()
        found = []
        for index in self._all:
            message = self.messages[index]
            place = (message.topic, message.key)
            if not self._stored[index] or place in behind:
                behind.add(place)
                found.append(index)
        return found
