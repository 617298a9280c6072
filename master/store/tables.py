"""The tables. Times are µs since 1970, UTC. `migrations/` makes them; a test holds both to be equal."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, MetaData, String, Table, Text, UniqueConstraint

metadata: Final = MetaData()

#: A number that rises with every row, also after rows were deleted. SQLite can do that for INTEGER only.
_NUMBER: Final = BigInteger().with_variant(Integer(), "sqlite")


def _of_gateway(*, primary_key: bool = True) -> Column[str]:
    return Column("gateway", String, ForeignKey("gateways.gateway", ondelete="CASCADE"), primary_key=primary_key, nullable=False)


gateways = Table(
    "gateways",
    metadata,
    Column("gateway", String, primary_key=True),
    Column("site", String, nullable=False, index=True),
    Column("version", String, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("state", String, nullable=False),
    Column("lease_until", BigInteger, nullable=False),
    Column("seen_time", BigInteger, nullable=False),
    Column("first_time", BigInteger, nullable=False),
    Column("registered_time", BigInteger, nullable=False),
    Column("commands_transport", String, nullable=False),
    Column("outbox", Text),
)

gateway_labels = Table(
    "gateway_labels",
    metadata,
    _of_gateway(),
    Column("key", String, primary_key=True),
    Column("value", String, nullable=False),
)

transports = Table(
    "transports",
    metadata,
    _of_gateway(),
    Column("name", String, primary_key=True),
    Column("url", String, nullable=False),
)

applications = Table(
    "applications",
    metadata,
    _of_gateway(),
    Column("application", String, primary_key=True),
    Column("driver", String, nullable=False),
    Column("version", String, nullable=False),
    Column("state", String, nullable=False),
    Column("restarts", Integer, nullable=False),
    Column("detail", Text, nullable=False),
)

command_specs = Table(
    "command_specs",
    metadata,
    _of_gateway(),
    Column("application", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("args", Text, nullable=False),
)

channels = Table(
    "channels",
    metadata,
    _of_gateway(),
    Column("application", String, primary_key=True),
    Column("channel", String, primary_key=True),
    Column("topic", String, nullable=False, index=True),
    Column("grouping", String, nullable=False),
    Column("direction", String, nullable=False),
    Column("transport", String, nullable=False),
    Column("fingerprint", String(16), nullable=False),
)

devices = Table(
    "devices",
    metadata,
    _of_gateway(),
    Column("application", String, primary_key=True),
    Column("device", String, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("first_time", BigInteger, nullable=False),
    Index("ix_devices_device", "device"),
)

device_channels = Table(
    "device_channels",
    metadata,
    _of_gateway(),
    Column("application", String, primary_key=True),
    Column("device", String, primary_key=True),
    Column("channel", String, primary_key=True),
    Column("first_time", BigInteger, nullable=False),
)

schemas = Table(
    "schemas",
    metadata,
    Column("fingerprint", String(16), primary_key=True),
    Column("name", String, nullable=False),
    Column("record", Text, nullable=False),
    Column("first_time", BigInteger, nullable=False),
)

#: Every schema ever written to a topic; the one marked reader reads all of them.
topic_schemas = Table(
    "topic_schemas",
    metadata,
    Column("topic", String, primary_key=True),
    Column("fingerprint", String(16), ForeignKey("schemas.fingerprint"), primary_key=True),
    Column("reader", Boolean, nullable=False),
    Column("first_time", BigInteger, nullable=False),
)

commands = Table(
    "commands",
    metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("gateway", String, nullable=False),
    Column("device", String, nullable=False),
    # Null for a command that somebody else sent and of which only states are known.
    Column("name", String),
    Column("args", Text),
    Column("issuer", String),
    Column("issued_time", BigInteger),
    Column("deadline", BigInteger),
    Column("state", String, nullable=False),
    Column("state_time", BigInteger, nullable=False),
    Column("detail", Text, nullable=False),
    Index("ix_commands_device", "device", "number"),
    Index("ix_commands_state", "state"),
    sqlite_autoincrement=True,
)

command_states = Table(
    "command_states",
    metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False),
    Column("gateway", String, nullable=False),
    Column("device", String, nullable=False),
    Column("state", String, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("detail", Text, nullable=False),
    Column("recorded_time", BigInteger, nullable=False),
    # A state read twice from a broker is one state.
    UniqueConstraint("id", "gateway", "state", "time", name="uq_command_states"),
    sqlite_autoincrement=True,
)

#: The next offset to read of topics followed, for brokers that have offsets.
positions = Table(
    "positions",
    metadata,
    Column("broker", String, primary_key=True),
    Column("topic", String, primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("next_offset", BigInteger, nullable=False),
)

reports = Table(
    "reports",
    metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    _of_gateway(primary_key=False),
    Column("application", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("detail", Text, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("recorded_time", BigInteger, nullable=False),
    Index("ix_reports_gateway", "gateway", "number"),
    sqlite_autoincrement=True,
)

#: The journal that watchers follow; the oldest rows are given up.
changes = Table(
    "changes",
    metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("time", BigInteger, nullable=False),
    Column("kind", String, nullable=False),
    Column("action", String, nullable=False),
    Column("site", String, nullable=False),
    Column("gateway", String, nullable=False),
    Column("application", String, nullable=False),
    Column("device", String, nullable=False),
    Column("channel", String, nullable=False),
    Column("value", Text, nullable=False),
    sqlite_autoincrement=True,
)

#: Append-only: triggers refuse to change or delete a row.
audit = Table(
    "audit",
    metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("time", BigInteger, nullable=False),
    Column("actor", String, nullable=False),
    Column("action", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("detail", Text, nullable=False),
    sqlite_autoincrement=True,
)
