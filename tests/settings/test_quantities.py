"""Durations and sizes as people write them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settings import bytes_of, seconds_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("250us", 0.00025),
        ("5", 5.0),
        ("5s", 5.0),
        ("5m", 300.0),
        ("5min", 300.0),
        ("1.5h", 5400.0),
        ("2d", 172_800.0),
        (" 2 d ", 172_800.0),
        (7, 7.0),
        (0.25, 0.25),
        (0, 0.0),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("4096", 4096),
        ("4096B", 4096),
        ("1kB", 1000),
        ("1KB", 1000),
        ("4KiB", 4096),
        ("256MB", 256_000_000),
        ("1.5MiB", 1_572_864),
        ("2GiB", 2**31),
        ("1GB", 10**9),
        ("0.0011MB", 1100),
        ("999999999999999999GB", 999_999_999_999_999_999 * 10**9),
        (17, 17),
        (0, 0),
    ],
)
def test_sizes(text: object, count: int) -> None:
    assert bytes_of(text) == count
    assert isinstance(bytes_of(text), int)


NEITHER = ["", "soon", "5 weeks", "-5s", "5s5", "s", ".5s", "1e3", "5mb", None, True, [], -1, float("nan"), float("inf")]


@pytest.mark.parametrize("value", NEITHER)
def test_what_is_neither_is_refused_with_what_is_expected(value: Any) -> None:
    with pytest.raises(ValueError, match="is not a duration such as"):
        seconds_of(value)
    with pytest.raises(ValueError, match="is not a size such as"):
        bytes_of(value)


@pytest.mark.parametrize("value", ["1.5", "0.3kB5", 1.5, "5m"])
def test_a_size_is_a_whole_number_of_bytes(value: Any) -> None:
    with pytest.raises(ValueError, match="is not a size such as"):
        bytes_of(value)


@given(st.integers(0, 10**12), st.sampled_from([("B", 1), ("kB", 10**3), ("MB", 10**6), ("KiB", 2**10), ("GiB", 2**30)]))
def test_sizes_are_exact(number: int, unit: tuple[str, int]) -> None:
    assert bytes_of(f"{number}{unit[0]}") == number * unit[1]


@given(st.floats(0, 1e9))
def test_a_number_is_a_duration_in_seconds(number: float) -> None:
    assert seconds_of(number) == number
