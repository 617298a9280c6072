"""The agent's configuration: what a file may say, and the check that its parts fit together."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from brokers import Broker, connect
from brokers.redaction import redact
from gateway_agent.host.messages import BEAT
from gateway_agent.outbox import WhenFull
from schemas.errors import ConfigurationError
from schemas.rpc import Grouping
from schemas.topics import PIPELINES, check_part
from settings import Bytes, Seconds, line_of, lines_of, parse
from settings.quantities import Port
from settings.substitution import secret

#: Smaller than what one publisher and one child have in hand, an outbox would stand still.
_LEAST_OUTBOX: Final = 16 << 20
#: Seconds. A heartbeat or two may be late on a machine that is busy.
_LEAST_PATIENCE: Final = 3 * BEAT
_DEFAULT: Final = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*:-([^}]*)\}")


class Gateway(msgspec.Struct, frozen=True, kw_only=True):
    """``commands_transport`` carries commands and their results; the only transport by default."""

    id: str
    site: str
    data_dir: str
    labels: dict[str, str] = {}
    commands_transport: str = ""


class Transport(msgspec.Struct, frozen=True):
    """``groups`` get every event of this gateway from the first one on: a queue keeps them until these have read them."""

    url: str
    groups: tuple[str, ...] = (PIPELINES,)


class OutboxSection(msgspec.Struct, frozen=True):
    max_bytes: Bytes = Bytes(1 << 30)
    when_full: WhenFull = "block"


class Master(msgspec.Struct, frozen=True):
    """``token`` may be ``file:PATH``; ``ca`` names a file with the certificates to trust instead of the system's."""

    url: str
    token: str = ""
    ca: str = ""


class StatusSection(msgspec.Struct, frozen=True):
    port: Port = 0
    host: str = "127.0.0.1"
    #: A file that gets the URL when it is served, for those who asked for port 0.
    url_file: str = ""


class ChannelSection(msgspec.Struct, frozen=True):
    """What a driver's channel gets other than the default."""

    transport: str = ""
    grouping: Grouping = "grouped"
    schema: str = ""
    when_full: WhenFull | Literal[""] = ""


class Restart(msgspec.Struct, frozen=True):
    """Patience with an application that fails: ``failures`` within ``window`` and it stays down.

    One is killed as hung after ``hung_after`` without a sign of life; it gives one a second.
    """

    first_pause: Seconds = Seconds(0.5)
    longest_pause: Seconds = Seconds(30)
    failures: Annotated[int, msgspec.Meta(ge=1)] = 5
    window: Seconds = Seconds(300)
    hung_after: Seconds = Seconds(10)


class Application(msgspec.Struct, frozen=True):
    """``settings`` belong to the driver and are checked by it; ``transport`` is that of channels which name none."""

    driver: str
    settings: dict[str, Any] = {}
    channels: dict[str, ChannelSection] = {}
    transport: str = ""
    restart: Restart = Restart()


class Config(msgspec.Struct, frozen=True):
    """The whole file."""

    gateway: Gateway
    transports: dict[str, Transport]
    applications: dict[str, Application] = {}
    outbox: OutboxSection = OutboxSection()
    master: Master | None = None
    status: StatusSection = StatusSection()


@dataclass(frozen=True)
class Loaded:
    """A configuration, checked, and where it came from."""

    config: Config
    path: Path
    lines: Mapping[tuple[str, ...], int]
    #: URLs of transports as they are written, with variables unexpanded: they may be shown to others.
    written_urls: Mapping[str, str]

    @property
    def data_dir(self) -> Path:
        return (self.path.parent / Path(self.config.gateway.data_dir).expanduser()).absolute()

    @property
    def status_url_file(self) -> Path:
        """Where a running agent writes the URL of its status."""
        written = self.config.status.url_file
        return self.path.parent / Path(written).expanduser() if written else self.data_dir / "status.url"

    @property
    def default_transport(self) -> str:
        """The transport of what names none: the one for commands, or the first."""
        return self.config.gateway.commands_transport or next(iter(self.config.transports))

    def brokers(self) -> dict[str, Broker]:
        """A broker per transport; opens nothing. Raises `ConfigurationError`."""
        return {name: connect(transport.url) for name, transport in self.config.transports.items()}

    def token(self) -> str:
        """The token for the master, or nothing. Raises `ConfigurationError`."""
        master = self.config.master
        return secret(master.token, origin=f"{self.path}: master.token") if master and master.token else ""

    def error(self, at: tuple[str, ...], problem: str, *, remedy: str = "") -> ConfigurationError:
        """An error at a key, with its line."""
        line = line_of(at, self.lines)
        where = f"{self.path}:{line}" if line else str(self.path)
        return ConfigurationError(f"{where}: {'.'.join(at)}: {problem}", remedy=remedy)


