"""Rows for the tables, and reading them back by SQL alone."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import polars as pl

from storage.tables import TABLES

START = 1_273_363_200_000_000
MINUTE = 60_000_000


def aggregates(count: int, *, first: int = 0, value: float = 1.5, pane: str = "on_time") -> pl.DataFrame:
    """Rows of ``count`` devices in one window, numbered from ``first``."""
    return pl.DataFrame(
        {
            "window_start": [START] * count,
            "window_end": [START + 5 * MINUTE] * count,
            "device": [f"mote-{first + number}" for number in range(count)],
            "channel": ["humidity"] * count,
            "count": [60] * count,
            "sum": [60 * value] * count,
            "mean": [value] * count,
            "min": [value] * count,
            "max": [value] * count,
            "pane": [pane] * count,
            "updated_at": [START] * count,
        }
    )


def sessions(*spans: tuple[int, int], device: str = "d", period: int = START, count: int = 1) -> pl.DataFrame:
    """Sessions of one device from and to so many seconds after the start."""
    rows = [
        {"name": "visits", "period_start": period, "device": device, "channel": "c", "window_start": START + start * 1_000_000,
         "window_end": START + end * 1_000_000, "count": count, "pane": "on_time", "updated_at": START}
        for start, end in spans
    ]  # fmt: skip
    return pl.DataFrame(rows, schema_overrides={"window_start": pl.Int64})


def latest(device: str, time: int, value: float | None, *, epoch: int = 1, seq: int = 0, text: str | None = None) -> pl.DataFrame:
    row = {"device": device, "channel": "c", "event_time": START + time, "gateway": "g", "epoch": epoch, "seq": seq}
    return pl.DataFrame([{**row, "value": value, "text": text, "updated_at": START}], schema=TABLES["latest"].types)


def gaps(*ranges: tuple[int, int, str], gateway: str = "g") -> pl.DataFrame:
    rows = [
        {"topic": "t", "gateway": gateway, "epoch": 1, "first": first, "last": last, "count": last - first + 1, "state": state,
         "reason": "", "detected_at": START}
        for first, last, state in ranges
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=TABLES["gaps"].types)


def select(path: Path, statement: str) -> list[tuple[Any, ...]]:
    """What a person with the sqlite3 shell would see."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
        return connection.execute(statement).fetchall()
