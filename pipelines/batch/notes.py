"""What functions of a batch job tell its end: small files in a directory, whatever process they run in."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TypeVar

import msgspec

from storage.events.files import Files, lines_of

Note = TypeVar("Note", bound=msgspec.Struct)


def leave(files: Files, folder: str, kind: str, note: msgspec.Struct, *, key: str = "") -> None:
    """Leave ``note`` in the directory ``folder``."""
    with files.create(f"{folder}/{kind}-{key}{uuid.uuid4().hex}.json", durable=False) as file:
        file.write(msgspec.json.encode(note))


def found(files: Files, folder: str, kind: str, type_: type[Note]) -> Iterator[Note]:
    """All notes of a kind."""
    for name, data in lines_of(files, folder):
        if name.startswith(f"{kind}-"):
            yield msgspec.json.decode(data, type=type_)


class Counted(msgspec.Struct, frozen=True):
    """What was read, in events; ``dead`` in frames."""

    events: int = 0
    duplicates: int = 0
    future: int = 0
    dead: int = 0

    def plus(self, other: Counted) -> Counted:
        """Both together."""
        mine, others = msgspec.structs.astuple(self), msgspec.structs.astuple(other)
        return Counted(*(a + b for a, b in zip(mine, others, strict=True)))
