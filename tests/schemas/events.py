"""Events of the shipped schemas, drawn at random, and the headers of any."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from schemas.registry import EventSchema, shipped

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Draw = Callable[..., Any]

#: Times that have a datetime: of the years 1 to 9999.
times = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999).map(lambda time: EPOCH + timedelta(microseconds=time))
longs = st.integers(-(2**63), 2**63 - 1)
names = st.text(max_size=12)

MEASUREMENTS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "Reading": {"value": st.floats(allow_nan=False)},
    "Text": {"value": st.text(max_size=40)},
    "Blob": {"content_type": names, "value": st.binary(max_size=300)},
    "State": {"value": st.booleans()},
}


def header(seq: int, *, gateway: str = "gateway-1", epoch: int = 7) -> dict[str, Any]:
    time = EPOCH + timedelta(seconds=seq)
    return {
        "gateway": gateway,
        "epoch": epoch,
        "seq": seq,
        "gateway_time": time,
        "device": "device-1",
        "channel": "temperature",
        "event_time": time,
    }


@st.composite
def frames_of_events(draw: Draw, *, most: int = 20) -> tuple[EventSchema, list[dict[str, Any]]]:
    """A shipped schema and consecutive events of one gateway and epoch."""
    name = draw(st.sampled_from(sorted(MEASUREMENTS)))
    gateway, epoch, first = draw(names), draw(longs), draw(st.integers(0, 2**62))
    count = draw(st.integers(1, most))
    events = [
        {
            "gateway": gateway,
            "epoch": epoch,
            "seq": first + position,
            "gateway_time": draw(times),
            "device": draw(names),
            "channel": draw(names),
            "event_time": draw(times),
            **{field: draw(values) for field, values in MEASUREMENTS[name].items()},
        }
        for position in range(count)
    ]
    return shipped(name), events
