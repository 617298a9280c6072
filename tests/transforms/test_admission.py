"""What of a block goes no further: each event is admitted or set aside for one reason, and those beside it go on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from brokers import Record
from pipelines.sinks import dead_letter_rows
from schemas.control import Control, Dropped, EpochStart, encode_control
from schemas.frame import encode_frame
from storage.tables import DEAD_LETTERS
from tests.transforms.frames import READING, SCHEMAS
from transforms.admission import BEFORE_ALL, Admission, AdmitSettings
from transforms.block import block_of, decode_block, encode_block
from transforms.decode import Decoder
from transforms.identity import Frames
from transforms.letters import MOST_LETTERS
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


def test_a_frame_whose_events_are_set_aside_for_several_reasons_has_one_letter_that_tells_all() -> None:
    window = WindowSpec("short", MINUTE, MINUTE)
    settings = AdmitSettings(tuple(SCHEMAS), (window,), clock=lambda: micros(NOW))
    hour = timedelta(hours=1)
    header = {"gateway": "g", "epoch": 1, "gateway_time": NOW, "device": "d", "channel": "c", "value": 1.0}
    times = (NOW + hour, NOW, NOW - hour, NOW + hour)
    value = encode_frame(READING, [{**header, "seq": seq, "event_time": time} for seq, time in enumerate(times)])
    block = block_of("t", 0, [Record(7, micros(NOW), "g", value)], watermark=micros(NOW))
    _, letters, _, note = Admission(settings, Decoder(SCHEMAS), None).take(block)
    rows = DEAD_LETTERS.standing(dead_letter_rows(letters))
    assert rows["offset"].to_list() == [7]
    assert rows["reason"][0] == ("future+too-late: ahead of the clock (2), after its windows were closed for good (1) (3 events)")
    assert (note.future, note.too_late, note.admitted) == (2, 1, 1)


def test_of_very_many_frames_that_are_set_aside_every_one_is_told_of() -> None:
    window = WindowSpec("short", MINUTE, MINUTE)
    settings = AdmitSettings(tuple(SCHEMAS), (window,), clock=lambda: micros(NOW))
    old = NOW - timedelta(hours=1)
    # Every third frame is on time.
    records = [Record(seq, micros(NOW), "g", frame(seq, old if seq % 3 else NOW)) for seq in range(3 * MOST_LETTERS)]
    _, letters, _, note = Admission(settings, Decoder(SCHEMAS), None).take(block_of("t", 0, records, watermark=micros(NOW)))
    assert note.too_late == 2 * MOST_LETTERS
    assert sum(letter.events for letter in letters) == note.too_late
    assert len({letter.offset for letter in letters}) == len(letters) == MOST_LETTERS + 1
    last = letters[-1]
    assert last.reason.endswith(
        f"in {MOST_LETTERS} frames from here to offset {3 * MOST_LETTERS - 1}, which have no letters of their own"
    )
    assert letters[-2].offset < last.offset
    assert last.frame == records[last.offset].value


@pytest.mark.parametrize(
    ("control", "missing"),
    [(EpochStart("g", 2, 1, 9), [(1, 6, 9)]), (Dropped("g", 1, 5, 5, "outbox-full"), []), (Dropped("g", 1, 6, 7, "damaged"), [])],
)
def test_what_is_missing_does_not_depend_on_how_frames_are_cut_into_blocks(
    control: Control, missing: list[tuple[int, int, int]]
) -> None:
    """Guarantee: a job that begins in the middle of an epoch misses its tail; what came is not called given up."""
    values = [frame(seq, NOW) for seq in (4, 5)] + [encode_control(control)]
    found = []
    for cuts in ([values], [[value] for value in values]):
        admission = Admission(AdmitSettings(tuple(SCHEMAS), clock=lambda: micros(NOW)), Decoder(SCHEMAS), None)
        gaps = []
        for number, cut in enumerate(cuts):
            records = [Record(number + place, micros(NOW), "g", value) for place, value in enumerate(cut)]
            gaps += admission.take(block_of("t", 0, records, watermark=BEFORE_ALL))[2]
        found.append(gaps + admission.identity.settle())
    assert found[0] == found[1]
    assert [(gap.epoch, gap.first, gap.last) for gap in found[0] if gap.state == "open"] == missing


def test_an_epoch_is_known_for_a_day_whatever_the_windows() -> None:
    window = WindowSpec("short", MINUTE, MINUTE)
    admission = Admission(AdmitSettings(tuple(SCHEMAS), (window,), clock=lambda: micros(NOW)), Decoder(SCHEMAS), None)
    admission.identity.admit(Frames(["g"], np.array([1]), np.array([0]), np.array([5])), newest=0)
    admission.identity.admit(Frames(["g"], np.array([2]), np.array([0]), np.array([5])), newest=0)
    admission.forget(86_400_000_000)
    assert admission.identity.admit(Frames(["g"], np.array([1]), np.array([0]), np.array([5])), newest=0)[0].sum() == 0
    admission.forget(86_400_000_001)
    assert admission.identity.admit(Frames(["g"], np.array([1]), np.array([0]), np.array([5])), newest=0)[0].sum() == 5
