"""Control records that travel among a topic's frames, as frames of one record."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import fastavro
import fastavro.schema

from schemas.errors import FrameError
from schemas.fingerprint import MAGIC, PREFIX_BYTES, fingerprint
from schemas.header import overlong
from schemas.registry import shipped_text


@dataclass(frozen=True, slots=True)
class EpochStart:
    """First record of an epoch in a topic; says how far the epoch before had come."""

    gateway: str
    epoch: int
    previous_epoch: int | None
    previous_last: int | None


@dataclass(frozen=True, slots=True)
class Dropped:
    """Events first to last, inclusive, that an outbox gave up, and why."""

    gateway: str
    epoch: int
    first: int
    last: int
    reason: str


Control = EpochStart | Dropped
_KINDS: tuple[type[EpochStart | Dropped], ...] = (EpochStart, Dropped)


def encode_control(record: Control) -> bytes:
    """Encode a control record as a frame of one."""
    schema, prefix = _schema(type(record).__name__)
    out = io.BytesIO()
    out.write(prefix)
    fastavro.schemaless_writer(out, schema, [asdict(record)])
    return out.getvalue()


def is_control(frame: bytes) -> bool:
    """Whether the bytes begin like a control record."""
    return frame[:PREFIX_BYTES] in _prefixes()


def decode_control(frame: bytes) -> Control:
    """Raises `FrameError` when the bytes are not one control record."""
    kind = _prefixes().get(frame[:PREFIX_BYTES])
    if kind is None:
        raise FrameError(f"not a control record: begins with {frame[:PREFIX_BYTES].hex()}")
    schema, _ = _schema(kind.__name__)
    stream = io.BytesIO(frame)
    stream.seek(PREFIX_BYTES)
    try:
        records: Any = fastavro.schemaless_reader(stream, schema, None)
    except Exception as error:  # fastavro raises whatever its reader stumbles on
        raise FrameError(f"a damaged {kind.__name__}: {error!r}") from error
    if stream.tell() != len(frame) or len(records) != 1:
        raise FrameError(f"{kind.__name__}: expected one record and nothing after it")
    if problem := overlong(records):
        raise FrameError(f"{kind.__name__}: {problem}")
    return kind(**records[0])


def control_fingerprints() -> dict[bytes, str]:
    """Names of the control records by the fingerprint of their frames."""
    return {prefix[len(MAGIC) :]: kind.__name__ for prefix, kind in _prefixes().items()}


@lru_cache(maxsize=1)
def _prefixes() -> dict[bytes, type[EpochStart | Dropped]]:
    return {_schema(kind.__name__)[1]: kind for kind in _KINDS}


@lru_cache(maxsize=4)
def _schema(name: str) -> tuple[Any, bytes]:
    array = {"type": "array", "items": json.loads(shipped_text(name))}
    return fastavro.schema.parse_schema(array), MAGIC + fingerprint(array)
