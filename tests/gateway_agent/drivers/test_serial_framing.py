"""Framing of serial lines: no good frame is lost to damage around it, and every byte is accounted for."""

from __future__ import annotations

from functools import cache, reduce
from operator import xor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_agent.drivers.serial.scanner import Frame, Rubbish, Scanner
from tests.examples import examples
from tests.gateway_agent.drivers.kit import CAPTURES

BOTH = ("nmea", "ubx")


def scan(data: bytes, *, cuts: tuple[int, ...] = (), framings: tuple[str, ...] = BOTH) -> tuple[Scanner, list[Frame | Rubbish]]:
    scanner = Scanner(framings)
    found: list[Frame | Rubbish] = []
    begin = 0
    for end in (*sorted(cut for cut in cuts if cut < len(data)), len(data)):
        found += scanner.feed(data[begin:end])
        begin = end
    found += scanner.finish()
    account(scanner, found, data)
    return scanner, found


def account(scanner: Scanner, found: list[Frame | Rubbish], data: bytes) -> None:
    """Frames and rubbish, in the order they come, are all the bytes, each once."""
    position = 0
    for one in found:
        assert one.offset == position
        if isinstance(one, Frame):
            assert data[position : position + len(one.data)] == one.data
            position += len(one.data)
        else:
            position += one.length
    assert position == len(data)
    good = sum(len(one.data) for one in found if isinstance(one, Frame))
    assert scanner.skipped + good == len(data)
    assert sum(one.length for one in found if isinstance(one, Rubbish)) == scanner.skipped


def frames(found: list[Frame | Rubbish]) -> list[Frame]:
    return [one for one in found if isinstance(one, Frame)]


@cache
def capture(name: str) -> bytes:
    return (CAPTURES / f"pygpsdata-{name}.log").read_bytes()


@cache
def spans() -> list[tuple[int, int]]:
    """Begin and end of the frames of the mixed capture: told by the lengths in it, which are all undamaged."""
    data, at, found = capture("MIXED"), 0, []
    while at < len(data):
        end = data.index(b"\n", at) + 1 if data[at] == ord("$") else at + 8 + int.from_bytes(data[at + 4 : at + 6], "little")
        found.append((at, end))
        at = end
    assert at == len(data)
    assert len(found) == 308
    return found


def ubx(kind: bytes, payload: bytes) -> bytes:
    body = kind + len(payload).to_bytes(2, "little") + payload
    a = b = 0
    for byte in body:
        a = (a + byte) % 256
        b = (b + a) % 256
    return b"\xb5\x62" + body + bytes((a, b))


def nmea(body: str) -> bytes:
    return f"${body}*{reduce(xor, body.encode(), 0):02X}\r\n".encode()


@pytest.mark.parametrize(
    ("name", "sentences", "ubx_frames", "skipped"),
    [("MIXED", 8, 300, 0), ("NMEA", 21, 0, 0), ("BADCK2", 0, 25, 532), ("BADHDR", 0, 2, 100)],
)
def test_captures_of_real_receivers_are_read(name: str, sentences: int, ubx_frames: int, skipped: int) -> None:
    scanner, _ = scan(capture(name))
    assert (scanner.frames["nmea"], scanner.frames["ubx"], scanner.skipped) == (sentences, ubx_frames, skipped)


@given(cuts=st.lists(st.integers(0, 37_456), max_size=60))
@examples(30)
def test_frames_may_be_cut_across_reads_anywhere(cuts: list[int]) -> None:
    _, found = scan(capture("MIXED"), cuts=tuple(cuts))
    assert [(one.offset, one.offset + len(one.data)) for one in frames(found)] == spans()


def test_frames_arrive_byte_by_byte() -> None:
    data = capture("MIXED")[:3_000]
    _, found = scan(data, cuts=tuple(range(len(data))))
    assert [(one.offset, one.offset + len(one.data)) for one in frames(found)] == [one for one in spans() if one[1] <= 3_000]


@given(damage=st.dictionaries(st.integers(0, 37_455), st.integers(1, 255), min_size=1, max_size=40), cut=st.integers(1, 5_000))
@examples(60)
def test_every_frame_that_was_not_touched_is_found(damage: dict[int, int], cut: int) -> None:
    """Whatever bytes are flipped: in checksums, lengths, sync bytes, line ends."""
    data = bytearray(capture("MIXED"))
    for at, change in damage.items():
        data[at] ^= change
    _, found = scan(bytes(data), cuts=tuple(range(cut, len(data), cut)))
    whole = {(one.offset, one.offset + len(one.data)) for one in frames(found)}
    untouched = {(begin, end) for begin, end in spans() if not any(begin <= at < end for at in damage)}
    assert untouched <= whole


@given(removed=st.lists(st.tuples(st.integers(0, 37_400), st.integers(1, 50)), min_size=1, max_size=20))
@examples(40)
def test_bytes_lost_on_the_way_cost_only_the_frames_they_were_in(removed: list[tuple[int, int]]) -> None:
    lost = {at + more for at, count in removed for more in range(count)}
    original = capture("MIXED")
    data = bytes(byte for at, byte in enumerate(original) if at not in lost)
    _, found = scan(data)
    whole = [one.data for one in frames(found)]
    for begin, end in spans():
        if not lost & set(range(begin, end)):
            assert original[begin:end] in whole


