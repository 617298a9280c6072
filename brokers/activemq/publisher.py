"""Publishing in transactions.

Receipts alone would let a message in after one before it was turned down, and cost the server a write to its disk each.
The messages of a call go in one transaction (a few, for a large call), all in flight at once with one receipt for the
commit: they are stored all or none, with one write.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final

from brokers.activemq.failures import SessionFailed, broker_error, too_large
from brokers.activemq.frames import frame
from brokers.activemq.names import published_to
from brokers.activemq.options import ActiveMqOptions, Address
from brokers.activemq.session import Session, open_session
from brokers.contract import Message
from brokers.errors import PublishError
from schemas.errors import ConfigurationError
from schemas.topics import check_topic

#: Messages of one transaction; the server holds them in memory until it ends.
_MAX_MESSAGES: Final = 2_000
_MAX_BYTES: Final = 4 << 20
#: Bytes of a key; ActiveMQ takes headers of 10 KiB, escapes included.
_MAX_KEY_BYTES: Final = 4_096


class ActiveMqPublisher:
    """See `brokers.contract.Publisher`."""

    def __init__(self, address: Address, options: ActiveMqOptions) -> None:
        self._address = address
        self._options = options
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._session: Session | None = None

    def publish(self, messages: Sequence[Message], *, timeout: float = 30.0) -> None:
        deadline = time.monotonic() + timeout
        refused = {index: error for index, message in enumerate(messages) if (error := self._unfit(message))}
        failures: dict[int, SessionFailed] = {}
        pending = [index for index in range(len(messages)) if index not in refused]
        with self._lock:
            while pending:
                done = _first_batch(messages, pending)
                try:
                    self._store([messages[index] for index in done], deadline)
                except SessionFailed as failed:
                    self._drop()
                    # Nothing of the transaction was stored: without those it failed for, the others are still in order.
                    if too_large(failed.reason):
                        # The server does not name it. Of those too large the largest is one.
                        done = [max(done, key=lambda index: len(messages[index].value))]
                        refused[done[0]] = failed
                    else:
                        done = _barred(messages, pending, failed) or pending
                        failures.update(dict.fromkeys(done, failed))
                gone = set(done)
                pending = [index for index in pending if index not in gone]
        if refused or failures:
            raise self._error(messages, refused, failures)

    def close(self) -> None:
        self._closing.set()
        if session := self._session:
            session.close()

    def _unfit(self, message: Message) -> SessionFailed | None:
        """Why a message will never be taken, if so."""
        try:
            check_topic(message.topic)
            key = message.key.encode()
        except ConfigurationError as error:
            return SessionFailed(error.message, remedy=error.remedy, refused=True)
        except UnicodeEncodeError:
            key = b"\0"
        if b"\0" in key or len(key) > _MAX_KEY_BYTES:
            return SessionFailed(
                f"the key {message.key[:40]!r} does not fit into a header",
                remedy=f"at most {_MAX_KEY_BYTES} bytes of UTF-8, none of them zero",
                refused=True,
            )
        if len(message.value) > self._options.max_message_bytes:
            return SessionFailed(
                f"a message of {len(message.value)} bytes is too large, {self._options.max_message_bytes} are allowed",
                remedy="raise max_message_bytes in the URL, as far as the server's wireFormat.maxDataLength goes",
                refused=True,
            )
        return None

    def _store(self, messages: Sequence[Message], deadline: float) -> None:
        session = self._connected(deadline)
        transaction = {"transaction": "t"}
        frames = itertools.chain([frame("BEGIN", transaction)], self._sends(messages))
        session.ask(frames, "COMMIT", transaction, deadline=deadline)

    def _sends(self, messages: Sequence[Message]) -> Iterator[bytes]:
        heads: dict[tuple[str, str, int], bytes] = {}
        for topic, key, value in messages:
            kind = (topic, key, len(value))
            if kind not in heads:
                heads[kind] = self._head(*kind)
            yield heads[kind] + value + b"\0"

    def _head(self, topic: str, key: str, size: int) -> bytes:
        """A SEND up to its body."""
        headers = {
            "destination": published_to(topic),
            "transaction": "t",
            "persistent": "true",
            "content-length": str(size),
            "key": key,
        }
        if key and self._options.message_groups:
            headers["JMSXGroupID"] = key
        return frame("SEND", headers)[:-1]

    def _connected(self, deadline: float) -> Session:
        if self._closing.is_set():
            raise SessionFailed("the publisher is closed", remedy="take a new one")
        if self._session is None or not self._session.usable:
            self._drop()
            self._session = open_session(self._address, deadline=deadline, ended=self._closing.is_set)
            if self._closing.is_set():
                self._session.close()
        return self._session

    def _drop(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _error(
        self, messages: Sequence[Message], refused: dict[int, SessionFailed], failures: dict[int, SessionFailed]
    ) -> PublishError:
        unacknowledged = tuple(sorted({*refused, *failures}))
        index, failed = next(iter((failures or refused).items()))
        described = broker_error(self._address.url, [messages[index].topic], failed)
        return PublishError(
            f"{len(unacknowledged)} of {len(messages)} messages not stored: {described.message}",
            unacknowledged=unacknowledged,
            refused=tuple(sorted(refused)),
            remedy=failed.remedy,
        )


def _first_batch(messages: Sequence[Message], pending: Sequence[int]) -> list[int]:
    """The positions that go into the next transaction: one at least."""
    batch: list[int] = []
    size = 0
    for index in pending[:_MAX_MESSAGES]:
        size += len(messages[index].value)
        if batch and size > _MAX_BYTES:
            break
        batch.append(index)
    return batch


def _barred(messages: Sequence[Message], pending: Sequence[int], failed: SessionFailed) -> list[int]:
    """The positions of the topic that the user may not write, if that is it. An administrator may yet let him."""
    if not failed.refused:
        return []
    return [index for index in pending if failed.reason.endswith(f"//VirtualTopic.{messages[index].topic}")]
