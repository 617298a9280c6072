"""Handing frames to publishers in their order, and letting go of those a broker has taken over."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any, Final, NamedTuple

from gateway_agent.outbox.ledger import ROW_BYTES, Ledger, checksum
from gateway_agent.outbox.records import Built, Choice, Held, Taken

#: Rows looked at in one go for those of some topics: others wait meanwhile.
_STEP: Final = 2_048
_END: Final = (1 << 63) - 1
#: Damage may make a text of a body.
_COLUMNS: Final = "id, stream, epoch, first, count, checksum, CAST(body AS BLOB)"

#: The id of a row, and the row; None where it is passed over.
_Rows = Generator[tuple[int, tuple[Any, ...] | None]]


class Handed(NamedTuple):
    """Frames in order, the ids of damaged ones met among them, and the id up to which was looked."""

    frames: list[Held]
    damaged: list[int]
    seen: int


def hand_out(ledger: Ledger, transport: str, choice: Choice) -> Handed:
    """Frames of a transport: at least one if there is one within reach. They are in hand from now on."""
    number = ledger.transport(transport)
    frames: list[Held] = []
    damaged: list[int] = []
    left, seen = choice.max_bytes, choice.after
    chosen = choice.without or choice.only is not None
    rows = _some_rows(ledger, number, choice) if chosen else _rows(ledger, number, choice)
    for row_id, row in rows:
        if row is not None:
            _, stream_id, epoch, first, count, _, body = row
            stream = ledger.stream(stream_id)
            if stream is None or not intact(row[1:]):
                damaged.append(row_id)
                continue
            left -= len(body)
            if left < 0 and frames:
                break
            frames.append(Held(row_id, stream_id, stream.topic, epoch, first, count, len(body) + ROW_BYTES, body))
        seen = row_id
        if len(frames) == choice.max_frames:
            break
    rows.close()
    if not damaged:
        _note(ledger, number, choice, frames)
    return Handed(frames, damaged, seen)


def let_go(ledger: Ledger, published: Iterable[Taken]) -> None:
    """Forget frames that their broker has taken over. One that is gone already counts but once."""
    for one in published:
        gone = ledger.connection.execute("DELETE FROM frames WHERE id = ?", (one.id,)).rowcount
        stream = ledger.stream(one.stream)
        if gone and stream is not None:
            stream.published += one.count
            ledger.count(stream, -one.count, -one.size)


def _rows(ledger: Ledger, transport: int, choice: Choice) -> _Rows:
    for row in ledger.connection.execute(
        f"SELECT {_COLUMNS} FROM frames WHERE transport = ? AND id > ? ORDER BY id LIMIT ?",  # noqa: S608  (our own columns)
        (transport, choice.after, choice.max_frames),
    ):
        yield row[0], row


def _some_rows(ledger: Ledger, transport: int, choice: Choice) -> _Rows:
    """The bodies of others are not read. When there is nothing more, that is said by the id that was to be the last."""
    execute = ledger.connection.execute
    end = _END if choice.up_to is None else choice.up_to
    looked = 0
    for number, stream in execute(
        "SELECT id, stream FROM frames WHERE transport = ? AND id > ? AND id <= ? ORDER BY id LIMIT ?",
        (transport, choice.after, end, _STEP),
    ):
        looked += 1
        wanted = stream == choice.only if choice.only is not None else stream not in choice.without
        row = execute(f"SELECT {_COLUMNS} FROM frames WHERE id = ?", (number,)).fetchone() if wanted else None  # noqa: S608
        yield number, row
    if choice.up_to is not None and looked < _STEP:
        yield choice.up_to, None


def _note(ledger: Ledger, transport: int, choice: Choice, frames: list[Held]) -> None:
    if choice.ahead or choice.only is not None:
        for frame in frames:
            ledger.take_in_hand(transport, frame.id, stream=frame.stream)
        return
    ledger.leave_out(transport, choice.without)
    ledger.take_in_hand(transport, frames[-1].id if frames else choice.after)


def intact(row: tuple[Any, ...]) -> bool:
    """Whether a row, from its stream to its body, is what was written: its numbers may have become anything."""
    stream, epoch, first, count, sealed, body = row
    if not all(isinstance(number, int) for number in (stream, epoch, first, count)) or not isinstance(body, bytes):
        return False
    return bool(checksum(stream, epoch, Built(first, count, body)) == sealed)
