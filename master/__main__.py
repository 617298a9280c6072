"""``python -m master``: the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from schemas.errors import IoTCloudError
from telemetry import logs

if TYPE_CHECKING:
    from master.config import Config

_EXAMPLES: Final = """\
examples:
  python -m master --data ./master                       on a free port of loopback; the token is in ./master/token
  python -m master --data ./master --port 8080 --no-auth    anybody on this machine may use it
  python -m master --data /var/lib/iotcloud --host 0.0.0.0 --port 8443 --token file:/etc/iotcloud/token \\
                   --tls-certificate /etc/iotcloud/cert.pem --tls-key /etc/iotcloud/key.pem
  python -m master --config master.toml

When it listens it logs one line with event "listening" and its url, and writes the url to --url-file.
The interface is described at /schema."""

#: Options that stand in the TOML file under the same name.
_SAME: Final = ("data", "host", "port", "database", "token", "no_auth", "heartbeat", "lease", "keep_commands", "url_file")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand, ``run`` when none is named, and return the exit status: 0, or 2 for a wrong setting."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments.pop(0) if arguments and arguments[0] in _COMMANDS else "run"
    try:
        return _COMMANDS[name](arguments)
    except IoTCloudError as error:
        sys.stderr.write(error.told)
        return 2


def _run(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    logs.configure(level=options.log_level)
    # Litestar, SQLAlchemy and uvicorn take a second: not for --help, and not for a wrong option.
    from master.serve import serve

    serve(_config(options))
    return 0


def _config(options: argparse.Namespace) -> Config:
    from master.config import Config
    from settings import convert, load

    given = {name: value for name in _SAME if (value := getattr(options, name)) is not None}
    if options.tls_certificate or options.tls_key:
        given["tls"] = {"certificate": options.tls_certificate or "", "key": options.tls_key or ""}
    if options.config is None:
        return convert({"data": "master", **given}, Config, origin="command line")
    loaded = load(options.config, Config)
    checked = convert({"data": loaded.data, **given}, Config, origin="command line")
    return msgspec.structs.replace(loaded, **{name: getattr(checked, name) for name in given})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m master",
        description="The master: knows every gateway, application, device, channel and schema, and sends commands to devices.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--config", metavar="FILE", help="a TOML file with these settings; options given here win")
    add("--data", metavar="DIR", help="directory for the database and the token (default: ./master)")
    add("--host", metavar="ADDRESS", help="where to listen (default: 127.0.0.1); elsewhere TLS and a token are required")
    add("--port", metavar="N", type=int, help="0 takes a free one (the default)")
    add("--database", metavar="URL", help="an SQLAlchemy URL (default: SQLite in --data)")
    add("--token", metavar="TOKEN", help="the token, or file:PATH; on loopback one is made when none is given")
    add("--no-auth", action="store_const", const=True, help="let everybody of this machine in; only on loopback")
    add("--tls-certificate", metavar="FILE", help="certificate chain in PEM form")
    add("--tls-key", metavar="FILE", help="its private key")
    add("--heartbeat", metavar="DURATION", help="how often gateways renew their lease (default: 5s)")
    add("--lease", metavar="DURATION", help="how long a gateway without heartbeats is not lost (default: 15s)")
    add("--keep-commands", metavar="DURATION", help="how long commands that have ended are kept (default: 30d)")
    add("--url-file", metavar="FILE", help="gets the URL when the master listens")
    add("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    return parser


_COMMANDS: Final[dict[str, Callable[[Sequence[str]], int]]] = {"run": _run}


if __name__ == "__main__":
    sys.exit(main())
