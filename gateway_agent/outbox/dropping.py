"""Giving events up without silence: a `Dropped` record stands where they would have been."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from gateway_agent.outbox import moving
from gateway_agent.outbox.handing import intact
from gateway_agent.outbox.ledger import ROW_BYTES, Ledger
from gateway_agent.outbox.records import DAMAGED, OUTBOX_FULL, Built, Held
from gateway_agent.outbox.stream import OpenDrop, Stream
from schemas.control import Dropped, EpochStart, decode_control, encode_control
from schemas.frame import MAX_EVENTS

#: Rows looked at together when room is made.
_STEP: Final = 64
#: Damaged frames kept to be looked at; older ones go.
_DAMAGED_KEPT: Final = 1_000


def drop_oldest(ledger: Ledger, target: int) -> None:
    """Drop the oldest frames that may be, and that no publisher has in hand, until ``target`` bytes are left."""
    after = -1
    while ledger.bytes > target:
        rows = ledger.connection.execute(
            "SELECT id, transport, stream, epoch, first, count, length(body) + ? FROM frames"
            " WHERE droppable AND id > ? ORDER BY id LIMIT ?",
            (ROW_BYTES, after, _STEP),
        ).fetchall()
        if not rows:
            return
        after = rows[-1][0]
        for number, transport, stream, epoch, first, count, size in rows:
            if not ledger.is_in_hand(transport, stream, number):
                replace(ledger, Held(number, stream, "", epoch, first, count, size, b""), OUTBOX_FULL)
                if ledger.bytes <= target:
                    return


def replace(ledger: Ledger, frame: Held, reason: str) -> None:
    """Put a `Dropped` record where a frame is, joined with the one before it if they meet."""
    stream = ledger.stream(frame.stream)
    if stream is None:
        return
    drop = OpenDrop(frame.id, frame.epoch, frame.first, frame.first + frame.count - 1, reason)
    ledger.count_dropped(stream, frame.count, reason)
    if _extend(ledger, stream, drop):
        ledger.delete(frame.id)
        ledger.count(stream, -frame.count, -frame.size)
        return
    ledger.count(stream, -frame.count, 0)
    ledger.rewrite(frame.id, stream, frame.epoch, _record(ledger, drop), grown_from=frame.size)
    stream.open_drop = drop


def note(ledger: Ledger, stream: Stream, built: Built, reason: str) -> None:
    """Record that events of this epoch, which were never kept, are dropped."""
    drop = OpenDrop(-1, ledger.epoch, built.first, built.first + built.count - 1, reason)
    ledger.count_dropped(stream, built.count, reason)
    if not _extend(ledger, stream, drop):
        stream.open_drop = drop._replace(id=ledger.insert(stream, ledger.epoch, _record(ledger, drop)))


def give_up(ledger: Ledger, refused: Sequence[Held], reason: str) -> None:
    """Put `Dropped` records where frames are that their broker will never take.

    Control records that are refused stay, for they name what is missing, and are joined where they meet: the broker has not
    taken any of these, and a topic that nothing gets through to must not grow for ever.
    """
    records: dict[int, OpenDrop] = {}
    for one in refused:
        stream = ledger.stream(one.stream)
        if stream is None:
            continue
        if ledger.connection.execute("SELECT count FROM frames WHERE id = ?", (one.id,)).fetchone() != (one.count,):
            continue  # settled already
        drop = _as_drop(one, reason)
        before = records.get(one.stream)
        if drop is not None and one.count:
            ledger.count_dropped(stream, one.count, reason)
        if drop is None:
            records.pop(one.stream, None)
        elif before is not None and _follows(drop, before):
            records[one.stream] = _grow(ledger, stream, before, drop)
            ledger.delete(one.id)
            ledger.count(stream, -one.count, -one.size)
        else:
            records[one.stream] = drop
            if one.count:
                ledger.count(stream, -one.count, 0)
                ledger.rewrite(one.id, stream, one.epoch, _record(ledger, drop), grown_from=one.size)
    moving.take_along(ledger, [one for one in refused if not one.count])


def _as_drop(frame: Held, reason: str) -> OpenDrop | None:
    """The `Dropped` record that a frame becomes, or is; None for one that begins an epoch."""
    if frame.count:
        return OpenDrop(frame.id, frame.epoch, frame.first, frame.first + frame.count - 1, reason)
    record = decode_control(frame.body)
    if isinstance(record, EpochStart):
        return None
    return OpenDrop(frame.id, record.epoch, record.first, record.last, record.reason)


def set_aside(ledger: Ledger, ids: Iterable[int], *, now: int) -> None:
    """Move damaged frames out of the way: kept to be looked at, counted, and named by a `Dropped` record."""
    for number in ids:
        row = ledger.connection.execute(
            "SELECT stream, epoch, first, count, checksum, CAST(body AS BLOB) FROM frames WHERE id = ?", (number,)
        ).fetchone()
        if row is None:
            continue
        stream_id, epoch, first, count, sealed, body = row
        stream = ledger.stream(stream_id)
        if stream is not None and intact(row):
            continue
        body = body or b""
        ledger.connection.execute(
            "INSERT INTO damaged VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)",
            (now, stream.topic if stream else "", epoch, first, count, sealed, body),
        )
        ledger.damaged += 1
        if stream is not None and _plausible(ledger, stream, epoch, first, count):
            replace(ledger, Held(number, stream_id, "", epoch, first, count, len(body) + ROW_BYTES, b""), DAMAGED)
        else:
            ledger.delete(number)
    for stream in ledger.streams.values():
        # The numbers of a damaged row may be damaged themselves: what adds up is counted, the rest was lost.
        if missing := ledger.recount(stream):
            ledger.count_dropped(stream, missing, DAMAGED)
    ledger.connection.execute("DELETE FROM damaged WHERE id <= (SELECT max(id) FROM damaged) - ?", (_DAMAGED_KEPT,))


def _plausible(ledger: Ledger, stream: Stream, epoch: int, first: int, count: int) -> bool:
    numbers = all(isinstance(number, int) for number in (epoch, first, count))
    end = stream.next_seq if epoch == stream.epoch else 1 << 62
    return numbers and epoch <= ledger.epoch and first >= 0 and 0 < count <= MAX_EVENTS and first + count <= end


def _extend(ledger: Ledger, stream: Stream, drop: OpenDrop) -> bool:
    """Let the newest `Dropped` record of the topic cover these too, if they follow it and nobody has seen it."""
    before = stream.open_drop
    if before is None or not _follows(drop, before):
        return False
    row = ledger.connection.execute("SELECT transport FROM frames WHERE id = ?", (before.id,)).fetchone()
    if row is None or ledger.is_in_hand(row[0], stream.id, before.id):
        return False
    stream.open_drop = _grow(ledger, stream, before, drop)
    return True


def _follows(drop: OpenDrop, before: OpenDrop | None) -> bool:
    return before is not None and (before.epoch, before.last + 1, before.reason) == (drop.epoch, drop.first, drop.reason)


def _grow(ledger: Ledger, stream: Stream, before: OpenDrop, drop: OpenDrop) -> OpenDrop:
    (size,) = ledger.connection.execute("SELECT length(body) + ? FROM frames WHERE id = ?", (ROW_BYTES, before.id)).fetchone()
    joined = before._replace(last=drop.last)
    ledger.rewrite(joined.id, stream, joined.epoch, _record(ledger, joined), grown_from=size)
    return joined


def _record(ledger: Ledger, drop: OpenDrop) -> Built:
    return Built(drop.first, 0, encode_control(Dropped(ledger.gateway, drop.epoch, drop.first, drop.last, drop.reason)))
