"""Structured logs: one event per line, JSON unless a person is watching, never a secret."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog

from settings.substitution import redact

Logger = structlog.typing.FilteringBoundLogger

_SECRET_NAMES = ("password", "token", "secret", "authorization")


def configure(*, level: str = "info", stream: TextIO | None = None, json: bool | None = None) -> None:
    """Set up logging for this process; called by command lines only.

    ``stream`` defaults to what standard error is now, ``json`` to 'not a terminal'.
    """
    stream = sys.stderr if stream is None else stream
    as_json = not stream.isatty() if json is None else json
    renderer: Any = structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _hide_secrets,
    ]
    if as_json:
        shared.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
    )
    logging.basicConfig(stream=stream, level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")


def logger(name: str, **context: Any) -> Logger:
    """A logger whose lines carry ``component=name`` and ``context``."""
    log: Logger = structlog.get_logger().bind(component=name, **context)
    return log


def _hide_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    for key, value in event.items():
        if any(name in key.lower() for name in _SECRET_NAMES):
            event[key] = "***"
        elif isinstance(value, str):
            event[key] = redact(value)
    return event
