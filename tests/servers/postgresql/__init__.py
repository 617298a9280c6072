"""PostgreSQL from Debian's package. It does not run as root; where the tests do, it is nobody's."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import psycopg

from tests.servers.certificates import certificates
from tests.servers.packages import apt
from tests.servers.ports import free_port
from tests.servers.process import ServerFailed, ServerProcess
from tests.servers.proxy import TcpProxy

PASSWORD: Final = "right/p@ss:word"  # characters that mean something in a URL
_PROGRAMS: Final = Path("/usr/lib/postgresql")
# Folders of tests are closed to others than their owner; the capability leads through them. Changing the user forgets that the
# process is to end with its parent.
_CAPABILITY: Final = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
_AS_NOBODY: Final = ["setpriv", "--pdeathsig=KILL", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *_CAPABILITY]


class PostgresqlServer:
    """Database ``iotcloud``. The user ``iotcloud`` owns it and needs no password, ``writer`` has one."""

    impatient: Final = {"retry": "3s", "connect_timeout": "2s", "statement_timeout": "1s"}

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.certificates = certificates(directory / "certificates")
        self.data = directory / "data"
        as_nobody = _AS_NOBODY if os.geteuid() == 0 else []
        programs = _programs()
        if not self.data.exists():
            _give(directory, nobody=bool(as_nobody))
            form = ["-A", "trust", "-U", "iotcloud", "--locale=C.UTF-8", "-E", "UTF8", "--no-sync"]
            _run([*as_nobody, str(programs / "initdb"), "-D", str(self.data), *form])
            (self.data / "pg_hba.conf").write_text(
                "host all writer 127.0.0.1/32 scram-sha-256\nhost all stranger 127.0.0.1/32 reject\n"
                "host all all 127.0.0.1/32 trust\n"
            )
            _give(directory, nobody=bool(as_nobody))
        made = self.certificates
        settings = {
            "shared_buffers": "32MB",
            "ssl": "on",
            "ssl_cert_file": str(made.server_cert),
            "ssl_key_file": str(made.server_key),
        }
        command = [
            *as_nobody,
            str(programs / "postgres"),
            "-D",
            str(self.data),
            "-p",
            str(self.port),
            "-h",
            "127.0.0.1",
            "-k",
            "",
        ]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        self.process = ServerProcess("postgresql", command, directory=directory, ready=self._ready)
        self.proxy = TcpProxy(self.port)

    def url(self, *, user: str = "iotcloud", database: str = "iotcloud", **options: str) -> str:
        return _url(user, self.port, database, options)

    def proxied_url(self, **options: str) -> str:
        return _url("iotcloud", self.proxy.port, "iotcloud", options)

    def wrong_password_url(self) -> str:
        return _url("writer:wrong-password", self.port, "iotcloud", {})

    def query(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        """What a person with psql would see; changes are kept."""
        with psycopg.connect(f"host=127.0.0.1 port={self.port} user=iotcloud dbname=iotcloud", autocommit=True) as connection:
            cursor = connection.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def _ready(self) -> bool:
        try:
            with psycopg.connect(
                f"host=127.0.0.1 port={self.port} user=iotcloud dbname=postgres connect_timeout=2", autocommit=True
            ) as connection:
                if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'iotcloud'").fetchone():
                    connection.execute(f"CREATE ROLE writer LOGIN PASSWORD '{PASSWORD}'")
                    connection.execute("CREATE DATABASE iotcloud")
            return True
        except psycopg.OperationalError:
            return False


def make(directory: Path) -> PostgresqlServer:
    """Raises `ServerFailed` when it cannot be installed."""
    if not _PROGRAMS.exists():
        apt("postgresql", program="pg_ctlcluster")
    return PostgresqlServer(directory)


def _programs() -> Path:
    """The newest that is installed."""
    found = sorted(_PROGRAMS.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise ServerFailed("PostgreSQL's programs are not there", remedy="sudo apt-get install postgresql")
    return found[-1].parent


def _give(directory: Path, *, nobody: bool) -> None:
    """Let the user nobody have ``directory``."""
    if nobody:
        for path in (directory, *directory.rglob("*")):
            shutil.chown(path, "nobody", "nogroup")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise ServerFailed(f"{command[-1]}: {(done.stderr or done.stdout)[-2000:]}")


def _url(user: str, port: int, database: str, options: dict[str, str]) -> str:
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"postgresql://{user}@127.0.0.1:{port}/{database}" + (f"?{query}" if query else "")
