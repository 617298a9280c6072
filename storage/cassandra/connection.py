"""A session with a cluster: opened when it is first needed, its keyspace and tables made and brought to the present form."""

from __future__ import annotations

import random
import ssl
import time
from typing import Any

from cassandra import ConsistencyLevel, InvalidRequest  # type: ignore[import-untyped]
from cassandra.auth import PlainTextAuthProvider  # type: ignore[import-untyped]
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile  # type: ignore[import-untyped]
from cassandra.policies import (  # type: ignore[import-untyped]
    DCAwareRoundRobinPolicy,
    ExponentialReconnectionPolicy,
    FallthroughRetryPolicy,
    TokenAwarePolicy,
)

from schemas.errors import ConfigurationError
from storage.address import Address
from storage.cassandra.clock import ServersClock
from storage.cassandra.layout import LAYOUTS, NEWEST
from storage.cassandra.options import CassandraOptions, keyspace_of
from storage.cassandra.statements import add_columns, create
from storage.errors import StoreRefused

_PORT = 9042


class Connection:
    """Raises the driver's errors, `StoreRefused` where the keyspace is missing, and at once `ConfigurationError`."""

    def __init__(self, address: Address, options: CassandraOptions) -> None:
        self.url = address.redacted
        self.keyspace = keyspace_of(address)
        self.clock = ServersClock()
        self._address = address
        self._options = options
        self._tls = _tls(address, options)
        self._cluster: Any = None
        self._session: Any = None

    def session(self) -> Any:
        """The session, with all tables there."""
        if self._session is None:
            cluster = self._connected()
            try:
                session = cluster.connect()
                self._make(session, cluster)
            except BaseException:
                cluster.shutdown()
                raise
            self._cluster, self._session = cluster, session
        if self.clock.stale:
            asked_at = time.monotonic()
            row = self._session.execute("SELECT now() FROM system.local").one()
            self.clock.set(row[0], asked_at=asked_at)
        return self._session

    def check(self) -> None:
        """Whether the cluster can be reached, and the keyspace is there or may be made."""
        cluster = self._connected()
        try:
            cluster.connect().execute("SELECT now() FROM system.local")
            if self.keyspace not in cluster.metadata.keyspaces and not self._options.replication:
                raise self._no_keyspace()
        finally:
            cluster.shutdown()

    def close(self) -> None:
        if self._cluster is not None:
            self._cluster.shutdown()
            self._cluster = self._session = None

    def _connected(self) -> Any:
        options = self._options
        level = ConsistencyLevel.name_to_value[options.consistency.upper()]
        local = options.consistency.startswith("local") or options.datacenter
        profile = ExecutionProfile(
            load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy(local_dc=options.datacenter)),
            # Whoever writes tries again, with all that failed.
            retry_policy=FallthroughRetryPolicy(),
            consistency_level=level,
            serial_consistency_level=ConsistencyLevel.LOCAL_SERIAL if local else ConsistencyLevel.SERIAL,
            request_timeout=options.timeout,
        )
        address = self._address
        return Cluster(
            [(name, port or _PORT) for name, port in address.hosts],
            auth_provider=PlainTextAuthProvider(address.user, address.password) if address.user else None,
            ssl_context=self._tls,
            execution_profiles={EXEC_PROFILE_DEFAULT: profile},
            connect_timeout=options.connect_timeout,
            control_connection_timeout=options.connect_timeout,
            reconnection_policy=ExponentialReconnectionPolicy(0.25, 5.0),
            # A connection on which nothing comes is noticed even when nothing is asked.
            idle_heartbeat_interval=10,
            idle_heartbeat_timeout=options.connect_timeout,
            application_name="iotcloud",
        )

    def _make(self, session: Any, cluster: Any) -> None:
        if self.keyspace not in cluster.metadata.keyspaces:
            if not self._options.replication:
                raise self._no_keyspace()
            session.execute(f"CREATE KEYSPACE IF NOT EXISTS {self.keyspace} WITH replication = {self._replication()}")
        self._enter_keyspace(session)
        if self.keyspace not in cluster.metadata.keyspaces:
            cluster.refresh_keyspace_metadata(self.keyspace)
        tables = cluster.metadata.keyspaces[self.keyspace].tables
        for name, layout in LAYOUTS.items():
            if name not in tables:
                for statement in create(layout):
                    session.execute(statement)
            else:
                for statement in add_columns(layout, tables[name].columns):
                    session.execute(statement)
        self._check_newest(cluster)

    def _enter_keyspace(self, session: Any) -> None:
        """Where several make it at once, a node may have said that it is there and not know it yet."""
        until = time.monotonic() + self._options.timeout
        while True:
            try:
                session.set_keyspace(self.keyspace)
                return
            except InvalidRequest:
                if not self._options.replication or time.monotonic() > until:
                    raise
                time.sleep(random.uniform(0.05, 0.2))

    def _check_newest(self, cluster: Any) -> None:
        """What is in the column of newest rows is compared as it stands, so it cannot be changed later."""
        cluster.refresh_user_type_metadata(self.keyspace, NEWEST)
        found = cluster.metadata.keyspaces[self.keyspace].user_types.get(NEWEST)
        wanted = [column.name for layout in LAYOUTS.values() if layout.table.merge == "newer" for column in layout.inner]
        if found is None or list(found.field_names) != wanted:
            raise StoreRefused(
                f"{self.url}: the type {NEWEST!r} is of another version", remedy="name another keyspace, or drop type and table"
            )

    def _replication(self) -> str:
        number = self._options.replication
        if self._options.datacenter:
            return f"{{'class': 'NetworkTopologyStrategy', '{self._options.datacenter}': {number}}}"
        return f"{{'class': 'SimpleStrategy', 'replication_factor': {number}}}"

    def _no_keyspace(self) -> StoreRefused:
        return StoreRefused(
            f"{self.url}: there is no keyspace {self.keyspace!r}",
            remedy="make it, or add replication=N to the URL to have it made with N copies of each row",
        )


def _tls(address: Address, options: CassandraOptions) -> ssl.SSLContext | None:
    if not options.encrypted:
        return None
    try:
        context = ssl.create_default_context(cafile=options.ca or None)
        # Cassandra's nodes call themselves by addresses that their certificates rarely name.
        context.check_hostname = False
        if options.cert:
            context.load_cert_chain(options.cert, options.key)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{address.redacted}: ca, cert or key cannot be used: {error}") from error
    return context
