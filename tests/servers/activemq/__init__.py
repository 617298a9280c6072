"""ActiveMQ Classic from Maven, with a user, a guest who may use little, TLS, and TLS that asks for a client certificate."""

from __future__ import annotations

from pathlib import Path
from string import Template
from typing import Final
from urllib.parse import quote, urlencode
from xml.sax.saxutils import quoteattr

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from tests.servers.certificates import Certificates, certificates
from tests.servers.packages import maven
from tests.servers.ports import free_port, listening
from tests.servers.process import ServerProcess
from tests.servers.proxy import TcpProxy

#: With all that a header of STOMP could stumble over.
PASSWORD: Final = "p:a\\css & wörd"
MAX_DATA_LENGTH: Final = 2_000_000
_STORE_PASSWORD: Final = "of-the-key-stores"
_HERE: Final = Path(__file__).parent


class ActiveMqServer:
    """See `tests.servers.broker_server.BrokerServer`."""

    def __init__(self, directory: Path) -> None:
        self.certificates = certificates(directory / "tls")
        _write_key_stores(self.certificates, directory / "tls")
        self._port, self._tls_port, self._mutual_tls_port = free_port(), free_port(), free_port()
        configuration = Template((_HERE / "activemq.xml").read_text()).substitute(
            directory=directory,
            password=quoteattr(PASSWORD)[1:-1],
            store_password=_STORE_PASSWORD,
            port=self._port,
            tls_port=self._tls_port,
            mutual_tls_port=self._mutual_tls_port,
            max_data_length=MAX_DATA_LENGTH,
        )
        (directory / "activemq.xml").write_text(configuration, encoding="utf-8")
        jars = maven("activemq", _HERE / "pom.xml")
        self.process = ServerProcess(
            "activemq",
            [
                "java",
                "-Xmx384m",
                "-XX:+UseSerialGC",
                f"-Dlog4j2.configurationFile={_HERE / 'log4j2.xml'}",
                f"-Dactivemq.home={directory}",
                f"-Dactivemq.base={directory}",
                "-cp",
                f"{jars}/*",
                "org.apache.activemq.console.Main",
                "start",
                f"xbean:file:{directory}/activemq.xml",
            ],
            directory=directory,
            ready=lambda: all(map(listening, (self._port, self._tls_port, self._mutual_tls_port))),
        )
        self.proxy = TcpProxy(self._port)

    def url(self, **options: str) -> str:
        return _url("stomp", PASSWORD, self._port, options)

    def proxied_url(self, **options: str) -> str:
        return _url("stomp", PASSWORD, self.proxy.port, options)

    def wrong_password_url(self) -> str | None:
        return _url("stomp", "wrong", self._port, {})

    def tls_url(self) -> str | None:
        return _url("stomp+ssl", PASSWORD, self._tls_port, {"ca": str(self.certificates.ca)})

    def untrusted_tls_url(self) -> str | None:
        return _url("stomp+ssl", PASSWORD, self._tls_port, {"ca": str(self.certificates.stranger)})

    def guest_url(self) -> str:
        """Of a user who may use the topics below ``open.`` alone."""
        return self.url().replace("//gateway:", "//guest:")

    def mutual_tls_url(self, **options: str) -> str:
        """For a client that shows a certificate."""
        return _url("stomp+ssl", PASSWORD, self._mutual_tls_port, {"ca": str(self.certificates.ca), **options})


def make(directory: Path) -> ActiveMqServer:
    return ActiveMqServer(directory)


def _url(scheme: str, password: str, port: int, options: dict[str, str]) -> str:
    query = f"?{urlencode(options, quote_via=quote)}" if options else ""
    return f"{scheme}://gateway:{quote(password, safe='')}@127.0.0.1:{port}{query}"


def _write_key_stores(made: Certificates, directory: Path) -> None:
    """Java reads no PEM files here."""
    seal = serialization.BestAvailableEncryption(_STORE_PASSWORD.encode())
    key = serialization.load_pem_private_key(made.server_key.read_bytes(), None)
    certificate, *chain = x509.load_pem_x509_certificates(made.server_cert.read_bytes())
    sealed = pkcs12.serialize_key_and_certificates(b"server", key, certificate, chain, seal)  # type: ignore[arg-type]
    (directory / "server.p12").write_bytes(sealed)
    authority = pkcs12.PKCS12Certificate(x509.load_pem_x509_certificate(made.ca.read_bytes()), b"ca")
    (directory / "trusted.p12").write_bytes(pkcs12.serialize_java_truststore([authority], seal))
