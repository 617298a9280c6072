"""A recorded day on its way to the log, beside a synthetic fleet: motes of two gateways, one of which is away for hours."""

from __future__ import annotations

import random
from typing import Any

from brokers import Message
from examples.demo.expected import readings
from examples.demo.layout import RECORDING
from schemas.control import EpochStart, encode_control
from schemas.frame import encode_frame
from tests.pipelines.fleet import READING, START, TOPICS, Fleet, Sent, deliver, gateway_of, in_order

#: Readings of a frame: two minutes of two motes.
_FRAME = 48
#: Seconds of the day between which the second gateway reaches no broker; it delivers afterwards.
_AWAY = (1.5 * 3600, 4.5 * 3600)


def recorded_day(seed: int) -> Fleet:
    """What the motes of the recording said, and a fleet's ten minutes: all of it with what goes wrong on the way."""
    chance = random.Random(seed)
    found = Fleet()
    timed: list[Sent] = []
    for topic in TOPICS:
        timed += gateway_of(chance, found, topic, "synthetic", 600, 4)
        for number in (0, 1):
            timed += _recorded(chance, found, topic, number)
    found.messages = in_order(timed)
    return found


def _recorded(chance: random.Random, found: Fleet, topic: str, number: int) -> list[Sent]:
    """What gateway ``number``, of two motes, sends of one topic."""
    timed: list[Sent] = []
    gateway, channel = f"recorded-{number}", topic.rpartition(".")[2]
    motes = (f"mote-{2 * number + 1}", f"mote-{2 * number + 2}")

    def send(at: float, frame: bytes) -> None:
        away = number == 1 and _AWAY[0] <= at < _AWAY[1]
        reached = _AWAY[1] + (at - _AWAY[0]) / 60 if away else at
        timed.append((reached, len(timed), Message(topic, gateway, frame)))

    of_these = (found for found in readings(RECORDING) if found[1] in motes and found[2] == channel)
    events: list[dict[str, Any]] = [
        {
            "gateway": gateway,
            "epoch": 1,
            "seq": seq,
            "gateway_time": time,
            "device": device,
            "channel": channel,
            "event_time": time,
            "value": value,
        }
        for seq, (time, device, _, value) in enumerate(sorted(of_these))
    ]
    send(-1, encode_control(EpochStart(gateway, 1, None, None)))
    *others, last = [events[first : first + _FRAME] for first in range(0, len(events), _FRAME)]
    for frame in others:
        at = (frame[-1]["event_time"] - START).total_seconds() + chance.uniform(0, 2)
        deliver(chance, found, topic, frame, frame[0]["seq"], at=at, send=send)
    # The last frame arrives whole, so that every hole before it is known.
    found.counted += last
    send(24 * 3600, encode_frame(READING, last))
    return timed
