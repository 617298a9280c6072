"""Durations and sizes as people write them: ``"5m"``, ``"256MB"``."""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec

_NUMBER: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")
_SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES: Final = {"": 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


class Seconds(float):
    """A duration in seconds; in a file a number, or text such as ``"1.5h"``."""


class Bytes(int):
    """A size in bytes; in a file a number, or text such as ``"256MB"`` or ``"4KiB"``."""


Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]


def seconds_of(value: object) -> Seconds:
    """Raises `ValueError`, with what is expected, for anything else than a number or a duration."""
    return Seconds(_quantity(value, _SECONDS, 'a duration such as 5, "500ms", "5m", "2h", "1d"'))


def bytes_of(value: object) -> Bytes:
    """Raises `ValueError`, with what is expected, for anything else than a number or a size."""
    return Bytes(_quantity(value, _BYTES, 'a size such as 4096, "256MB", "1GiB"'))


def _quantity(value: object, units: dict[str, float] | dict[str, int], expected: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
        return value
    match = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f"{value!r} is not {expected}")
    return float(match[1]) * units[match[2]]
