"""Many frames of one schema at once, in native code, with proof that nothing was misread.

pyruhvro decodes each frame as a datum of its own, so damage cannot spill into a neighbour, but it accepts bytes after the end,
text that is not UTF-8 and integers longer than needed. A frame is taken only when the bytes its values need, computed from the
decoded columns, are exactly the bytes it has: then it is the one canonical encoding of its events in one array block. All
else is left to the reference (`schemas.frame.decode_frame`), which judges.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.fingerprint import PREFIX_BYTES
from schemas.registry import EventSchema
from transforms.columns import Field, fields_of, raw_type

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

#: Events per call of the decoder: measured best between 500 and 50,000.
_EVENTS_PER_CALL: Final = 5_000
#: Bytes of the shortest frame: prefix, a count, and the array's end.
SHORTEST: Final = PREFIX_BYTES + 2
#: Bytes of a 32-bit integer that may be the low bits of a longer one.
_LONGEST_INT: Final = 5
#: Calls the decoder may refuse before the rest is left to the reference: each costs as much as it had decoded.
_MOST_REFUSALS: Final = 40


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of some frames, in the frames' order; ``counts`` says how many each has."""

    columns: pa.RecordBatch
    counts: Ints


@dataclass(frozen=True, slots=True)
class Plan:
    """How frames of one schema are decoded at once."""

    fields: tuple[Field, ...]
    #: The schema as pyruhvro is given it: the frame's prefix as two fields, then the array.
    text: str


def is_available() -> bool:
    """Whether the native decoder is installed."""
    return find_spec("pyruhvro") is not None


def plan_for(schema: EventSchema) -> Plan | None:
    """None for a schema that only the reference can decode."""
    fields = fields_of(schema)
    if not all(field.columnar for field in fields):
        return None
    # The decoder knows no bytes within arrays; text is encoded alike, and it does not look whether it is UTF-8.
    measured = raw_type(schema.record)["fields"]
    members = [{"name": field["name"], "type": _as_text(field["type"])} for field in measured]
    record = {"type": "record", "name": "Event", "namespace": "iotcloud.bulk", "fields": members}
    # C3 01 reads as one long and the fingerprint as a double, so the frames need not be cut.
    items = [("marker", "long"), ("fingerprint", "double"), ("events", {"type": "array", "items": record})]
    wrapper = {"type": "record", "name": "Frame", "fields": [{"name": name, "type": type_} for name, type_ in items]}
    return Plan(fields, json.dumps(wrapper))


def declared_counts(data: npt.NDArray[np.uint8], starts: Ints, ends: Ints) -> Ints:
    """Number of events each frame says it has, 0 where it is not one plain array block of at least one event.

    The frames lie in ``data`` and have `SHORTEST` bytes at least.
    """
    first = starts + PREFIX_BYTES
    limit = len(data) - 1
    low = data[first].astype(np.int64)
    middle = data[np.minimum(first + 1, limit)].astype(np.int64)
    high = data[np.minimum(first + 2, limit)].astype(np.int64)
    zigzag = np.where(
        low < 0x80,
        low,
        np.where(
            middle < 0x80,
            (low & 0x7F) | middle << 7,
            np.where(high < 0x80, (low & 0x7F) | (middle & 0x7F) << 7 | high << 14, 1),
        ),
    )
    counts = zigzag >> 1
    # An event takes seven bytes at least; a count beyond that is damage, and must not make the decoder reserve room.
    plain = (zigzag & 1 == 0) & (counts * 7 <= ends - starts) & (data[ends - 1] == 0)
    return np.where(plain, counts, 0)


def decode(
    plan: Plan, frames: Sequence[bytes], counts: Ints, lengths: Ints
) -> tuple[list[Rows], list[npt.NDArray[np.intp]], list[int]]:
    """Decode ``frames`` of ``counts`` events and ``lengths`` bytes.

    Returns rows with, for each, the positions of the frames they are of, and the positions that are left to the reference.
    """
    taken: list[Rows] = []
    places: list[npt.NDArray[np.intp]] = []
    left: list[int] = []
    cut = np.searchsorted(np.cumsum(counts), np.arange(_EVENTS_PER_CALL, counts.sum() + _EVENTS_PER_CALL, _EVENTS_PER_CALL))
    bounds = [0, *(np.unique(np.minimum(cut + 1, len(frames)))).tolist()]
    ranges = [(a, b) for a, b in itertools.pairwise(bounds) if a < b]
    refusals = 0
    while ranges:
        start, end = ranges.pop()
        if refusals > _MOST_REFUSALS:
            left.extend(range(start, end))
            continue
        rows = _decode(plan, frames[start:end], counts[start:end], lengths[start:end])
        if isinstance(rows, Rows):
            taken.append(rows)
            places.append(np.arange(start, end))
        elif isinstance(rows, np.ndarray):
            # What is sound is decoded again without the others; a damaged frame is rare.
            left.extend((np.flatnonzero(~rows) + start).tolist())
            sound = np.flatnonzero(rows) + start
            if len(sound):
                again = _decode(plan, [frames[place] for place in sound], counts[sound], lengths[sound])
                if isinstance(again, Rows):
                    taken.append(again)
                    places.append(sound)
                else:
                    left.extend(sound.tolist())
        elif end - start == 1:
            left.append(start)
            refusals += 1
        else:
            refusals += 1
            middle = (start + end) // 2
            ranges += [(start, middle), (middle, end)]
    return taken, places, left


