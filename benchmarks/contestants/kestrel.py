"""A socket and the memcache protocol: no client library of Python knows Kestrel's reliable reads, or sends many at once."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import closing
from typing import Protocol

from benchmarks.contestants.terms import DEADLINE, GROUP, KEY, TOGETHER, Clock
from brokers.kestrel.names import fanout_queue_of, queue_of
from brokers.url import parse_url


class _Lines(Protocol):
    def readline(self) -> bytes: ...


def publish(url: str, topic: str, frames: Sequence[bytes]) -> float:
    queue, begin = queue_of(topic).encode(), KEY.encode()
    with closing(_connect(url)) as connection, connection.makefile("rb") as answers:

        def store(some: Sequence[bytes]) -> None:
            connection.sendall(
                b"".join(b"set %b 0 0 %d\r\n%b%b\r\n" % (queue, len(begin) + len(frame), begin, frame) for frame in some)
            )
            for _ in some:
                _expect(answers, b"STORED\r\n")

        store(frames[:1])
        clock = Clock()
        for first in range(1, len(frames), TOGETHER):
            store(frames[first : first + TOGETHER])
        return clock.rate(len(frames) - 1)


def read(url: str, topic: str, count: int) -> float:
    queue = fanout_queue_of(topic, GROUP).encode()
    clock = Clock()
    with closing(_connect(url)) as connection, connection.makefile("rb", 1 << 20) as answers:
        left = count
        while left:
            some = min(left, TOGETHER)
            connection.sendall(b"get %b/open\r\n" % queue * some)
            frames = []
            for _ in range(some):
                size = int(answers.readline().rsplit(b" ", 1)[1])
                # As whoever works on them before confirming would keep them.
                frames.append(answers.read(size + 2)[len(KEY) : -2])
                _expect(answers, b"END\r\n")
            connection.sendall(b"confirm %b %d\r\n" % (queue, some))
            _expect(answers, b"END\r\n")
            left -= some
        return clock.rate(count)


def _connect(url: str) -> socket.socket:
    host = parse_url(url).hosts[0]
    connection = socket.create_connection((host.name, host.port or 0), timeout=DEADLINE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _expect(answers: _Lines, wanted: bytes) -> None:
    line = answers.readline()
    if line != wanted:
        raise ConnectionError(f"the server answered {line!r}, not {wanted!r}")
