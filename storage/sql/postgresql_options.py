"""What a ``postgresql:`` URL may say, and what the client library makes of it."""

from __future__ import annotations

import re
from typing import Any, Final, Literal

import msgspec

from schemas.errors import ConfigurationError
from settings import Seconds
from storage.address import Address

_SCHEMA: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")


class PostgresqlOptions(msgspec.Struct, frozen=True):
    """What may follow the ``?``. Those that begin with ``ssl`` are libpq's."""

    #: Where the tables are; made when it is not there. Empty: the first of the user's search path.
    schema: str = ""
    #: How long a write is tried again.
    retry: Seconds = Seconds(60)
    connect_timeout: Seconds = Seconds(10)
    #: How long one statement may take, waiting for locks included.
    statement_timeout: Seconds = Seconds(30)
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = "prefer"
    sslrootcert: str = ""
    sslcert: str = ""
    sslkey: str = ""

    def __post_init__(self) -> None:
        if self.schema and not _SCHEMA.fullmatch(self.schema):
            raise ValueError("schema must be of small letters, digits and _")
        if not 1 <= self.connect_timeout <= 600:
            raise ValueError("connect_timeout must be 1 s to 10 min")
        if not 0.1 <= self.statement_timeout <= 3600:
            raise ValueError("statement_timeout must be 100 ms to 1 h")
        if not 0 <= self.retry <= 86_400:
            raise ValueError("retry must be 0 to 1d")
        if bool(self.sslcert) != bool(self.sslkey):
            raise ValueError("sslcert and sslkey go together")


def connection_parameters(address: Address, options: PostgresqlOptions) -> dict[str, Any]:
    """Parameters of libpq. Raises `ConfigurationError`."""
    if not address.name or "/" in address.name:
        raise ConfigurationError(f"{address.redacted}: names no database", remedy="write postgresql://user@host:5432/database")
    settings = {"statement_timeout": round(1000 * options.statement_timeout)}
    if options.schema:
        settings |= {"search_path": options.schema}  # type: ignore[dict-item]
    parameters = {
        "host": ",".join(name for name, _ in address.hosts),
        "port": ",".join(str(port or 5432) for _, port in address.hosts),
        "dbname": address.name,
        "user": address.user,
        "password": address.password,
        "application_name": "iotcloud",
        "client_encoding": "utf8",
        "connect_timeout": max(2, round(options.connect_timeout)),
        # Of several servers the one that may be written to.
        "target_session_attrs": "read-write",
        "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
        "sslmode": options.sslmode,
        "sslrootcert": options.sslrootcert,
        "sslcert": options.sslcert,
        "sslkey": options.sslkey,
    }
    return {name: value for name, value in parameters.items() if value != ""}
