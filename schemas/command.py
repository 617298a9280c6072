"""Commands to devices and what became of them, as single-object encoded Avro records."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Final, Literal, get_args

import fastavro
import fastavro.schema

from schemas.errors import FrameError
from schemas.fingerprint import MAGIC, PREFIX_BYTES, fingerprint
from schemas.registry import shipped_text

Step = Literal["accepted", "started", "done", "failed", "expired", "unknown"]
STEPS: Final[tuple[Step, ...]] = get_args(Step)
#: Steps after which nothing follows.
FINAL_STEPS: Final[frozenset[Step]] = frozenset({"done", "failed", "expired", "unknown"})


@dataclass(frozen=True, slots=True)
class Command:
    """An order to a device. Times are µs since 1970, UTC; ``args`` is the text of a JSON object."""

    id: str
    gateway: str
    device: str
    name: str
    args: str
    issuer: str
    issued_at: int
    deadline: int


@dataclass(frozen=True, slots=True)
class CommandState:
    """A step a command has reached. ``time`` is µs since 1970, UTC; ``detail`` a JSON result, or why it failed."""

    id: str
    gateway: str
    device: str
    state: Step
    time: int
    detail: str


def encode_command(command: Command) -> bytes:
    return _encode("Command", asdict(command))


def decode_command(data: bytes) -> Command:
    """Raises `FrameError` when the bytes are not a command."""
    return Command(**_decode("Command", data))


def encode_command_state(state: CommandState) -> bytes:
    return _encode("CommandState", asdict(state))


def decode_command_state(data: bytes) -> CommandState:
    """Raises `FrameError` when the bytes are not a command's state."""
    return CommandState(**_decode("CommandState", data))


@lru_cache(maxsize=8)
def _schema(name: str) -> tuple[Any, bytes]:
    # Times stay integers here: the logical types are for foreign readers and are not in the canonical form.
    record = json.loads(shipped_text(name))
    for field in record["fields"]:
        if isinstance(field["type"], dict):
            field["type"].pop("logicalType", None)
    return fastavro.schema.parse_schema(record), MAGIC + fingerprint(record)


def _encode(name: str, record: dict[str, Any]) -> bytes:
    schema, prefix = _schema(name)
    out = io.BytesIO()
    out.write(prefix)
    fastavro.schemaless_writer(out, schema, record)
    return out.getvalue()


def _decode(name: str, data: bytes) -> dict[str, Any]:
    schema, prefix = _schema(name)
    if data[:PREFIX_BYTES] != prefix:
        raise FrameError(f"not a {name}: begins with {data[:PREFIX_BYTES].hex()}, expected {prefix.hex()}")
    stream = io.BytesIO(data)
    stream.seek(PREFIX_BYTES)
    try:
        record: Any = fastavro.schemaless_reader(stream, schema, None)
    except Exception as error:  # fastavro raises whatever its reader stumbles on
        raise FrameError(f"a damaged {name}: {error!r}") from error
    if stream.tell() != len(data):
        raise FrameError(f"{len(data) - stream.tell()} bytes after the end of a {name}")
    return dict(record)
