"""Apache Cassandra 5.0, one node, that asks for passwords."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from string import Template
from typing import Any, Final

from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import Cluster, NoHostAvailable

from tests.servers.packages import maven
from tests.servers.ports import free_port, listening
from tests.servers.process import ServerProcess
from tests.servers.proxy import TcpProxy

#: The superuser that every new cluster has.
USER = PASSWORD = "cassandra"
_HERE: Final = Path(__file__).parent
_EXPORTS: Final = (
    "java.base/jdk.internal.misc java.management.rmi/com.sun.jmx.remote.internal.rmi java.rmi/sun.rmi.registry"
    " java.rmi/sun.rmi.server java.sql/java.sql java.base/java.lang.ref java.base/sun.nio.ch jdk.unsupported/sun.misc"
)
_OPENS: Final = (
    "java.base/java.lang.module java.base/jdk.internal.loader java.base/jdk.internal.ref java.base/jdk.internal.reflect"
    " java.base/jdk.internal.math java.base/jdk.internal.module java.base/jdk.internal.util.jar"
    " jdk.management/com.sun.management.internal java.base/sun.nio.ch java.base/java.io java.base/java.lang java.base/java.nio"
    " java.base/java.util java.base/java.util.concurrent java.base/java.lang.reflect"
)


class CassandraServer:
    """Keyspaces are made by who writes."""

    impatient: Final = {"retry": "3s", "connect_timeout": "2s", "timeout": "1s"}

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        configuration = directory / "cassandra.yaml"
        configuration.write_text(
            Template((_HERE / "cassandra.yaml").read_text()).substitute(
                port=self.port, storage=free_port(), data=directory / "data"
            )
        )
        command = [*_java(), *_settings(configuration, directory), "org.apache.cassandra.service.CassandraDaemon"]
        self.process = ServerProcess("cassandra", command, directory=directory, ready=self._ready, deadline=180.0)
        self.proxy = TcpProxy(self.port)

    def url(self, *, keyspace: str = "iotcloud", login: str = f"{USER}:{PASSWORD}", **options: str) -> str:
        return _url(login, self.port, keyspace, options)

    def proxied_url(self, *, keyspace: str = "iotcloud", **options: str) -> str:
        return _url(f"{USER}:{PASSWORD}", self.proxy.port, keyspace, options)

    def wrong_password_url(self) -> str:
        return self.url(login=f"{USER}:wrong-password", replication="1")

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """What a person with cqlsh would see; changes are kept."""
        with closing(_Connection(self.port)) as connection:
            return [tuple(row) for row in connection.session.execute(statement, timeout=60)]

    def empty(self, keyspace: str) -> None:
        """Take all rows out of the keyspace's tables."""
        with closing(_Connection(self.port)) as connection:
            ask = connection.session.execute
            for (table,) in ask(f"SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{keyspace}'"):
                if ask(f'SELECT * FROM {keyspace}."{table}" LIMIT 1').one():
                    ask(f'TRUNCATE {keyspace}."{table}"', timeout=60)

    def _ready(self) -> bool:
        if not listening(self.port):
            return False
        try:
            _Connection(self.port).close()
        except NoHostAvailable:
            return False  # the superuser is made a moment later
        return True


class _Connection:
    def __init__(self, port: int) -> None:
        self._cluster = Cluster(["127.0.0.1"], port=port, auth_provider=PlainTextAuthProvider(USER, PASSWORD), connect_timeout=10)
        try:
            self.session = self._cluster.connect()
        except BaseException:
            self._cluster.shutdown()
            raise

    def close(self) -> None:
        self._cluster.shutdown()


def make(directory: Path) -> CassandraServer:
    """Raises `ServerFailed` when it cannot be installed."""
    return CassandraServer(directory)


def _java() -> list[str]:
    jars = maven("cassandra", _HERE / "pom.xml")
    agent = next(jars.glob("jamm-*.jar"))
    flags = ["-Xmx512m", "-Xms128m", "-XX:+UseSerialGC", "-Xss512k", "-XX:TieredStopAtLevel=1", f"-javaagent:{agent}"]
    access = [f"--add-exports={name}=ALL-UNNAMED" for name in _EXPORTS.split()]
    access += [f"--add-opens={name}=ALL-UNNAMED" for name in _OPENS.split()]
    return ["java", *flags, *access, "-cp", f"{jars}/*"]


def _settings(configuration: Path, directory: Path) -> list[str]:
    values = {
        "cassandra.config": configuration.as_uri(),
        "cassandra.storagedir": directory / "data",
        "cassandra.ring_delay_ms": 100,
        "cassandra.skip_wait_for_gossip_to_settle": 0,
        "cassandra.superuser_setup_delay_ms": 0,
        "cassandra.auth_bcrypt_gensalt_log2_rounds": 4,
        "cassandra-foreground": "yes",
        "logback.configurationFile": _HERE / "logback.xml",
    }
    return [f"-D{name}={value}" for name, value in values.items()]


def _url(login: str, port: int, keyspace: str, options: dict[str, str]) -> str:
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"cassandra://{login}@127.0.0.1:{port}/{keyspace}" + (f"?{query}" if query else "")
