"""Dead letters: frames, or some of their events, that go no further. One for each offset, for that is what they are kept by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from transforms.block import Block
from transforms.decode import Events

Flags = npt.NDArray[np.bool_]
#: Why events are set aside, by kind.
REASONS: Final = {
    "future": "ahead of the clock",
    "too-early": "its windows begin before the year 1",
    "too-late": "after its windows were closed for good",
}
#: Frames of one schema in a block whose events are set aside and that are named one by one.
MOST_LETTERS: Final = 1_000


class DeadLetter(NamedTuple):
    """``kind``: damaged, unknown, or keys of `REASONS`, joined by ``+`` where a frame has events of several."""

    topic: str
    partition: int
    offset: int
    kind: str
    reason: str
    #: Events concerned, 0 where it cannot be known.
    events: int
    frame: bytes
    detected_at: int


def of_damaged(
    block: Block, frames: Sequence[bytes], dead: Iterable[tuple[int, str]], *, detected_at: int
) -> Iterator[DeadLetter]:
    """Letters for frames that cannot be decoded, each given by its place and why."""
    for place, reason in dead:
        kind = "unknown" if "unknown schema" in reason else "damaged"
        yield DeadLetter(block.topic, block.partition, _offset(block, place), kind, reason, 0, frames[place], detected_at)


def of_set_aside(
    block: Block, frames: Sequence[bytes], part: Events, aside: Sequence[tuple[str, Flags]], *, detected_at: int
) -> Iterator[DeadLetter]:
    """Letters for rows of ``part`` that are set aside, given by kind: one a frame, and one for all of very many that are left."""
    if not aside:
        return
    kinds = [kind for kind, _ in aside]
    starts = np.cumsum(part.counts) - part.counts
    per_frame = np.stack([np.add.reduceat(chosen.astype(np.int64), starts) for _, chosen in aside])
    concerned = np.flatnonzero(per_frame.any(axis=0))
    concerned = concerned[np.argsort(part.places[concerned])]
    for frame in concerned[:MOST_LETTERS].tolist():
        place, counts = int(part.places[frame]), per_frame[:, frame].tolist()
        kind, reason = _joined(kinds, counts)
        yield DeadLetter(
            block.topic, block.partition, _offset(block, place), kind, reason, sum(counts), frames[place], detected_at
        )
    rest = concerned[MOST_LETTERS:]
    if len(rest):
        first, last = (int(part.places[frame]) for frame in (rest[0], rest[-1]))
        counts = per_frame[:, rest].sum(axis=1).tolist()
        kind, reason = _joined(kinds, counts)
        reason += f"; in {len(rest)} frames from here to offset {_offset(block, last)}, which have no letters of their own"
        yield DeadLetter(
            block.topic, block.partition, _offset(block, first), kind, reason, sum(counts), frames[first], detected_at
        )


def _joined(kinds: Sequence[str], counts: Sequence[int]) -> tuple[str, str]:
    """Kind and reason where so many events are of these kinds."""
    found = [(kind, count) for kind, count in zip(kinds, counts, strict=True) if count]
    if len(found) == 1:
        return found[0][0], REASONS[found[0][0]]
    return "+".join(kind for kind, _ in found), ", ".join(f"{REASONS[kind]} ({count})" for kind, count in found)


def _offset(block: Block, place: int) -> int:
    return block.first_offset + int(block.offsets[place])
