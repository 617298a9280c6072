"""What becomes of a topic of which an MQTT server turns a message down and stays connected, as mosquitto does not."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest

from brokers import Message, PublishError, connect

QUOTA_EXCEEDED = 0x97
_CONNECT, _PUBLISH, _UNSUBSCRIBE = 1, 3, 10


@contextmanager
def judging(judge: Callable[[bytes], int]) -> Iterator[str]:
    """The URL of a server that answers each value with the reason code which ``judge`` gives."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while head := self.rfile.read(1):
                size = shift = 0
                while True:
                    (more,) = self.rfile.read(1)
                    size |= (more & 0x7F) << shift
                    shift += 7
                    if more < 0x80:
                        break
                self.answer(head[0] >> 4, self.rfile.read(size))

        def answer(self, kind: int, body: bytes) -> None:
            if kind == _CONNECT:
                self.wfile.write(b"\x20\x03\0\0\0")
            elif kind == _PUBLISH:
                at = 2 + int.from_bytes(body[:2], "big")
                value = body[at + 3 + body[at + 2] :]
                self.wfile.write(b"\x40\x03" + body[at : at + 2] + bytes([judge(value)]))
            elif kind == _UNSUBSCRIBE:
                self.wfile.write(b"\xb0\x04" + body[:2] + b"\0\0")

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"mqtt://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_what_follows_a_message_that_was_turned_down_waits_until_it_is_taken() -> None:
    turned_down = {b"full 1"}
    seen: list[bytes] = []

    def judge(value: bytes) -> int:
        seen.append(value)
        return QUOTA_EXCEEDED if value in turned_down else 0

    full = [Message("site.app.full", "key", b"full %d" % number) for number in range(4)]
    other = [Message("site.app.other", "key", b"other %d" % number) for number in range(4)]
    with judging(judge) as url:
        broker = connect(url)
        with closing(broker.publisher()) as publisher, pytest.raises(PublishError, match="0x97") as caught:
            publisher.publish([message for pair in zip(full, other, strict=True) for message in pair])
        # What was on its way beside it may be there, and is to come once more: behind it.
        assert caught.value.unacknowledged == (2, 4, 6)
        assert caught.value.refused == ()
        seen.clear()
        with closing(broker.publisher()) as publisher, pytest.raises(PublishError) as caught:
            publisher.publish(full[1:] + other)
        assert caught.value.unacknowledged == (0, 1, 2)
        assert seen == [*(message.value for message in other), b"full 1"]
        seen.clear()
        turned_down.clear()
        with closing(broker.publisher()) as publisher:
            publisher.publish(full[1:])
        assert seen == [message.value for message in full[1:]]
