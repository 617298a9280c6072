"""Which part of a fleet is meant: ``site=plant-a,channel=temperature``. Used by the server and by its client."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields

from schemas.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Selection:
    """Values that are wanted, any of those given for a name; an empty tuple wants all. Labels must all fit."""

    site: tuple[str, ...] = ()
    gateway: tuple[str, ...] = ()
    application: tuple[str, ...] = ()
    device: tuple[str, ...] = ()
    channel: tuple[str, ...] = ()
    topic: tuple[str, ...] = ()
    label: tuple[tuple[str, str], ...] = ()

    def parameters(self) -> list[tuple[str, str]]:
        """As parameters of a URL's query; a label is ``label=key:value``."""
        return [
            (field.name, ":".join(value) if isinstance(value, tuple) else value)
            for field in fields(self)
            for value in getattr(self, field.name)
        ]


def parse_selection(text: str) -> Selection:
    """Read ``name=value`` pairs separated by commas; a name given twice wants either; labels are ``label.KEY=value``.

    Raises `ConfigurationError` with the nearest valid name.
    """
    names = [field.name for field in fields(Selection)]
    found: dict[str, list[object]] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or not value:
            raise ConfigurationError(f"{pair!r} does not select anything", remedy='write "site=plant-a,channel=temperature"')
        if name.startswith("label."):
            found.setdefault("label", []).append((name.removeprefix("label."), value))
        elif name in names and name != "label":
            found.setdefault(name, []).append(value)
        else:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "one of " + ", ".join(names[:-1]) + ", label.KEY"
            raise ConfigurationError(f"cannot select by {name!r}", remedy=hint)
    return Selection(**{name: tuple(values) for name, values in found.items()})  # type: ignore[arg-type]


def parse_label(text: str) -> tuple[str, str]:
    """A label of a query: ``key:value``. Raises `ConfigurationError`."""
    key, colon, value = text.partition(":")
    if not key or not colon:
        raise ConfigurationError(f"{text!r} is not a label", remedy="write label=key:value")
    return key, value
