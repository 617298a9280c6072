"""mosquitto from Debian's package, with a TLS listener that asks for client certificates, and a user with few rights."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from string import Template
from typing import Final
from urllib.parse import urlencode

from tests.servers.certificates import certificates
from tests.servers.packages import apt
from tests.servers.ports import free_port, listening
from tests.servers.process import ServerProcess
from tests.servers.proxy import TcpProxy

PASSWORD: Final = "right-password"
#: Changes after which it writes all it keeps.
_WRITES_EVERY: Final = 100
_HERE: Final = Path(__file__).parent
_WHERE: Final = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"


class MosquittoServer:
    """See `tests.servers.broker_server.BrokerServer`. The user ``gateway`` may do anything, ``stranger`` only below
    ``elsewhere``. ``inflight`` is what it allows on its way at once (0: no limit), ``settings`` what else it is told."""

    def __init__(self, directory: Path, *, inflight: int = 0, settings: str = "") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port, self.tls_port = free_port(), free_port()
        self.certificates = certificates(directory / "certificates")
        text = Template((_HERE / "mosquitto.conf").read_text()).substitute(
            port=self.port,
            tls_port=self.tls_port,
            directory=directory,
            certificates=directory / "certificates",
            inflight=inflight,
            changes=_WRITES_EVERY,
        )
        (directory / "mosquitto.conf").write_text(f"{text}{settings}\n")
        shutil.copy(_HERE / "rights", directory)
        (directory / "passwords").touch(mode=0o600)
        for user in ("gateway", "stranger"):
            subprocess.run([_program("mosquitto_passwd"), "-b", str(directory / "passwords"), user, PASSWORD], check=True)
        self.process = ServerProcess(
            "mosquitto",
            [_program("mosquitto"), "-c", str(directory / "mosquitto.conf")],
            directory=directory,
            ready=lambda: listening(self.port),
        )
        self.proxy = TcpProxy(self.port)

    def url(self, **options: str) -> str:
        return _url("mqtt", f"gateway:{PASSWORD}@", self.port, options)

    def url_of(self, user: str, **options: str) -> str:
        return _url("mqtt", f"{user}:{PASSWORD}@", self.port, options)

    def proxied_url(self, **options: str) -> str:
        return _url("mqtt", f"gateway:{PASSWORD}@", self.proxy.port, options)

    def wrong_password_url(self) -> str:
        return _url("mqtt", "gateway:wrong-password@", self.port, {})

    def tls_url(self, **options: str) -> str:
        made = self.certificates
        files = {"ca": str(made.ca), "cert": str(made.client_cert), "key": str(made.client_key)}
        return _url("mqtts", "", self.tls_port, {**files, **options})

    def untrusted_tls_url(self) -> str:
        return self.tls_url(ca=str(self.certificates.stranger))


def make(directory: Path) -> MosquittoServer:
    """Raises `ServerFailed` when it cannot be installed."""
    apt("mosquitto", program="mosquitto")
    return MosquittoServer(directory)


def _program(name: str) -> str:
    return shutil.which(name, path=_WHERE) or name


def _url(scheme: str, login: str, port: int, options: dict[str, str]) -> str:
    query = urlencode({"writes_every": str(_WRITES_EVERY), **options}, safe="/:")
    return f"{scheme}://{login}127.0.0.1:{port}?{query}"
