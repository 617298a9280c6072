"""``python -m gateway_agent``, ``iotcloud gateway``: the agent's command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from schemas.errors import IoTCloudError

_EXAMPLES: Final = """\
examples:
  iotcloud gateway init --driver serial > gateway.toml
  iotcloud gateway check gateway.toml
  iotcloud gateway test gateway.toml --seconds 10
  iotcloud gateway run gateway.toml
  iotcloud gateway status gateway.toml
  iotcloud gateway outbox inspect gateway.toml
"""

_COMMANDS: Final = {
    "init": "print a configuration to begin with",
    "check": "check a configuration: file, drivers, settings, schemas, topics",
    "test": "run the drivers and print what they emit; nothing is kept or sent",
    "run": "run the agent until SIGTERM or SIGINT",
    "status": "ask a running agent how it is",
    "outbox": "look into an outbox, repair it, or publish what it holds",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="iotcloud gateway",
        description="The agent of a gateway: user code talks to devices, what they say leaves through a broker.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, what in _COMMANDS.items():
        sub = commands.add_parser(name, help=what, description=what)
        import_module(f"gateway_agent.cli.{name}").add_arguments(sub)
    given = parser.parse_args(arguments)
    try:
        return int(import_module(f"gateway_agent.cli.{given.command}").run(given))
    except IoTCloudError as error:
        sys.stderr.write(error.told)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
