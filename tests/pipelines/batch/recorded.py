"""A recorded day in small, in a journal; and what must be in the events made of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fastavro
import polars as pl

from brokers import Message
from schemas.errors import FrameError
from schemas.frame import decode_frame, encode_frame
from schemas.registry import Schemas
from storage import open_journal
from tests.pipelines.fleet import READING, START, TOPICS, micros

Identity = tuple[str, str, int, int]
APPENDED = 1_700_000_000_000_000


def record(root: Path | str, messages: Iterable[Message], *, append: int = 100, partition: int = 0) -> None:
    """Append messages to the journal below ``root``, a directory or a URL, a millisecond apart, behind what is there."""
    journal = open_journal(root if isinstance(root, str) else f"files:{root}", Schemas.with_shipped())
    by_topic: dict[str, list[Message]] = {}
    for message in messages:
        by_topic.setdefault(message.topic, []).append(message)
    for topic, sent in by_topic.items():
        first = journal.next_offset(topic, partition) or 0
        records = [
            (first + place, APPENDED + 1_000 * (first + place), message.key, message.value) for place, message in enumerate(sent)
        ]
        for start in range(0, len(records), append):
            piece = records[start : start + append]
            journal.append(topic, partition, piece, first=piece[0][0])


def events(topic: str, gateway: str, numbers: Sequence[int], *, epoch: int = 1, every: float = 60.0) -> Message:
    """A frame of readings, one every minute of the day, numbered by it."""
    channel = topic.rpartition(".")[2]
    return Message(
        topic,
        gateway,
        encode_frame(
            READING,
            [
                {
                    "gateway": gateway,
                    "epoch": epoch,
                    "seq": number,
                    "gateway_time": START + timedelta(seconds=every * number),
                    "device": f"{gateway}-{number % 3}",
                    "channel": channel,
                    "event_time": START + timedelta(seconds=every * number),
                    "value": float(number),
                }
                for number in numbers
            ],
        ),
    )


def day(topic: str = TOPICS[0], gateway: str = "gateway-0", *, start: int = 0, end: int = 1440, frame: int = 20) -> list[Message]:
    """A day's readings in frames; ``start`` and ``end`` are minutes."""
    return [events(topic, gateway, range(first, min(first + frame, end))) for first in range(start, end, frame)]


def expected(messages: Iterable[Message]) -> dict[Identity, dict[str, Any]]:
    """Every event of the messages once, times in µs."""
    found: dict[Identity, dict[str, Any]] = {}
    for message in messages:
        try:
            decoded = decode_frame(message.value, Schemas([READING])).events
        except FrameError:
            continue
        for event in decoded:
            plain = {name: micros(value) if isinstance(value, datetime) else value for name, value in event.items()}
            found.setdefault((message.topic, event["gateway"], event["epoch"], event["seq"]), {**plain, "topic": message.topic})
    return found


def stored(root: Path) -> list[dict[str, Any]]:
    """All events as any Avro reader finds them, in the order of hours; times in µs."""
    rows: list[dict[str, Any]] = []
    for path in sorted(root.glob("events/schema=*/dt=*/hour=*/part-*.avro")):
        with path.open("rb") as file:
            for event in fastavro.reader(file):
                time = event["event_time"]  # type: ignore[index, call-overload]
                assert path.parent.name == f"hour={time:%H}"
                assert path.parent.parent.name == f"dt={time:%Y-%m-%d}"
                rows.append({name: micros(v) if isinstance(v, datetime) else v for name, v in event.items()})  # type: ignore[union-attr]
    return rows


def parquet(root: Path) -> list[dict[str, Any]]:
    """The same of Parquet files."""
    times = pl.col("event_time", "gateway_time").to_physical()
    found = [
        pl.read_parquet(path).with_columns(times) for path in sorted(root.glob("events/schema=*/dt=*/hour=*/part-*.parquet"))
    ]
    return [row for table in found for row in table.iter_rows(named=True)]


def same(found: Sequence[dict[str, Any]], wanted: dict[Identity, dict[str, Any]]) -> bool:
    """Whether the events found are those wanted, each once."""
    by_identity = {(row["topic"], row["gateway"], row["epoch"], row["seq"]): row for row in found}
    return len(found) == len(by_identity) and by_identity == wanted


def tree(root: Path) -> dict[str, tuple[int, int]]:
    """Files of the events, with their inodes and times: what was not touched is the same."""
    return {
        str(path.relative_to(root)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in root.glob("events/schema=*/dt=*/hour=*/*")
    }


def utc(text: str) -> int:
    return micros(datetime.fromisoformat(text).replace(tzinfo=UTC))
