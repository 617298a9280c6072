"""Finding the store a URL names, by folder or by entry point.

A shipped store is a package here whose ``__init__`` is light to import and declares ``SCHEMES`` and ``open_sink(url)``, or
``open_journal(url, schemas)``, or both. A third party declares an entry point in the group ``iotcloud.sinks``, named for its
scheme, whose value is an object with the same two functions, or one of them.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterator
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any, Final

from schemas.errors import ConfigurationError
from schemas.registry import Schemas
from settings.substitution import redact
from storage.contract import Journal, Sink

ENTRY_POINTS: Final = "iotcloud.sinks"


def open_sink(url: str) -> Sink:
    """The sink that ``url`` names, such as ``sqlite:results.sqlite``. Opens nothing before it is used.

    Raises `ConfigurationError` for an unknown scheme, a wrong option, or a library that is not installed.
    """
    sink: Sink = _opener(url, "open_sink", "tables of results")(url)
    return sink


def open_journal(url: str, schemas: Schemas) -> Journal:
    """The journal that ``url`` names, such as ``files:archive``, for frames of ``schemas``. Raises as `open_sink`."""
    journal: Journal = _opener(url, "open_journal", "a journal")(url, schemas)
    return journal


def schemes() -> frozenset[str]:
    """All schemes there are, shipped and of third parties."""
    shipped = (scheme for name in _shipped() for scheme in _package(name).SCHEMES)
    return frozenset(shipped) | {point.name for point in entry_points(group=ENTRY_POINTS)}


def _opener(url: str, function: str, purpose: str) -> Any:
    scheme = url.split(":", 1)[0].split("+", 1)[0] if ":" in url else ""
    for store in _stores(scheme):
        opener = getattr(store, function, None)
        if opener is None:
            raise ConfigurationError(f"{redact(url)}: {scheme!r} does not keep {purpose}", remedy="name another store")
        return opener
    valid = sorted(schemes())
    near = difflib.get_close_matches(scheme, valid, n=1, cutoff=0.5)
    raise ConfigurationError(
        f"{redact(url)}: no store has the scheme {scheme!r}",
        remedy=f"did you mean {near[0]!r}?" if near else "one of " + ", ".join(valid),
    )


def _stores(scheme: str) -> Iterator[Any]:
    for name in sorted(_shipped(), key=lambda name: name != scheme):
        package = _package(name)
        if scheme in package.SCHEMES:
            yield package
    for point in entry_points(group=ENTRY_POINTS, name=scheme):
        yield point.load()


def _shipped() -> list[str]:
    import storage

    return sorted(module.name for module in pkgutil.iter_modules(storage.__path__) if module.ispkg)


def _package(name: str) -> ModuleType:
    return importlib.import_module(f"storage.{name}")