def _decode(plan: Plan, frames: Sequence[bytes], counts: Ints, lengths: Ints) -> Rows | Flags | None:
    """Rows when every frame is sound, flags of the sound ones when some are, None when the decoder gave up."""
    import pyruhvro

    try:
        lists = pyruhvro.deserialize_array(list(frames), plan.text).column("events")
        columns = [_checked(field, lists.values.field(place)) for place, field in enumerate(plan.fields)]
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001  (a panic in Rust is not an Exception; the reference says what is wrong)
        return None
    offsets = np.asarray(lists.offsets).astype(np.int64)
    found = np.diff(offsets)
    sound: Flags = found == counts
    if sound.all():
        sound = _sound(plan, columns, offsets[:-1] - offsets[0], counts, lengths)
        if sound.all():
            return Rows(pa.RecordBatch.from_arrays(columns, [field.name for field in plan.fields]), counts)
    return sound if sound.any() else None


def _as_text(type_: Any) -> Any:
    if isinstance(type_, list):
        return [_as_text(branch) for branch in type_]
    return "string" if type_ == "bytes" else type_


def _checked(field: Field, array: Any) -> Any:
    """A column as it should be. Raises `pyarrow.ArrowInvalid` for text that is not UTF-8."""
    if field.kind == "bytes":
        return array.view(pa.binary())
    if field.kind == "string":
        array.validate(full=True)
    return array


def _sound(plan: Plan, arrays: Sequence[Any], starts: Ints, counts: Ints, lengths: Ints) -> Flags:
    """Which frames hold consecutive events of one gateway and epoch, times that exist, names that fit, and not a byte more."""
    columns = {field.name: array for field, array in zip(plan.fields, arrays, strict=True)}
    epoch, seq = _longs(columns["epoch"]), _longs(columns["seq"])
    follows = np.ones(len(seq), np.bool_)
    follows[1:] = (seq[1:] - seq[:-1] == 1) & (epoch[1:] == epoch[:-1]) & _same_as_before(columns["gateway"])
    follows[starts] = True
    need = np.zeros(len(seq), np.int64)
    for field in plan.fields:
        size = _encoded_bytes(field, columns[field.name])
        need += size
        if field.kind == "int":
            # What takes five bytes may have been cut to 32 bits from more: the reference knows.
            follows &= size < _LONGEST_INT + field.nullable
        if field.longest is not None:
            follows &= size <= field.longest
        if field.bounds is not None:
            follows &= _within(columns[field.name], field.bounds)
    header = PREFIX_BYTES + varint_bytes(counts * 2) + 1
    sound: Flags = np.logical_and.reduceat(follows, starts) & (np.add.reduceat(need, starts) + header == lengths)
    return sound


def _longs(array: Any) -> Ints:
    return np.asarray(array.fill_null(0) if array.null_count else array).astype(np.int64, copy=False)


def _within(array: Any, bounds: tuple[int, int]) -> Flags | np.bool_:
    values = _longs(array)
    if len(values) == 0 or (values.min() >= bounds[0] and values.max() <= bounds[1]):
        return np.True_
    inside: Flags = (values >= bounds[0]) & (values <= bounds[1])
    return inside


def _same_as_before(strings: Any) -> Flags:
    """For all but the first, whether it equals the one before."""
    lengths, offsets, data = _text(strings)
    if len(lengths) < 2:
        return np.ones(0, np.bool_)
    if (lengths == lengths[0]).all() and lengths[0] > 0:
        table = data[offsets[0] : offsets[-1]].reshape(len(lengths), int(lengths[0]))
        same: Flags = (table[1:] == table[:-1]).all(axis=1)
        return same
    return np.asarray(pc.equal(strings.slice(1), strings.slice(0, len(strings) - 1)), np.bool_)


def _text(array: Any) -> tuple[Ints, Ints, npt.NDArray[np.uint8]]:
    """Lengths, offsets and bytes of a string or binary array."""
    width = np.int64 if pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type) else np.int32
    _, places, data = array.buffers()
    offsets = np.frombuffer(places, width, len(array) + 1, array.offset * np.dtype(width).itemsize).astype(np.int64)
    content = np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(0, np.uint8)
    return np.diff(offsets), offsets, content


def _encoded_bytes(field: Field, array: Any) -> Ints | int:
    """Bytes that each value takes in Avro's binary encoding."""
    match field.kind:
        case "string" | "bytes":
            lengths = _text(array)[0]
            size: Ints | int = lengths + varint_bytes(lengths * 2)
        case "int" | "long":
            values = _longs(array)
            size = varint_bytes(((values << 1) ^ (values >> 63)).view(np.uint64))
        case "float":
            size = 4
        case "double":
            size = 8
        case _:
            size = 1
    if not field.nullable:
        return size
    # The branch of the union takes a byte, and null nothing more.
    return 1 + np.where(np.asarray(array.is_valid(), np.bool_), size, 0)


def varint_bytes(zigzag: npt.NDArray[Any]) -> Ints | int:
    """Bytes of each number, already zigzag encoded, as a variable-length integer."""
    if len(zigzag) == 0:
        return 0
    least, most = _bytes_of(int(zigzag.min())), _bytes_of(int(zigzag.max()))
    if least == most:
        return least
    size = np.full(len(zigzag), least, np.int64)
    for length in range(least, most):
        size += zigzag >= (1 << 7 * length)
    return size


def _bytes_of(number: int) -> int:
    return max(1, (number.bit_length() + 6) // 7)
