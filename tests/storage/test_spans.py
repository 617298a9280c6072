"""Rows that hold spans: which of one write stand in the end."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from storage.spans import survivors
from storage.tables import SESSIONS

span = st.tuples(st.sampled_from("ab"), st.integers(0, 12), st.integers(0, 5))


@given(st.lists(span, max_size=12))
def test_of_rows_that_overlap_the_last_stands(spans: list[tuple[str, int, int]]) -> None:
    rows = pl.DataFrame(
        {
            "name": ["s"] * len(spans),
            "period_start": [0] * len(spans),
            "device": [device for device, _, _ in spans],
            "channel": ["c"] * len(spans),
            "window_start": [start for _, start, _ in spans],
            "window_end": [start + length for _, start, length in spans],
            "count": list(range(len(spans))),
        },
        schema={name: dtype for name, dtype in SESSIONS.types.items() if name in {*SESSIONS.key, "window_end", "count"}},
    )
    expected: list[tuple[int, str, int, int]] = []
    for number, (device, start, length) in enumerate(spans):
        end = start + length
        expected = [
            other for other in expected if other[1] != device or (other[2] != start and (other[3] <= start or end <= other[2]))
        ]
        expected.append((number, device, start, end))
    assert survivors(rows, SESSIONS).select("count", "device", "window_start", "window_end").rows() == expected
