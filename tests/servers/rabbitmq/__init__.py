"""RabbitMQ from Debian's package, with TLS that asks for client certificates, and users with few rights."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
from pathlib import Path
from string import Template
from typing import Final
from urllib.parse import quote, urlencode

from tests.servers.certificates import certificates
from tests.servers.packages import apt
from tests.servers.ports import free_port
from tests.servers.process import ServerProcess
from tests.servers.proxy import TcpProxy

PASSWORD: Final = "right-password"
_HERE: Final = Path(__file__).parent


class RabbitServer:
    """See `tests.servers.broker_server.BrokerServer`.

    In the vhost ``/`` the user ``gateway`` may do anything, ``agent`` what the broker's README tells to grant, ``writer``
    only publish, ``reader`` only read, ``stranger`` nothing. Nobody may enter the vhost ``closed``.
    """

    def __init__(self, directory: Path) -> None:
        self.port, self.tls_port, distribution, epmd = (free_port() for _ in range(4))
        self.certificates = certificates(directory / "certificates")
        for name in ("rabbitmq.conf", "definitions.json"):
            text = Template((_HERE / name).read_text()).safe_substitute(
                port=self.port, tls_port=self.tls_port, directory=directory, certificates=directory / "certificates"
            )
            (directory / name).write_text(text)
        (directory / "enabled_plugins").write_text("[rabbitmq_auth_mechanism_ssl].\n")
        cookie = directory / "home" / ".erlang.cookie"
        cookie.parent.mkdir(exist_ok=True)
        cookie.write_text(secrets.token_hex(10))
        cookie.chmod(0o400)
        self._environment = {
            "HOME": str(cookie.parent),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(epmd),
            "RABBITMQ_NODENAME": "iotcloud@localhost",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": str(directory / "pid"),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none",
        }
        self.process = ServerProcess(
            "rabbitmq",
            ["sh", str(_HERE / "start.sh")],
            directory=directory,
            ready=self._greets,
            environment=self._environment,
        )
        self.proxy = TcpProxy(self.port)

    def url(self, **options: str) -> str:
        return self.url_of("gateway", **options)

    def url_of(self, user: str, *, password: str = PASSWORD, vhost: str = "/", **options: str) -> str:
        return _url("amqp", f"{user}:{password}@", self.port, quote(vhost, safe=""), options)

    def proxied_url(self, **options: str) -> str:
        return _url("amqp", f"gateway:{PASSWORD}@", self.proxy.port, "", options)

    def wrong_password_url(self) -> str:
        return self.url_of("gateway", password="wrong-password")

    def tls_url(self, **options: str) -> str:
        made = self.certificates
        files = {"ca": str(made.ca), "cert": str(made.client_cert), "key": str(made.client_key)}
        login = "" if options.get("auth") == "external" else f"gateway:{PASSWORD}@"
        return _url("amqps", login, self.tls_port, "", {**files, **options})

    def untrusted_tls_url(self) -> str:
        return self.tls_url(ca=str(self.certificates.stranger))

    def control(self, *arguments: str) -> str:
        """What ``rabbitmqctl`` says."""
        done = subprocess.run(
            [str(_scripts() / "rabbitmqctl"), "-q", *arguments],
            env={**os.environ, **self._environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout

    def _greets(self) -> bool:
        """Whether it answers a protocol header: it listens a moment before it lets anybody in."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                connection.sendall(b"AMQP\0\0\x09\x01")
                return connection.recv(1) == b"\x01"
        except OSError:
            return False


def make(directory: Path) -> RabbitServer:
    """Raises `ServerFailed` when it cannot be installed."""
    apt("rabbitmq-server", program="rabbitmq-server")
    return RabbitServer(directory)


def _scripts() -> Path:
    # Those in /usr/sbin become the user rabbitmq.
    return next(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin"))


def _url(scheme: str, login: str, port: int, vhost: str, options: dict[str, str]) -> str:
    query = "?" + urlencode(options, safe="/:") if options else ""
    return f"{scheme}://{login}127.0.0.1:{port}{'/' + vhost if vhost else ''}{query}"
