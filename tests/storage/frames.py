"""Records of a log, by letters: r Reading, s State, c control, x damaged, u unknown fingerprint, d empty."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.control import EpochStart, encode_control
from schemas.frame import encode_frame
from schemas.registry import event_schema, shipped

READING, STATE = shipped("Reading"), shipped("State")
UNKNOWN = event_schema({**READING.record, "name": "Unknown", "fields": [*READING.record["fields"], {"name": "x", "type": "int"}]})
START = datetime(2010, 5, 9, tzinfo=UTC)
HOUR = 3_600_000_000
LogRecord = tuple[int, int, str, bytes]


def events(first: int, count: int, **measured: Any) -> list[dict[str, Any]]:
    time = START + timedelta(seconds=first)
    return [
        {"gateway": "g", "epoch": 1, "seq": first + place, "gateway_time": time, "device": f"mote-{place}", "channel": "c",
         "event_time": time, **measured}
        for place in range(count)
    ]  # fmt: skip


def _damaged(number: int) -> bytes:
    frame = bytearray(encode_frame(READING, events(number, 2, value=1.0)))
    return bytes(frame[:-3])


RECORD_KINDS = {
    "r": lambda number: encode_frame(READING, events(10 * number, 1 + number % 90, value=number + 0.5)),
    "s": lambda number: encode_frame(STATE, events(10 * number, 2, value=True)),
    "c": lambda number: encode_control(EpochStart("g", number + 1, number, None)),
    "x": _damaged,
    "u": lambda number: encode_frame(UNKNOWN, events(number, 1, value=0.5, x=1)),
    "d": lambda _: b"",
}


def records(kinds: str, *, first: int = 0, time: int = 0) -> list[LogRecord]:
    """One record a letter, offsets from ``first``, appended a millisecond apart from ``time`` (µs) on."""
    return [(first + place, time + 1_000 * place, "g", RECORD_KINDS[kind](first + place)) for place, kind in enumerate(kinds)]