def load_config(path: Path | str) -> Loaded:
    """Read and check a configuration file, without touching drivers or brokers. Raises `ConfigurationError`."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path}: cannot be read: {error}", remedy="'iotcloud gateway init' prints one to begin with"
        ) from error
    config = parse(text, Config, origin=str(path))
    loaded = Loaded(config, path.absolute(), lines_of(text), _written_urls(text))
    _check(loaded)
    return loaded


def nearest(name: str, valid: Iterable[str]) -> str:
    """``did you mean …``, or what there is."""
    names = sorted(valid)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else "there are: " + (", ".join(names) or "none")


def _check(loaded: Loaded) -> None:
    config = loaded.config
    for kind, name, at in (
        ("gateway", config.gateway.id, ("gateway", "id")),
        ("site", config.gateway.site, ("gateway", "site")),
        *(("application", name, ("applications", name)) for name in config.applications),
    ):
        try:
            check_part(kind, name)
        except ConfigurationError as error:
            raise loaded.error(at, error.message, remedy=error.remedy) from None
    for name, application in config.applications.items():
        if application.restart.hung_after < _LEAST_PATIENCE:
            raise loaded.error(
                ("applications", name, "restart", "hung_after"),
                f"{application.restart.hung_after:g} s are too few: a process at work is heard every {BEAT:g} s",
                remedy=f'at least "{_LEAST_PATIENCE:g}s"',
            )
    if not config.transports:
        raise loaded.error(("transports",), "there is none", remedy='add [transports.main] with url = "local:DIR", say')
    for name, transport in config.transports.items():
        try:
            connect(transport.url)
        except ConfigurationError as error:
            raise loaded.error(("transports", name, "url"), error.message, remedy=error.remedy) from None
    if config.outbox.max_bytes < _LEAST_OUTBOX:
        raise loaded.error(("outbox", "max_bytes"), f"{config.outbox.max_bytes} bytes are too few", remedy='at least "16MiB"')
    if config.master is not None:
        _check_master(loaded, config.master.url)
    _check_transports(loaded)


def _check_master(loaded: Loaded, master: str) -> None:
    if not master.startswith(("http://", "https://", "ws://", "wss://")):
        raise loaded.error(("master", "url"), f"{master!r} is no URL", remedy="such as http://127.0.0.1:8080")
    # It is told the brokers' URLs as they are written, and shows them to others.
    for name, url in loaded.written_urls.items():
        literal = _DEFAULT.sub(r"\1", url)
        if redact(literal) != literal:
            raise loaded.error(
                ("transports", name, "url"),
                "holds a password, and the master would be told it",
                remedy="write it as a variable without a default, ${NAME}, that this gateway and each reader set",
            )


def _check_transports(loaded: Loaded) -> None:
    config = loaded.config
    named: list[tuple[tuple[str, ...], str]] = [(("gateway", "commands_transport"), config.gateway.commands_transport)]
    for name, application in config.applications.items():
        named.append((("applications", name, "transport"), application.transport))
        for channel, section in application.channels.items():
            named.append((("applications", name, "channels", channel, "transport"), section.transport))
    for at, transport in named:
        if transport and transport not in config.transports:
            raise loaded.error(at, f"no transport {transport!r}", remedy=nearest(transport, config.transports))


def _written_urls(text: str) -> dict[str, str]:
    import tomllib

    transports = tomllib.loads(text).get("transports", {})
    return {name: str(section.get("url", "")) for name, section in transports.items() if isinstance(section, dict)}
