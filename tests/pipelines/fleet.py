"""A fleet's day in small: what gateways send, what happens to it on the way, and what must come out. Plain Python."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from brokers import Message
from schemas.control import Dropped, EpochStart, encode_control
from schemas.frame import encode_frame
from schemas.header import HEADER
from schemas.registry import event_schema, shipped

START = datetime(2010, 5, 9, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
READING = shipped("Reading")
STRANGER = event_schema(
    {"type": "record", "name": "Stranger", "fields": [{"name": name, "type": type_} for name, type_ in HEADER]}
)
TOPICS = ("site.app.temperature", "site.app.humidity")
Row = tuple[int, int, str, str]
Values = tuple[int, float, float, float, float]
#: Second in which a message reaches the log, its number, to tell those of one second apart, and itself.
Sent = tuple[float, int, Message]


def micros(time: datetime) -> int:
    return (time - EPOCH) // timedelta(microseconds=1)


@dataclass
class Fleet:
    """What was sent, in the order of the log, and what is expected of it."""

    messages: list[Message] = field(default_factory=list)
    #: Events that must be counted, once each.
    counted: list[dict[str, Any]] = field(default_factory=list)
    #: Topic, gateway, first, last, state.
    gaps: set[tuple[str, str, int, int, str]] = field(default_factory=set)
    damaged: int = 0
    unknown: int = 0
    future: int = 0

    def windows(self, sizes: Iterable[tuple[int, int]]) -> dict[Row, Values]:
        """Rows by window (size and step in seconds), device and channel: count, sum, mean, min, max."""
        groups: dict[Row, list[float]] = defaultdict(list)
        for event in self.counted:
            time = micros(event["event_time"])
            for size, every in sizes:
                last = time // (every * 1_000_000) * every * 1_000_000
                for start in range(last, time - size * 1_000_000, -every * 1_000_000):
                    groups[start, start + size * 1_000_000, event["device"], event["channel"]].append(event["value"])
        return {
            key: (len(values), math.fsum(values), math.fsum(values) / len(values), min(values), max(values))
            for key, values in groups.items()
        }


def fleet(seed: int, *, seconds: int = 600, gateways: int = 3, devices: int = 4) -> Fleet:
    """Events of every device each second for some minutes of 2010, with everything that goes wrong on the way."""
    chance = random.Random(seed)
    found = Fleet()
    timed: list[Sent] = []
    for topic in TOPICS:
        for number in range(gateways):
            timed += gateway_of(chance, found, topic, f"gateway-{number}", seconds, devices)
    found.messages = in_order(timed)
    return found


def in_order(timed: Iterable[Sent]) -> list[Message]:
    return [message for *_, message in sorted(timed, key=lambda sent: sent[:2])]


def gateway_of(chance: random.Random, found: Fleet, topic: str, gateway: str, seconds: int, devices: int) -> list[Sent]:
    """What a gateway sends of one topic."""
    timed: list[Sent] = []
    channel = topic.rpartition(".")[2]
    seq = 0

    def send(at: float, frame: bytes) -> None:
        timed.append((at, len(timed), Message(topic, gateway, frame)))

    send(-1, encode_control(EpochStart(gateway, 1, None, None)))
    second = 0
    while second < seconds:
        length = chance.randint(1, 5)
        events = [
            {
                "gateway": gateway,
                "epoch": 1,
                "seq": seq + place,
                "gateway_time": START + timedelta(seconds=second + place // devices),
                "device": f"{gateway}-device-{place % devices}",
                "channel": channel,
                "event_time": START + timedelta(seconds=second + place // devices, milliseconds=chance.randint(0, 900)),
                "value": round(chance.gauss(20, 5), 2),
            }
            for place in range(length * devices)
        ]
        first, seq = seq, seq + len(events)
        deliver(chance, found, topic, events, first, at=second + length + chance.uniform(0, 2), send=send)
        second += length
    # The last frame of all arrives whole, so that every hole before it is known.
    final = [{**events[-1], "seq": seq, "event_time": START + timedelta(seconds=seconds)}]
    found.counted += final
    send(seconds + 400, encode_frame(READING, final))
    return timed


def deliver(
    chance: random.Random, found: Fleet, topic: str, events: list[dict[str, Any]], first: int, *, at: float, send: Any
) -> None:
    """Call ``send(at, frame)`` for a frame of ``events``, or what becomes of it on the way. ``found`` gets what is expected."""
    frame = encode_frame(READING, events)
    gateway, last = events[0]["gateway"], first + len(events) - 1
    fate = chance.random()
    if fate < 0.02:
        found.gaps.add((topic, gateway, first, last, "open"))
        return
    if fate < 0.04:
        found.gaps.add((topic, gateway, first, last, "open"))
        found.damaged += 1
        send(at, frame[: -chance.randint(1, 9)])
        return
    if fate < 0.06:
        found.gaps.add((topic, gateway, first, last, "declared"))
        send(at, encode_control(Dropped(gateway, 1, first, last, "outbox-full")))
        return
    if fate < 0.07:
        found.future += len(events)
        send(at, encode_frame(READING, [{**event, "event_time": datetime(2099, 1, 1, tzinfo=UTC)} for event in events]))
        return
    if fate < 0.08:
        found.unknown += 1
        stranger = {name: value for name, value in events[0].items() if name != "value"}
        send(at, encode_frame(STRANGER, [stranger]))
    found.counted += events
    # Some arrive minutes late, though not too late; some twice, or three times.
    delay = chance.uniform(60, 200) if chance.random() < 0.05 else 0.0
    send(at + delay, frame)
    while chance.random() < 0.1:
        send(at + delay + chance.choice([0.0, 3.0, 150.0]), frame)


def rows_of(path: Any) -> tuple[dict[Row, Values], int]:
    """Rows of a results database, and how many of them were written late."""
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(path)) as database:
        listed = database.execute(
            "SELECT window_start, window_end, device, channel, count, sum, mean, min, max, pane FROM aggregates_micros"
        ).fetchall()
    rows = {(start, end, device, channel): tuple(values) for start, end, device, channel, *values, _ in listed}
    return rows, sum(1 for row in listed if row[-1] == "late")  # type: ignore[return-value]


def difference(found: dict[Row, Values], expected: dict[Row, Values]) -> list[Any]:
    """Rows in which they differ: the first few, with how many there are."""
    keys = sorted(key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key))
    return [(len(keys), [(key, found.get(key), expected.get(key)) for key in keys[:5]])] if keys else []


def pieces(messages: Sequence[Message], number: int) -> list[Sequence[Message]]:
    step = -(-len(messages) // number)
    return [messages[place : place + step] for place in range(0, len(messages), step)]
