"""Variables and secrets in configuration values.

``${VAR}``, ``${VAR:-default}`` and ``${VAR:?message}`` stand for environment variables. A value
that is ``file:PATH`` in a field that takes a secret stands for the file's content.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from schemas.errors import ConfigurationError
from settings.places import item_key, place

_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?:(:-|:\?)([^}]*))?\}")
_USERINFO: Final = re.compile(r"(?<=://)([^/@:\s]*):([^/@\s]*)@")


def expand(
    value: Any,
    environment: Mapping[str, str],
    *,
    origin: str,
    at: tuple[str, ...] = (),
    lines: Mapping[tuple[str, ...], int] | None = None,
) -> Any:
    """Replace variables in every string of ``value``, which stands at the keys ``at`` of ``origin``.

    Raises `ConfigurationError` for one that is not set, with its line if ``lines`` tell it.
    """
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: _lookup(match, environment, lambda: place(origin, at, lines or {})), value)
    if isinstance(value, dict):
        return {key: expand(item, environment, origin=origin, at=(*at, str(key)), lines=lines) for key, item in value.items()}
    if isinstance(value, list):
        return [
            expand(item, environment, origin=origin, at=(*at, item_key(number)), lines=lines) for number, item in enumerate(value)
        ]
    return value


def secret(value: str, *, origin: str) -> str:
    """The secret that ``value`` is, or names as ``file:PATH``. Raises `ConfigurationError`."""
    if not value.startswith("file:"):
        return value
    path = value.removeprefix("file:")
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigurationError(f"{origin}: cannot read the secret file {path}: {reason}") from error


def redact(text: str) -> str:
    """``text`` without the passwords of URLs in it."""
    return _USERINFO.sub(r"\1:***@", text)


def _lookup(match: re.Match[str], environment: Mapping[str, str], where: Callable[[], str]) -> str:
    name, operator, rest = match[1], match[2], match[3]
    found = environment.get(name)
    if found:
        return found
    if operator == ":-":
        return str(rest)
    if found is not None and operator is None:
        return found
    raise ConfigurationError(
        f"{where()}: the variable {name} is not set" + (f": {rest}" if operator == ":?" else ""),
        remedy=f"set {name}, or write ${{{name}:-default}}",
    )
