"""Google's in-memory Pub/Sub server (`pstest`), built with Go. It forgets everything when it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.servers.certificates import certificates
from tests.servers.packages import go_program
from tests.servers.ports import free_port, listening
from tests.servers.process import ServerProcess
from tests.servers.proxy import TcpProxy

_SOURCE: Final = Path(__file__).parent


class PubsubServer:
    """See `tests.servers.broker_server.BrokerServer`. ``refuse`` names calls that fail, as ``Publish=7``."""

    #: What was acknowledged is gone when it is killed: that Pub/Sub itself is durable is not shown with it.
    forgets = True

    def __init__(self, directory: Path, *, refuse: str = "") -> None:
        self._port = free_port()
        self._tls_port = free_port()
        self._certificates = certificates(directory / "certificates")
        self._account = directory / "account.json"
        self._account.write_text(json.dumps(_service_account()))
        command = [str(go_program("pubsub", _SOURCE)), f"-port={self._port}", f"-tls-port={self._tls_port}"]
        command += [f"-cert={self._certificates.server_cert}", f"-key={self._certificates.server_key}", f"-refuse={refuse}"]
        self.process = ServerProcess("pubsub", command, directory=directory, ready=lambda: listening(self._tls_port))
        self.proxy = TcpProxy(self._port)

    def url(self, **options: str) -> str:
        return _url(emulator=f"127.0.0.1:{self._port}", **options)

    def proxied_url(self, **options: str) -> str:
        return _url(emulator=f"127.0.0.1:{self.proxy.port}", **options)

    def wrong_password_url(self) -> str | None:
        return None

    def tls_url(self) -> str | None:
        return self._tls_url(self._certificates.ca)

    def untrusted_tls_url(self) -> str | None:
        return self._tls_url(self._certificates.stranger)

    def _tls_url(self, authority: Path) -> str:
        return _url(endpoint=f"localhost:{self._tls_port}", ca=str(authority), credentials=f"file:{self._account}")


def make(directory: Path) -> PubsubServer:
    return PubsubServer(directory)


def _url(**options: str) -> str:
    return "pubsub://tests?" + "&".join(f"{name}={value}" for name, value in {"ack_deadline": "10s", **options}.items())


def _service_account() -> dict[str, str]:
    """The key file of an account that nobody knows: tokens can be signed with it."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {
        "type": "service_account",
        "project_id": "tests",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": "gateway@tests.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": "https://oauth2.googleapis.com/token",
    }
