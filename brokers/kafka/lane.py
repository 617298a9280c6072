"""What one call publishes to one partition: batches in their order, one at a time on its way."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from brokers.contract import Message
from brokers.kafka.batches import Pair, encode_batch
from brokers.kafka.failures import Trouble
from brokers.kafka.identity import Identity
from brokers.positions import Place

#: Bytes of a record beside its key and value, at most.
_AROUND = 40


class Lane:
    """Positions are those in the caller's list. ``largest`` bounds the bytes of a batch with more than one message."""

    def __init__(self, place: Place, messages: Sequence[Message], positions: Sequence[int], *, largest: int) -> None:
        self.place = place
        self._messages = messages
        self._batches: deque[list[int]] = deque()
        self._encoded: bytes | None = None
        #: Whether the batch on its way was sent before, with an outcome that is not known.
        self.doubtful = False
        #: Why it stopped, if it did.
        self.trouble: Trouble | None = None
        room = 0
        for position in positions:
            message = messages[position]
            size = len(message.key) + len(message.value) + _AROUND
            if room < size:
                self._batches.append([])
                room = largest
            self._batches[-1].append(position)
            room -= size

    @property
    def head(self) -> list[int]:
        """Positions in the batch that is next."""
        return self._batches[0]

    @property
    def open(self) -> bool:
        """Whether there is something left to send."""
        return bool(self._batches) and self.trouble is None

    def left(self) -> list[int]:
        """Positions of what is not stored."""
        return [position for batch in self._batches for position in batch]

    def encoded(self, identity: Identity, *, time: int, compression: str) -> bytes:
        """The next batch; the same bytes again until it is settled, which is how the server knows a repetition."""
        if self._encoded is None:
            records: list[Pair] = [(self._messages[at].key.encode(), self._messages[at].value) for at in self.head]
            self._encoded = encode_batch(records, identity.stamp(self.place), time=time, compression=compression)
        return self._encoded

    def stored(self, identity: Identity) -> None:
        """The next batch is in the log."""
        identity.stored(self.place, len(self._batches.popleft()))
        self._encoded = None
        self.doubtful = False

    def split(self) -> None:
        """Send the messages of the next batch one by one: together they are too large."""
        self._batches.extendleft([position] for position in reversed(self._batches.popleft()))
        self._encoded = None

    def drop(self) -> list[int]:
        """Leave the next batch out: the server will never take it."""
        self._encoded = None
        self.doubtful = False
        return self._batches.popleft()
