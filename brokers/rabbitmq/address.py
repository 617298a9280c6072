"""Where the servers are and how to enter: pika's parameters from a URL."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any, Final

import pika  # type: ignore[import-untyped]

from brokers.errors import BrokerRefused
from brokers.rabbitmq.options import RabbitOptions
from brokers.url import BrokerUrl, Host
from schemas.errors import ConfigurationError

_PORTS: Final = {"amqp": 5672, "amqps": 5671}
#: The user that RabbitMQ makes when it is installed.
_DEFAULT_USER: Final = "guest"


@dataclass(frozen=True, slots=True)
class Address:
    """The servers of one cluster. ``url`` holds nothing secret."""

    url: str
    scheme: str
    hosts: tuple[Host, ...]
    user: str
    vhost: str
    credentials: Any
    options: RabbitOptions

    def parameters(self, host: Host, timeout: float, about: str) -> pika.ConnectionParameters:
        """For a connection that is open within ``timeout`` seconds.

        Raises `BrokerRefused` for a file that cannot be used; ``about`` says in it what the connection is for.
        """
        return pika.ConnectionParameters(
            host=host.name,
            port=host.port or _PORTS[self.scheme],
            virtual_host=self.vhost,
            credentials=self.credentials,
            heartbeat=round(self.options.heartbeat),
            # Half of it for each of a host's addresses to answer at all. The caller's own deadline comes before pika's.
            socket_timeout=timeout / 2,
            stack_timeout=timeout + 1,
            ssl_options=pika.SSLOptions(self._tls(about), host.name) if self.scheme == "amqps" else None,
            client_properties={"product": "iotcloud"},
        )

    def _tls(self, about: str) -> ssl.SSLContext:
        # Read again for every connection: certificates are renewed while an agent runs.
        options = self.options
        file = options.ca
        try:
            context = ssl.create_default_context(cafile=options.ca or None)
            if options.cert:
                file = options.cert
                context.load_cert_chain(options.cert, options.key or None)
        except OSError as error:
            raise BrokerRefused(
                f"{self.url}: {about}: cannot use the certificate {file}: {error}",
                remedy="name readable files in PEM, a key that belongs to its certificate and has no passphrase",
            ) from error
        return context


def address_of(url: BrokerUrl, options: RabbitOptions) -> Address:
    """Raises `ConfigurationError` for a URL without a host, or options that do not fit together."""
    if not url.hosts:
        raise ConfigurationError(f"{url.redacted}: names no host", remedy=f"write it as {url.scheme}://user@host:port/vhost")
    named = [name for name in ("ca", "cert", "key") if getattr(options, name)]
    if named and url.scheme != "amqps":
        raise ConfigurationError(f"{url.redacted}: {named[0]} is for TLS", remedy="write the URL as amqps://")
    if (options.key or options.auth == "external") and not options.cert:
        raise ConfigurationError(f"{url.redacted}: no certificate is named", remedy="add cert=FILE")
    external = options.auth == "external"
    user = url.user or ("" if external else _DEFAULT_USER)
    password = url.password if url.user else _DEFAULT_USER
    credentials = pika.credentials.ExternalCredentials() if external else pika.PlainCredentials(user, password)
    return Address(url.redacted, url.scheme, url.hosts, user or options.cert, url.path or "/", credentials, options)
