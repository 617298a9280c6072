"""Texts with columns of the cause in braces: ``fan-{device}``. A text that is one column alone becomes its value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

_NAME: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_.]*)\}")


def names(text: str) -> list[str]:
    return _NAME.findall(text)


def texts(value: object) -> Iterator[str]:
    """All texts in a value of TOML."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts(item)


def fill(value: Any, columns: Mapping[str, Any]) -> Any:
    """``value`` with the columns put in. One that the cause does not have is put in as null, in a text as nothing."""
    if isinstance(value, str):
        if alone := _NAME.fullmatch(value):
            return columns.get(alone[1])
        return fill_text(value, columns)
    if isinstance(value, Mapping):
        return {key: fill(item, columns) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [fill(item, columns) for item in value]
    return value


def fill_text(text: str, columns: Mapping[str, Any]) -> str:
    return _NAME.sub(lambda match: _text(columns.get(match[1])), text)


def _text(value: object) -> str:
    return "" if value is None else str(value)
