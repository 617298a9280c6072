"""Finding the broker a URL names, by folder or by entry point.

A shipped broker is a package here whose ``__init__`` is light to import and declares ``SCHEMES`` and
``open_broker(url)``. A third party declares an entry point in the group ``iotcloud.brokers``, named for
its scheme, whose value is such an ``open_broker``.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from types import ModuleType
from typing import Final, cast

from brokers.contract import Broker
from brokers.url import BrokerUrl, parse_url
from schemas.errors import ConfigurationError

ENTRY_POINTS: Final = "iotcloud.brokers"

OpenBroker = Callable[[BrokerUrl], Broker]


def connect(url: str) -> Broker:
    """The broker that ``url`` names. Opens nothing yet.

    Raises `ConfigurationError` for an unknown scheme, a wrong option, or a client library that is not installed.
    """
    parsed = parse_url(url)
    for opener in _openers(parsed.scheme):
        return opener(parsed)
    valid = sorted(schemes())
    near = difflib.get_close_matches(parsed.scheme, valid, n=1, cutoff=0.5)
    raise ConfigurationError(
        f"{parsed.redacted}: no broker has the scheme {parsed.scheme!r}",
        remedy=f"did you mean {near[0]!r}?" if near else "one of " + ", ".join(valid),
    )


def schemes() -> frozenset[str]:
    """All schemes that `connect` knows, shipped and of third parties."""
    shipped = (scheme for name in _shipped() for scheme in _package(name).SCHEMES)
    return frozenset(shipped) | {point.name for point in entry_points(group=ENTRY_POINTS)}


def client_library(module: str, *, extra: str) -> ModuleType:
    """Import a broker's client library. Raises `ConfigurationError` with the ``pip install`` that brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the broker {extra!r} needs the library {error.name}, which is not installed",
            remedy=f"pip install 'iotcloud[{extra}]'",
        ) from error


def _openers(scheme: str) -> Iterator[OpenBroker]:
    # The package of the scheme's own name first: it is nearly always the one, and the others stay unimported.
    for name in sorted(_shipped(), key=lambda name: name != scheme):
        package = _package(name)
        if scheme in package.SCHEMES:
            yield cast("OpenBroker", package.open_broker)
    for point in entry_points(group=ENTRY_POINTS, name=scheme):
        yield cast("OpenBroker", point.load())


def _shipped() -> list[str]:
    import brokers

    return sorted(module.name for module in pkgutil.iter_modules(brokers.__path__) if module.ispkg)


def _package(name: str) -> ModuleType:
    return importlib.import_module(f"brokers.{name}")
