"""Log lines go where the process was told last."""

from __future__ import annotations

import io

import structlog

from telemetry.logs import configure


def test_a_librarys_logger_that_has_written_before_follows_what_is_configured_now() -> None:
    """A logger of a module, as libraries have: used under one configuration, and again under the next."""
    library = structlog.get_logger()
    first, second = io.StringIO(), io.StringIO()
    configure(stream=first)
    library.warning("one")
    first.close()
    configure(stream=second)
    library.warning("two")
    assert '"event": "two"' in second.getvalue()
