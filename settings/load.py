"""TOML into msgspec Structs; what does not fit is refused with file, line, field and the nearest valid name."""

from __future__ import annotations

import difflib
import os
import tomllib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from schemas.errors import ConfigurationError
from settings.places import item_key, lines_of, place
from settings.quantities import Bytes, Seconds, bytes_of, seconds_of
from settings.substitution import expand

T = TypeVar("T")


class _Misfit(Exception):
    """A value that does not fit, and the path of keys to it."""

    def __init__(self, path: tuple[str, ...], problem: str) -> None:
        super().__init__(problem)
        self.path = path
        self.problem = problem


def load(path: Path | str, kind: type[T], *, environment: Mapping[str, str] | None = None) -> T:
    """Read the TOML file ``path`` into a ``kind``, a msgspec Struct. Raises `ConfigurationError`."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}", remedy="give the path of a configuration file") from error
    return parse(text, kind, origin=str(path), environment=environment)


def parse(text: str, kind: type[T], *, origin: str, environment: Mapping[str, str] | None = None) -> T:
    """`load` of a text; ``origin`` stands for the file's name in errors."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{origin}: not TOML: {error}") from error
    lines = lines_of(text)
    data = expand(data, os.environ if environment is None else environment, origin=origin, lines=lines)
    return convert(data, kind, origin=origin, lines=lines)


def convert(
    data: object,
    kind: type[T],
    *,
    origin: str,
    at: tuple[str, ...] = (),
    lines: Mapping[tuple[str, ...], int] | None = None,
) -> T:
    """Check ``data``, which stands at the keys ``at`` of ``origin``, and make a ``kind`` of it.

    Raises `ConfigurationError`.
    """
    try:
        return _convert(data, kind, at)  # type: ignore[no-any-return]
    except _Misfit as misfit:
        raise ConfigurationError(f"{place(origin, misfit.path, lines or {})}: {misfit.problem}") from None


def _convert(data: object, kind: Any, path: tuple[str, ...]) -> Any:
    if kind is Seconds or kind is Bytes:
        try:
            return seconds_of(data) if kind is Seconds else bytes_of(data)
        except ValueError as error:
            raise _Misfit(path, str(error)) from None
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _struct(data, kind, path)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is dict and isinstance(data, dict):
        return {key: _convert(value, arguments[1], (*path, str(key))) for key, value in data.items()}
    if origin in (tuple, list) and isinstance(data, list):
        items = [_convert(value, arguments[0], (*path, item_key(number))) for number, value in enumerate(data)]
        return items if origin is list else tuple(items)
    if origin in (Union, types.UnionType) and type(None) in arguments and len(arguments) == 2:
        inner = next(argument for argument in arguments if argument is not type(None))
        return None if data is None else _convert(data, inner, path)
    try:
        # Variables are text wherever they stand, so text may stand for a number or a boolean.
        return msgspec.convert(data, kind, strict=not isinstance(data, str))
    except msgspec.ValidationError as error:
        raise _Misfit(path, str(error)) from None


def _struct(data: object, kind: type[msgspec.Struct], path: tuple[str, ...]) -> msgspec.Struct:
    if not isinstance(data, dict):
        raise _Misfit(path, f"expected a table, found {data!r}")
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    hints = get_type_hints(kind, include_extras=True)
    tag = kind.__struct_config__.tag_field
    for key in data:
        if key not in fields and key != tag:
            raise _Misfit((*path, key), _unknown(key, fields))
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in data:
            values[field.name] = _convert(data[name], hints[field.name], (*path, name))
        elif field.required:
            raise _Misfit(path, f"the field {name!r} is missing")
    try:
        return kind(**values)
    except (ValueError, TypeError) as error:
        raise _Misfit(path, str(error)) from None


def _unknown(key: str, valid: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(key, valid, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else "valid: " + ", ".join(sorted(valid))
    return f"unknown field; {hint}"
