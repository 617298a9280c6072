"""Which rows of a block matter to a rule, found in columns: of a run of rows that say the same, usually one."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import polars as pl

from transforms.aggregates import ON_TIME
from transforms.rules import condition
from transforms.rules.spec import Rule

SERIES: Final = ("device", "channel")
RAISES: Final = "_raises"
CLEARS: Final = "_clears"
TIME: Final = "_time"
_NEWEST: Final = struct.Struct("<q")


def window_rows(rule: Rule, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of aggregates that the rule looks at: its window's, on time. Corrections of windows fire nothing."""
    assert rule.window is not None, "a rule on events was given windows"
    mine = pl.col("window_end") - pl.col("window_start") == rule.window.size
    if rule.window.gap or "period_start" in rows.columns:
        # Rows of sessions, or of windows on the grid, of which each has columns of its own.
        mine = pl.col("name") == rule.window.name if rule.window.gap and "period_start" in rows.columns else pl.lit(value=False)
    chosen = rows.filter(mine & (pl.col("pane") == ON_TIME))
    return _of_series(rule, chosen).with_columns(pl.col("window_end").alias(TIME))


def event_rows(rule: Rule, columns: pl.DataFrame) -> pl.DataFrame:
    """Events that the rule looks at; none when its condition does not fit their schema."""
    kind = tuple(columns.schema.items())
    if not all(_fits(text, kind) for text in (rule.when, rule.until) if text):
        return columns.clear().with_columns(pl.lit(0, pl.Int64).alias(TIME))
    plain = [name for name, dtype in columns.schema.items() if dtype != pl.Binary]
    return _of_series(rule, columns.select(plain)).with_columns(pl.col("event_time").alias(TIME))


def judged(rule: Rule, rows: pl.DataFrame) -> pl.DataFrame:
    """`window_rows` or `event_rows` with `RAISES` and `CLEARS`, in the order of judging, without those that change nothing."""
    order = [TIME] if rule.window else [TIME, "epoch", "seq"] if rule.is_ordered else ["epoch", "seq"]
    flags = [condition.parse(rule.when).fill_null(value=False).alias(RAISES)]
    flags += [
        pl.lit(value=False).alias(CLEARS) if rule.each else condition.parse(rule.until).fill_null(value=False).alias(CLEARS)
    ]
    found = rows.with_columns(flags)
    if rule.each:
        return found.filter(pl.col(RAISES)).sort(order)
    if not rule.hold:
        found = found.filter(pl.col(RAISES) | pl.col(CLEARS))
    found = found.sort(order)
    says = pl.col(RAISES).cast(pl.Int8) + 2 * pl.col(CLEARS).cast(pl.Int8)
    keep = (says != says.shift(1).over(SERIES)).fill_null(value=True) | (says == 3)
    # How long it has held, and whether the limit allows it, is known only when the rows are judged.
    return found.filter(keep | pl.col(RAISES) if rule.hold or rule.limit else keep)


def spans(rows: pl.DataFrame) -> pl.DataFrame:
    """First and last time of each series: all that an absence of data is judged by."""
    return rows.group_by(SERIES).agg(pl.col(TIME).min().alias("first"), pl.col(TIME).max().alias("last")).sort(SERIES)


def by_shard(rows: pl.DataFrame, shards: int) -> Iterator[tuple[int, pl.DataFrame]]:
    """Parts of rows by the shard of their device, the same in every process and version."""
    if rows.is_empty():
        return
    if shards == 1:
        yield 0, rows
        return
    devices = rows.get_column("device")
    numbers = pl.Series([shard_of(device, shards) for device in devices.to_list()], dtype=pl.Int64)
    for shard in range(shards):
        part = rows.filter(numbers == shard)
        if not part.is_empty():
            yield shard, part


def shard_of(device: str, shards: int) -> int:
    return zlib.crc32(device.encode()) % shards


def pack(rows: pl.DataFrame) -> bytes:
    """Rows as bytes: the newest time in them, ``i64`` little-endian, and an Arrow IPC stream."""
    newest = rows.get_column(TIME).max() if TIME in rows.columns else 0
    assert isinstance(newest, int), "rows of a rule have a time"
    out = io.BytesIO(_NEWEST.pack(newest))
    out.seek(0, io.SEEK_END)
    rows.write_ipc_stream(out, compression="uncompressed")
    return out.getvalue()


def newest(data: bytes) -> int:
    """The newest time in packed rows."""
    return int(_NEWEST.unpack_from(data)[0])


def unpack(data: bytes) -> pl.DataFrame:
    return pl.read_ipc_stream(io.BytesIO(data[_NEWEST.size :]))


def _of_series(rule: Rule, rows: pl.DataFrame) -> pl.DataFrame:
    wanted = [_like(name, pattern) for name, pattern in (("device", rule.device), ("channel", rule.channel)) if pattern != "*"]
    return rows.filter(*wanted) if wanted else rows


def _like(column: str, pattern: str) -> pl.Expr:
    if not set(pattern) & set("*?"):
        return pl.col(column) == pattern
    body = "".join(".*" if sign == "*" else "." if sign == "?" else re.escape(sign) for sign in pattern)
    return pl.col(column).str.contains(f"^(?s:{body})$")


@lru_cache(maxsize=1_000)
def _fits(text: str, kind: tuple[tuple[str, pl.DataType], ...]) -> bool:
    """Whether a condition can be asked of rows with columns of these names and types. Finding out takes longer than asking."""
    return not condition.misfit(text, dict(kind))
