"""Cells into values of the Avro types that an event's fields have."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable
from typing import Any, Final

#: Raises ValueError, which says why, for a cell that holds no such value.
ValueReader = Callable[[Any], Any]

_SHOWN: Final = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = _SHOWN.maxlong = 80

_TRUE: Final = frozenset({"true", "1", "yes", "on"})
_FALSE: Final = frozenset({"false", "0", "no", "off"})


def shown(cell: Any) -> str:
    """A cell in an error: shortened, for it may be as long or as deeply nested as a line of JSON can be."""
    return _SHOWN.repr(cell)


def value_reader(avro: Any) -> ValueReader | None:
    """How to read a cell into the Avro type ``avro``; None when a cell of text cannot hold one."""
    if isinstance(avro, dict):
        return None if "logicalType" in avro else value_reader(avro.get("type"))
    if isinstance(avro, list):
        inner = [kind for kind in avro if kind != "null"]
        reader = value_reader(inner[0]) if len(inner) == 1 else None
        return _optional(reader) if reader and len(avro) > 1 else reader
    return _READERS.get(avro) if isinstance(avro, str) else None


def read_double(cell: Any) -> float:
    if isinstance(cell, str):
        if "_" in cell or not cell.strip():
            raise ValueError("the cell is empty" if not cell.strip() else f"{shown(cell)} is not a number")
    elif isinstance(cell, bool) or not isinstance(cell, (int, float)):
        raise ValueError(f"{shown(cell)} is not a number")  # noqa: TRY004 (one error for all cells)
    try:
        value = float(cell)
    except (ValueError, OverflowError):
        raise ValueError(f"{shown(cell)} is not a number") from None
    # One NaN would turn every sum and mean it enters into NaN.
    if not math.isfinite(value):
        raise ValueError(f"{shown(cell)} is not a finite number")
    return value


def _integer(bits: int) -> ValueReader:
    limit = 1 << (bits - 1)

    def read(cell: Any) -> int:
        if isinstance(cell, (bool, float)) or (isinstance(cell, str) and "_" in cell):
            raise ValueError(f"{shown(cell)} is not a whole number")
        try:
            value = int(cell)
        except (TypeError, ValueError):
            raise ValueError(f"{shown(cell)} is not a whole number") from None
        if not -limit <= value < limit:
            raise ValueError(f"{shown(cell)} does not fit into {bits} bits")
        return value

    return read


def _read_boolean(cell: Any) -> bool:
    text = "" if isinstance(cell, (dict, list)) else str(cell).strip().lower()
    if text not in _TRUE and text not in _FALSE:
        raise ValueError(f"{shown(cell)} is neither true nor false")
    return text in _TRUE


def _read_string(cell: Any) -> str:
    if cell is None:
        raise ValueError("the cell is empty")
    if isinstance(cell, (dict, list)):
        raise ValueError(f"{shown(cell)} is not text")  # noqa: TRY004 (one error for all cells)
    return str(cell)


def _optional(reader: ValueReader) -> ValueReader:
    return lambda cell: None if cell is None or (isinstance(cell, str) and not cell.strip()) else reader(cell)


_READERS: Final[dict[str, ValueReader]] = {
    "double": read_double,
    "float": read_double,
    "long": _integer(64),
    "int": _integer(32),
    "boolean": _read_boolean,
    "string": _read_string,
}
