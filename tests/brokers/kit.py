"""What tests of brokers are made of: numbered messages, processes that publish them, and readers of all of them."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from brokers import Broker, Delivery, LogReader, Message, QueueReader, Record, connect
from brokers.positions import Positions
from brokers.subscription import subscribe

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 60.0


class Numbered(NamedTuple):
    """What a numbered message says: who published it, in which call, as which of the call's messages."""

    publisher: str
    call: int
    index: int


def numbered(topic: str, publisher: str, call: int, count: int, size: int = 200) -> list[Message]:
    """The messages of one call, keyed by publisher, with a checksum over each and sizes that vary."""
    messages = []
    for index in range(count):
        head = f"{publisher} {call} {index} ".encode()
        body = head + random.Random(head).randbytes(random.Random(head).randrange(size))
        messages.append(Message(topic, publisher, body + crc32(body).to_bytes(4, "big")))
    return messages


def parse(value: bytes) -> Numbered:
    """Fails for a torn message."""
    assert crc32(value[:-4]).to_bytes(4, "big") == value[-4:]
    publisher, call, index = value.split(b" ", 3)[:3]
    return Numbered(publisher.decode(), int(call), int(index))


@contextmanager
def publishing(url: str, topic: str, name: str, *, calls: int, per_call: int = 5) -> Iterator[subprocess.Popen[str]]:
    """A process that publishes numbered messages and prints the number of each call that has returned."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.brokers.kit", url, topic, name, str(calls), str(per_call)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


@contextmanager
def following(broker: Broker, topic: str, *, group: str = "tests", positions: Positions | None = None) -> Iterator[QueueReader]:
    """A reader of all that is published from here on, and of all that is there when it has no position."""
    reader = subscribe(broker, [topic], group=group, positions=positions, start="beginning")
    try:
        yield reader
    finally:
        reader.close()


def take(reader: QueueReader, count: int, *, acknowledge: bool = True) -> list[Delivery]:
    """Deliveries, at least ``count`` of them, acknowledged as they come; fails when they do not come."""
    found: list[Delivery] = []
    deadline = time.monotonic() + PATIENCE
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} deliveries came"
        deliveries = reader.poll(max_messages=1000, timeout=1.0)
        if acknowledge:
            reader.acknowledge(deliveries)
        found += deliveries
    return found


def read_all(reader: LogReader, topic: str) -> dict[int, list[Record]]:
    """All records there are now, by partition."""
    found: dict[int, list[Record]] = {}
    for partition in reader.partitions(topic):
        records: list[Record] = []
        offset, end = reader.begin_offset(topic, partition), reader.end_offset(topic, partition)
        while offset < end:
            more = reader.read(topic, partition, offset, max_records=1000, max_bytes=1 << 20, timeout=PATIENCE)
            assert more, f"nothing at {offset}, though the end is {end}"
            records += more
            offset = more[-1].offset + 1
        found[partition] = records
    return found


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait until ``condition`` holds; fails when it never does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.01)


def main(arguments: Sequence[str]) -> None:
    url, topic, name, calls, per_call = arguments
    publisher = connect(url).publisher()
    for call in range(int(calls)):
        publisher.publish(numbered(topic, name, call, int(per_call)))
        sys.stdout.write(f"{call}\n")
        sys.stdout.flush()
    publisher.close()


if __name__ == "__main__":
    main(sys.argv[1:])
