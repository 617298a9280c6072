"""Tables of results in an SQL database: SQLite, the embedded default."""

from __future__ import annotations

from typing import Final

from storage.contract import Sink

SCHEMES: Final = ("sqlite",)


def open_sink(url: str) -> Sink:
    """A sink for ``sqlite:PATH``, or an SQLAlchemy URL (``sqlite:///PATH``). Raises `ConfigurationError`."""
    from storage.sql.sink import sql_sink

    return sql_sink(url)
