"""Durations and sizes as people write them: ``"5m"``, ``"256MB"``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Final

import msgspec

_NUMBER: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")
_SECONDS: Final = {
    "us": Fraction(1, 10**6),
    "ms": Fraction(1, 10**3),
    "s": Fraction(1),
    "": Fraction(1),
    "m": Fraction(60),
    "min": Fraction(60),
    "h": Fraction(3_600),
    "d": Fraction(86_400),
}
_BYTES: Final = {
    "": Fraction(1),
    "B": Fraction(1),
    "kB": Fraction(10**3),
    "KB": Fraction(10**3),
    "MB": Fraction(10**6),
    "GB": Fraction(10**9),
    "KiB": Fraction(2**10),
    "MiB": Fraction(2**20),
    "GiB": Fraction(2**30),
}


class Seconds(float):
    """A duration in seconds; in a file a number, or text such as ``"1.5h"``."""


class Bytes(int):
    """A size in bytes; in a file a number, or text such as ``"256MB"`` or ``"4KiB"``."""


Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]


def seconds_of(value: object) -> Seconds:
    """Raises `ValueError`, with what is expected, for anything else than a number or a duration."""
    return Seconds(_quantity(value, _SECONDS, 'a duration such as 5, "500ms", "5m", "2h", "1d"'))


def bytes_of(value: object) -> Bytes:
    """Raises `ValueError`, with what is expected, for anything else than a whole number or a size."""
    expected = 'a size such as 4096, "256MB", "1GiB"'
    found = _quantity(value, _BYTES, expected)
    if found.denominator != 1:
        raise ValueError(f"{value!r} is not {expected}, in whole bytes")
    return Bytes(found)


def _quantity(value: object, units: Mapping[str, Fraction], expected: str) -> Fraction:
    """Exact: what a person writes with a decimal point must not become a little more or less."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0 and math.isfinite(value):
        return Fraction(value)
    match = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f"{value!r} is not {expected}")
    return Fraction(match[1]) * units[match[2]]
