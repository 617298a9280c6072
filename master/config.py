"""What a master is told when it starts: from a TOML file, from the command line, or both."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from master.leases import Terms
from master.security import Credentials, check_token, is_loopback, token_in
from schemas.errors import ConfigurationError
from settings import Seconds
from settings.quantities import Port
from settings.substitution import secret
from telemetry.logs import logger

#: Seconds for which commands are kept after their last step: by default, and at least. Within that time the id of an order
#: that is sent again is known, however long its deadline.
KEEP_COMMANDS: Final = 30 * 86_400.0
_SHORTEST_KEPT: Final = 86_400.0


class Tls(msgspec.Struct, frozen=True):
    """Files in PEM form."""

    certificate: str
    key: str


class Config(msgspec.Struct, frozen=True):
    """The settings of ``[master]``-less TOML; every one has a default but ``data``."""

    #: The directory for the database and the token.
    data: str
    host: str = "127.0.0.1"
    #: 0 takes a free one.
    port: Port = 0
    #: An SQLAlchemy URL; ``master.sqlite`` in ``data`` when empty.
    database: str = ""
    #: A token, or ``file:PATH`` of one; on loopback one is made when empty.
    token: str = ""
    #: Let everybody of this machine in. Only on loopback.
    no_auth: bool = False
    tls: Tls | None = None
    heartbeat: Seconds = Seconds(5)
    lease: Seconds = Seconds(15)
    #: How long commands are kept, with their steps, after the last one.
    keep_commands: Seconds = Seconds(KEEP_COMMANDS)
    #: A file that gets the URL when the master listens.
    url_file: str = ""

    @property
    def directory(self) -> Path:
        return Path(self.data).expanduser().absolute()

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.directory / 'master.sqlite'}"

    @property
    def terms(self) -> Terms:
        """Raises `ConfigurationError`."""
        return Terms.of(float(self.heartbeat), float(self.lease))

    @property
    def commands_kept(self) -> float:
        """Seconds. Raises `ConfigurationError`."""
        if self.keep_commands < _SHORTEST_KEPT:
            raise ConfigurationError(
                f"keep_commands: {float(self.keep_commands):g} s are too few", remedy='at least "1d", the longest deadline'
            )
        return float(self.keep_commands)


def credentials(config: Config) -> Credentials:
    """Who will be let in. Raises `ConfigurationError` where the settings would leave the master open to a network."""
    if not is_loopback(config.host):
        if config.no_auth:
            raise ConfigurationError(
                f"--no-auth on {config.host} lets everybody in", remedy="listen on 127.0.0.1, or use a token"
            )
        if config.tls is None:
            raise ConfigurationError(
                f"{config.host} can be reached from elsewhere, and there is no TLS",
                remedy="give --tls-certificate FILE --tls-key FILE, or listen on 127.0.0.1",
            )
        if not config.token:
            raise ConfigurationError(
                f"{config.host} can be reached from elsewhere, and there is no token", remedy="give --token file:PATH"
            )
    if config.no_auth:
        if config.token:
            raise ConfigurationError("--no-auth and --token contradict each other", remedy="give one of them")
        return Credentials(None)
    if config.token:
        return Credentials(check_token(secret(config.token, origin="--token")))
    token, path = token_in(config.directory)
    # Not named a token in the log, which would hide where it is.
    logger("master").info("clients and gateways need the content of this file", file=str(path))
    return Credentials(token)