@given(parts=st.lists(st.tuples(st.binary(max_size=30), st.binary(max_size=40)), max_size=8))
def test_frames_are_found_between_any_rubbish(parts: list[tuple[bytes, bytes]]) -> None:
    good = [ubx(b"\x01\x07", payload) for _, payload in parts]
    scan_result = scan(b"".join(rubbish + frame for (rubbish, _), frame in zip(parts, good, strict=True)))[1]
    found = [one.data for one in frames(scan_result)]
    assert all(frame in found for frame in good)


@given(data=st.binary(max_size=3_000), framings=st.sampled_from([BOTH, ("nmea",), ("ubx",), ("line",), ("nmea", "ubx", "line")]))
def test_any_bytes_are_accounted_for(data: bytes, framings: tuple[str, ...]) -> None:
    scan(data, framings=framings)


@given(
    data=st.lists(
        st.sampled_from([b"$", b"*", b"\xb5", b"\xb5\x62", b"\r", b"\n", b"A", b"00", b"\x04\x00", b"\x01\x07"]), max_size=300
    )
)
def test_bytes_that_look_like_beginnings_are_accounted_for(data: list[bytes]) -> None:
    line = b"".join(data) + ubx(b"\x01\x07", b"") + nmea("GNTXT")
    _, found = scan(line)
    assert frames(found)[-1].data == nmea("GNTXT")


def test_a_wrong_length_does_not_hold_up_the_line_while_it_is_silent() -> None:
    """The length says 4,000 bytes that never come. Silence, and one good frame behind it: that is taken at once."""
    scanner = Scanner(BOTH)
    damaged = b"\xb5\x62\x01\x07" + (4_000).to_bytes(2, "little") + b"12345678"
    good = ubx(b"\x01\x07", b"abc")
    assert list(scanner.feed(damaged)) == []
    assert frames(list(scanner.idle())) == []
    found = list(scanner.feed(good + good[:5])) + list(scanner.feed(good[5:]))
    assert [one.data for one in frames(found)] == [good, good]
    assert scanner.skipped == len(damaged)
    assert scanner.damaged["incomplete"] == 1


def test_a_good_frame_that_arrived_before_the_silence_is_taken_at_the_silence() -> None:
    scanner = Scanner(BOTH)
    good = nmea("GNTXT,01")
    assert list(scanner.feed(b"\xb5\x62\x01\x07\xa0\x0f" + good)) == []
    assert [one.data for one in frames(list(scanner.idle()))] == [good]


def test_a_frame_cut_by_a_silence_is_still_whole() -> None:
    """A pause of the device, or of the operating system, is no damage."""
    scanner = Scanner(BOTH)
    good = ubx(b"\x01\x07", b"a $ b \xb5\x62 c")
    assert list(scanner.feed(good[:12])) == []
    assert list(scanner.idle()) == []
    assert [one.data for one in frames(list(scanner.feed(good[12:])))] == [good]
    assert scanner.skipped == 0


def test_a_length_beyond_any_frame_is_damage_at_once() -> None:
    scanner = Scanner(BOTH)
    good = nmea("GNTXT")
    found = list(scanner.feed(b"\xb5\x62\x01\x07\xff\xff" + good))
    assert [one.data for one in frames(found)] == [good]
    assert scanner.damaged == {"ubx: longer than any frame": 1}


def test_what_waits_is_bounded_by_the_longest_frame() -> None:
    scanner = Scanner(BOTH, longest=500)
    for _ in range(200):
        list(scanner.feed(b"\xb5\x62\x01\x07\xe8\x01" + bytes(100)))
        assert len(scanner._buffer) <= 500
    list(scanner.feed(b"$" + b"A" * 10_000))
    assert len(scanner._buffer) <= 1_024


def test_a_sentence_cut_short_does_not_swallow_the_next() -> None:
    _, found = scan(nmea("GNTXT,01")[:8] + nmea("GNTXT,02") + nmea("GNTXT,03")[:-2] + nmea("GNTXT,04"))
    assert [one.data for one in frames(found)] == [nmea("GNTXT,02"), nmea("GNTXT,04")]


@pytest.mark.parametrize("line", [b"$GNTXT\r\n", b"$GNTXT*00\r\n", b"$GNTXT*4\r\n", b"$GNTXT*4G\r\n", b"$GN\x80XT*55\r\n"])
def test_sentences_without_a_right_checksum_are_no_sentences(line: bytes) -> None:
    _, found = scan(line)
    assert frames(found) == []


def test_lines_are_what_is_left_between_frames() -> None:
    good = ubx(b"\x01\x07", b"x\ny")
    data = b"one\r\n" + good + b"two $5\nthree" + nmea("GNTXT") + b"$GPBAD*00\r\n\xff\xfe\nlast\n"
    _, found = scan(data, framings=("nmea", "ubx", "line"))
    assert [(one.kind, one.data) for one in frames(found)] == [
        ("line", b"one\r\n"),
        ("ubx", good),
        ("line", b"two $5\n"),
        ("nmea", nmea("GNTXT")),
        ("line", b"last\n"),
    ]


def test_lines_alone_take_any_text() -> None:
    scanner, found = scan(b"$a\n\xc3\xa9\t1\n\x07\nend", framings=("line",))
    assert [one.data for one in frames(found)] == [b"$a\n", b"\xc3\xa9\t1\n"]
    assert scanner.skipped == 5
