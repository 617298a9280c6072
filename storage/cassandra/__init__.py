"""Tables of results in Apache Cassandra."""

from __future__ import annotations

import importlib
from typing import Final

from schemas.errors import ConfigurationError
from storage.contract import Sink

SCHEMES: Final = ("cassandra",)


def open_sink(url: str) -> Sink:
    """A sink for ``cassandra://user@host:port,host:port/keyspace``.

    Raises `ConfigurationError`, also when the client library is not installed.
    """
    try:
        importlib.import_module("cassandra.cluster")
    except ImportError as error:
        raise ConfigurationError(
            "Cassandra needs the library cassandra-driver, which is not installed",
            remedy="pip install 'iotcloud[cassandra]'",
        ) from error
    from storage.cassandra.sink import cassandra_sink

    return cassandra_sink(url)
