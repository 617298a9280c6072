"""Apache Kafka 4.4, a broker and its controller in one process, with listeners for all ways of connecting."""

from __future__ import annotations

from pathlib import Path
from string import Template

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tests.servers.broker_server import BrokerServer
from tests.servers.certificates import Certificates, certificates
from tests.servers.kafka.java import CLUSTER, LoggedServer, java, run
from tests.servers.ports import free_port
from tests.servers.process import ServerProcess
from tests.servers.proxy import TcpProxy

HERE = Path(__file__).parent
USER = "gateway"
PASSWORD = "pass-4711"
#: Seconds after which the broker closes a connection that nobody uses.
IDLE_SECONDS = 10
_LISTENERS = ("plain", "proxied", "sasl", "tls", "both", "controller")


class KafkaServer:
    """See `tests.servers.broker_server.BrokerServer`."""

    def __init__(self, directory: Path) -> None:
        self.certificates = certificates(directory / "certificates")
        self._ports = {name: free_port() for name in _LISTENERS}
        self.proxy = TcpProxy(self._ports["proxied"])
        self._configuration = directory / "server.properties"
        self._configuration.write_text(
            Template((HERE / "server.properties").read_text()).substitute(
                self._ports,
                proxy=self.proxy.port,
                data=directory / "data",
                password=PASSWORD,
                ca=self.certificates.ca,
                identity=_identity(self.certificates, directory / "certificates" / "server-identity.pem"),
                idle=1_000 * IDLE_SECONDS,
            )
        )
        run(directory, "kafka.tools.StorageTool", *self._format())
        command = [*java("384m"), "kafka.Kafka", str(self._configuration)]
        self.process: ServerProcess = LoggedServer("kafka", command, directory)

    def url(self, **options: str) -> str:
        return _url("kafka://", self._ports["plain"], options)

    def proxied_url(self, **options: str) -> str:
        return _url("kafka://", self.proxy.port, options)

    def wrong_password_url(self) -> str:
        return _url(f"kafka://{USER}:wrong-password@", self._ports["sasl"], {})

    def sasl_url(self, **options: str) -> str:
        return _url(f"kafka://{USER}:{PASSWORD}@", self._ports["sasl"], options)

    def tls_url(self, **options: str) -> str:
        """With a client's certificate, which this listener asks for."""
        made = self.certificates
        wanted = {"ca": str(made.ca), "cert": str(made.client_cert), "key": str(made.client_key), **options}
        return _url("kafkas://", self._ports["tls"], wanted, host="localhost")

    def uncertified_url(self) -> str:
        """Without the certificate that the listener asks for."""
        return _url("kafkas://", self._ports["tls"], {"ca": str(self.certificates.ca)}, host="localhost")

    def untrusted_tls_url(self) -> str:
        return self.tls_url(ca=str(self.certificates.stranger))

    def sasl_tls_url(self, **options: str) -> str:
        wanted = {"ca": str(self.certificates.ca), **options}
        return _url(f"kafka+ssl://{USER}:{PASSWORD}@", self._ports["both"], wanted, host="localhost")

    def _format(self) -> list[str]:
        credentials = f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"
        return ["format", "-t", CLUSTER, "-c", str(self._configuration), "--add-scram", credentials]


def make(directory: Path) -> BrokerServer:
    """See `tests.servers.broker_server.make`."""
    return KafkaServer(directory)


def _url(begin: str, port: int, options: dict[str, str], *, host: str = "127.0.0.1") -> str:
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"{begin}{host}:{port}" + (f"?{query}" if query else "")


def _identity(made: Certificates, path: Path) -> Path:
    """Key and certificates in one file, as Kafka wants them: the key as PKCS 8."""
    key = load_pem_private_key(made.server_key.read_bytes(), password=None)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(pem + made.server_cert.read_bytes())
    path.chmod(0o600)
    return path
