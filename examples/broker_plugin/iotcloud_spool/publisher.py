"""Publishing: files are written first, and then get their names in every group, in order."""

from __future__ import annotations

import os
import struct
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from zlib import crc32

from brokers.contract import Message
from brokers.errors import BrokerUnavailable, not_stored
from iotcloud_spool.directory import Name, Spool, Topic, sync, write
from schemas.errors import ConfigurationError, IoTCloudError

_KEY_LENGTH = struct.Struct(">I")


def encode(message: Message) -> bytes:
    key = message.key.encode()
    return _KEY_LENGTH.pack(len(key)) + key + message.value


def decode(content: bytes) -> tuple[str, bytes]:
    """Key and value."""
    (length,) = _KEY_LENGTH.unpack_from(content)
    begin = _KEY_LENGTH.size + length
    return content[_KEY_LENGTH.size : begin].decode(), content[begin:]


class SpoolPublisher:
    """See `brokers.contract.Publisher`."""

    def __init__(self, spool: Spool, *, max_message_bytes: int) -> None:
        self._spool = spool
        self._max_message_bytes = max_message_bytes
        self._closing = threading.Event()

    def publish(self, messages: Sequence[Message], *, timeout: float = 30.0) -> None:
        """See `brokers.contract.Publisher.publish`. Of one topic, either all messages are published or none count as such."""
        deadline = time.monotonic() + timeout
        topics: dict[str, list[int]] = {}
        failed: dict[int, IoTCloudError] = {}
        refused: dict[int, IoTCloudError] = {}
        for position, message in enumerate(messages):
            problem = self._problem(message)
            if problem is None:
                topics.setdefault(message.topic, []).append(position)
            else:
                refused[position] = problem
        for topic, positions in topics.items():
            try:
                with self._spool.describing(topic):
                    self._publish(self._spool.topic(topic), [messages[position] for position in positions], deadline)
            except BrokerUnavailable as error:
                failed.update(dict.fromkeys(positions, error))
        if failed or refused:
            raise not_stored(len(messages), failed, refused)

    def close(self) -> None:
        self._closing.set()

    def _publish(self, topic: Topic, messages: Sequence[Message], deadline: float) -> None:
        if self._closing.is_set():
            raise BlockingIOError("the publisher is closed")
        topic.create()
        with _written(topic, messages) as files, topic.locked(deadline, self._closing) as locked:
            groups = locked.groups()
            for number, file, message in zip(locked.numbers(len(messages)), files, messages, strict=True):
                name = str(Name(number, f"{crc32(message.key.encode()):08x}", 0))
                for group in groups:
                    os.link(file, group / "waiting" / name)
            for group in groups:
                sync(group / "waiting")

    def _problem(self, message: Message) -> IoTCloudError | None:
        if len(message.value) > self._max_message_bytes:
            return IoTCloudError(
                f"{self._spool.url}: topic {message.topic!r}: a message of {len(message.value)} bytes is too large,"
                f" {self._max_message_bytes} are allowed",
                remedy="raise max_message_bytes in the URL",
            )
        try:
            self._spool.topic(message.topic)
        except ConfigurationError as error:
            return error
        return None


@contextmanager
def _written(topic: Topic, messages: Sequence[Message]) -> Iterator[list[Path]]:
    """Files with the messages, whose names here are gone afterwards."""
    files = [topic.writing / uuid.uuid4().hex for _ in messages]
    try:
        for file, message in zip(files, messages, strict=True):
            write(file, encode(message))
        yield files
    finally:
        for file in files:
            file.unlink(missing_ok=True)
