"""Frames put together from prepared pieces are those that the reference encodes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway_agent.outbox.framing import Framer
from schemas.frame import MAX_BYTES, MAX_EVENTS, decode_frame, encode_frame
from schemas.registry import Schemas
from tests.gateway_agent.outbox.kit import BLOB, GATEWAY, READING, blob_tail, tails

times = st.integers(-(1 << 40), 1 << 52)


@given(
    first=st.integers(0, 1 << 40) | st.sampled_from([0, 1, 63, 64, 65, 8191, 8192]),
    count=st.integers(1, 200),
    epoch=st.integers(0, 1 << 50),
    gateway=st.text(min_size=1, max_size=20),
    time=times,
)
def test_a_frame_is_byte_for_byte_what_the_reference_encodes(first: int, count: int, epoch: int, gateway: str, time: int) -> None:
    values = [float(number) for number in range(count)]
    (built,) = Framer(gateway, epoch).frames(READING.fingerprint, tails(values), first=first, time=time, max_bytes=MAX_BYTES)
    events = [
        {
            "gateway": gateway,
            "epoch": epoch,
            "seq": first + number,
            "gateway_time": time,
            "device": "d-1",
            "channel": "temperature",
            "event_time": 1_300_000_000_000_000,
            "value": value,
        }
        for number, value in enumerate(values)
    ]
    assert built.body == encode_frame(READING, events)


@given(count=st.integers(1, 2500), max_bytes=st.integers(200, 70_000))
def test_frames_keep_within_their_limits_and_hold_all_events_in_order(count: int, max_bytes: int) -> None:
    framer = Framer(GATEWAY, 7)
    built = list(framer.frames(READING.fingerprint, tails(range(count)), first=5, time=1, max_bytes=max_bytes))
    schemas = Schemas.with_shipped()
    values = [event["value"] for frame in built for event in decode_frame(frame.body, schemas).events]
    assert values == [float(number) for number in range(count)]
    assert [frame.first for frame in built] == [5 + sum(before.count for before in built[:at]) for at in range(len(built))]
    for frame in built:
        assert frame.count <= MAX_EVENTS
        assert frame.count == 1 or len(frame.body) <= max_bytes


def test_an_event_larger_than_a_frame_may_be_is_a_frame_alone() -> None:
    sizes = [10, 500_000, 10, 10, 300_000]
    built = list(
        Framer(GATEWAY, 7).frames(BLOB.fingerprint, [blob_tail(size) for size in sizes], first=0, time=1, max_bytes=MAX_BYTES)
    )
    assert [frame.count for frame in built] == [1, 1, 2, 1]


@given(sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=50))
def test_what_frames_take_is_never_more_than_foreseen(sizes: list[int]) -> None:
    framer = Framer(GATEWAY, 1 << 41)
    offered = [blob_tail(size) for size in sizes]
    built = framer.frames(BLOB.fingerprint, offered, first=1 << 30, time=1 << 50, max_bytes=MAX_BYTES)
    assert sum(len(frame.body) for frame in built) <= framer.size(offered)
