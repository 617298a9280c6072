"""What the windows must be: computed from the CSV in plain Python, with nothing of the product in it."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

START = datetime(2010, 5, 9, tzinfo=UTC)
STEP = timedelta(seconds=5)
CHANNELS = ("humidity", "temperature")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Window(NamedTuple):
    start: datetime
    end: datetime
    device: str
    channel: str


class Statistics(NamedTuple):
    count: int
    sum: float
    mean: float
    min: float
    max: float


def readings(path: Path) -> Iterator[tuple[datetime, str, str, float]]:
    """Time, device, channel and value of every reading of a recording; cells that hold none are passed over.

    A row with more cells than the header is not believed: the module puts those under None.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            if any(cell.strip() for cell in row.get(None, ())):
                continue
            with suppress(KeyError, TypeError, ValueError):
                time = START + (int(row["reading"]) - 1) * STEP
                device = f"mote-{row['mote_id']}"
                for channel in CHANNELS:
                    with suppress(KeyError, TypeError, ValueError):
                        value = float(row[channel])
                        if math.isfinite(value):
                            yield time, device, channel, value


def windows(events: Iterable[tuple[datetime, str, str, float]], size: timedelta, every: timedelta) -> dict[Window, Statistics]:
    """Windows of ``size``, one beginning ``every`` so long, aligned to 1970."""
    values: dict[Window, list[float]] = defaultdict(list)
    for time, device, channel, value in events:
        start = EPOCH + (time - EPOCH) // every * every
        while start > time - size:
            values[Window(start, start + size, device, channel)].append(value)
            start -= every
    return {window: _statistics(of) for window, of in values.items()}


def _statistics(values: list[float]) -> Statistics:
    total = math.fsum(values)
    return Statistics(len(values), total, total / len(values), min(values), max(values))
