"""stomp.py: a transaction for every thousand messages, its commit with a receipt; a subscriber that acknowledges one by one."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import stomp  # type: ignore[import-untyped]

from benchmarks.contestants.terms import DEADLINE, GROUP, KEY, TOGETHER, Clock
from brokers.activemq.names import published_to, read_from
from brokers.url import parse_url


class _Receipts(stomp.ConnectionListener):  # type: ignore[misc]
    def __init__(self) -> None:
        self._came = threading.Event()
        self._last = ""

    def on_receipt(self, frame: Any) -> None:
        self._last = frame.headers["receipt-id"]
        self._came.set()

    def wait(self, receipt: str) -> None:
        while self._last != receipt:
            if not self._came.wait(DEADLINE):
                raise TimeoutError("no receipt")
            self._came.clear()


class _Reader(_Receipts):
    def __init__(self, connection: Any, count: int) -> None:
        super().__init__()
        self._connection = connection
        self._left = count

    def on_message(self, frame: Any) -> None:
        self._left -= 1
        self._connection.ack(frame.headers["ack"], receipt=None if self._left else "end")


def publish(url: str, topic: str, frames: Sequence[bytes]) -> float:
    destination = published_to(topic)
    headers = {"persistent": "true", "key": KEY, "JMSXGroupID": KEY}
    with _connected(url) as connection:
        receipts = _Receipts()
        connection.set_listener("receipts", receipts)

        def store(some: Sequence[bytes], number: int) -> None:
            transaction = connection.begin()
            for frame in some:
                connection.send(destination, frame, headers=headers, transaction=transaction)
            connection.commit(transaction, receipt=str(number))

        store(frames[:1], 0)
        receipts.wait("0")
        clock = Clock()
        calls = range(1, len(frames), TOGETHER)
        for first in calls:
            # The next ones are sent before these are confirmed.
            store(frames[first : first + TOGETHER], first)
        receipts.wait(str(calls[-1]))
        return clock.rate(len(frames) - 1)


def read(url: str, topic: str, count: int) -> float:
    clock = Clock()
    with _connected(url) as connection:
        reader = _Reader(connection, count)
        connection.set_listener("reader", reader)
        connection.subscribe(read_from(topic, GROUP), "0", "client-individual", {"activemq.prefetchSize": str(TOGETHER)})
        reader.wait("end")
        return clock.rate(count)


@contextmanager
def _connected(url: str) -> Iterator[Any]:
    parsed = parse_url(url)
    connection = stomp.Connection12([(host.name, host.port) for host in parsed.hosts], auto_decode=False)
    # The server takes escapes in a password, which the library does not write there.
    connection.connect(parsed.user, parsed.password.replace("\\", "\\\\").replace(":", "\\c"), wait=True)
    try:
        yield connection
    finally:
        connection.disconnect()
