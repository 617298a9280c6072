"""What of a block goes no further: each event is admitted or set aside for one reason, and those beside it go on."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from brokers import Record
from schemas.frame import encode_frame
from tests.transforms.frames import READING, SCHEMAS
from transforms.admission import BEFORE_ALL, Admission, AdmitSettings
from transforms.block import block_of, decode_block, encode_block
from transforms.decode import Decoder
from transforms.windows import WindowSpec

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = 60_000_000


def micros(time: datetime) -> int:
    return round(time.timestamp() * 1e6)


def frame(seq: int, time: datetime) -> bytes:
    header = {"gateway": "g", "epoch": 1, "seq": seq, "gateway_time": NOW, "device": "d", "channel": "c"}
    return encode_frame(READING, [{**header, "event_time": time, "value": 1.0}])


@pytest.mark.parametrize(
    ("time", "kind"),
    [
        (datetime(1, 1, 1, tzinfo=UTC), "too-early"),
        (datetime(1, 1, 1, 0, 29, 59, tzinfo=UTC), "too-early"),
        (datetime(1, 1, 1, 0, 30, tzinfo=UTC), None),
        (datetime(1970, 1, 1, tzinfo=UTC), None),
        (NOW, None),
        (datetime(2099, 1, 1, tzinfo=UTC), "future"),
    ],
)
def test_an_event_whose_clock_is_far_off_is_set_aside_and_no_other(time: datetime, kind: str | None) -> None:
    window = WindowSpec("sliding", 30 * MINUTE, 5 * MINUTE, allowed_lateness=MINUTE)
    settings = AdmitSettings(tuple(SCHEMAS), (window,), clock=lambda: micros(NOW))
    records = [Record(offset, micros(NOW), "g", frame(offset, at)) for offset, at in enumerate((NOW, time, NOW))]
    block = decode_block(encode_block(block_of("t", 0, records, watermark=BEFORE_ALL)))
    admitted, letters, gaps, note = Admission(settings, Decoder(SCHEMAS), None).take(block)
    assert sum(len(part.columns) for part in admitted) == note.admitted == (3 if kind is None else 2)
    assert [(letter.offset, letter.kind, letter.events) for letter in letters] == ([] if kind is None else [(1, kind, 1)])
    assert gaps == []
