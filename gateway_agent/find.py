"""Finding a driver by name, and making one from its settings."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway_agent.driver import Channel, Driver
from schemas.errors import ConfigurationError, SchemaError
from schemas.registry import SHIPPED, EventSchema, event_schema, load_event_schema, shipped
from settings import convert, place

ENTRY_POINTS: Final = "iotcloud.drivers"


def find_driver(name: str) -> type[Driver[Any]]:
    """The driver called ``name``: a shipped one, ``module:Class``, or an entry point. Raises `ConfigurationError`."""
    if ":" in name:
        return _from_module(name)
    if name in shipped_drivers():
        package = f"gateway_agent.drivers.{name}"
        try:
            found = importlib.import_module(package).driver
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"the driver {name!r} needs the library {error.name}, which is not installed",
                remedy=f"pip install 'iotcloud[{name}]'",
            ) from error
        return _checked(found, name)
    for point in entry_points(group=ENTRY_POINTS, name=name):
        return _checked(point.load(), name)
    valid = sorted({*shipped_drivers(), *(point.name for point in entry_points(group=ENTRY_POINTS))})
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else "one of " + ", ".join(valid) + ", or module:Class"
    raise ConfigurationError(f"no driver {name!r}", remedy=hint)


def shipped_drivers() -> list[str]:
    """Names of the drivers that come with the agent: the candidates below `gateway_agent.drivers`."""
    import gateway_agent.drivers as package

    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if module.ispkg)


def driver_folder(name: str) -> Path:
    """Where a shipped driver's files are."""
    spec = importlib.util.find_spec(f"gateway_agent.drivers.{name}")
    if spec is None or spec.origin is None:
        raise ConfigurationError(f"no driver {name!r}", remedy="one of " + ", ".join(shipped_drivers()))
    return Path(spec.origin).parent


def make_driver(
    driver: type[Driver[Any]],
    settings: Mapping[str, Any],
    *,
    origin: str,
    application: str,
    lines: Mapping[tuple[str, ...], int] | None = None,
) -> Driver[Any]:
    """A driver with its settings, checked. Raises `ConfigurationError` with the place of the field that is wrong.

    Whatever else a driver's own code raises passes.
    """
    at = ("applications", application, "settings")
    checked = convert(dict(settings), driver.Settings, origin=origin, at=at, lines=lines)
    try:
        made = driver(checked)
        names = [channel.name for channel in made.channels]
    except ConfigurationError as error:
        # A driver names the field that is wrong at the beginning, if it can.
        named, _, problem = error.message.partition(": ")
        field = tuple(named.split("."))
        if field[0] not in {one.encode_name for one in msgspec.structs.fields(driver.Settings)}:
            field, problem = (), error.message
        raise ConfigurationError(f"{place(origin, (*at, *field), lines or {})}: {problem}", remedy=error.remedy) from error
    if len(set(names)) != len(names):
        raise ConfigurationError(f"{place(origin, at, lines or {})}: a channel is declared twice: {', '.join(names)}")
    return made


def channel_schema(channel: Channel, driver: type[Driver[Any]], *, override: str | None, folder: str | Path) -> EventSchema:
    """The event schema of a channel. Paths are looked up beside the configuration, then beside the driver's code.

    Raises `SchemaError` or `ConfigurationError`.
    """
    source = override or channel.schema
    if source.lstrip().startswith("{"):
        return event_schema(source, origin=f"channel {channel.name}")
    if source in SHIPPED:
        return shipped(source)
    if not source.endswith(".avsc"):
        near = difflib.get_close_matches(source, SHIPPED, n=1, cutoff=0.5)
        raise ConfigurationError(
            f"channel {channel.name!r}: no schema {source!r}",
            remedy=f"did you mean {near[0]!r}?" if near else f"one of {', '.join(SHIPPED)}, or a path to an .avsc file",
        )
    candidates = [Path(folder) / source, Path(inspect.getfile(driver)).parent / source]
    for file in candidates:
        if file.exists():
            return load_event_schema(file)
    raise SchemaError(
        f"channel {channel.name!r}: {source}: no such file",
        remedy="looked in " + ", ".join(str(file.parent) for file in candidates),
    )


def _from_module(name: str) -> type[Driver[Any]]:
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigurationError(
            f"driver {name!r}: {error}", remedy="install the package it is in, or put its folder on PYTHONPATH"
        ) from error
    if not hasattr(module, attribute):
        classes = [key for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, Driver)]
        near = difflib.get_close_matches(attribute, classes, n=1, cutoff=0.5)
        raise ConfigurationError(
            f"driver {name!r}: the module has no {attribute!r}", remedy=f"did you mean {near[0]!r}?" if near else ""
        )
    return _checked(getattr(module, attribute), name)


def _checked(found: object, name: str) -> type[Driver[Any]]:
    if not isinstance(found, type) or not issubclass(found, Driver) or inspect.isabstract(found):
        raise ConfigurationError(f"driver {name!r}: {found!r} is no class derived from gateway_agent.driver.Driver with a run()")
    return found
