"""The command line ``iotcloud``: hands over to the part that is asked for, and imports no other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from schemas.errors import IoTCloudError

_PARTS = {
    "gateway": ("gateway_agent.__main__", "agent", "run and look after a gateway agent on an edge box"),
    "master": ("master.__main__", "master", "run the gateway master"),
    "pipeline": ("pipelines.run", "all", "run a Beam pipeline over the events"),
    "prove": ("pipelines.prove.__main__", "all", "show that no event was lost, or which"),
    "relay": ("brokers.relay", "agent", "move frames from one broker into a log"),
}
_HELP = "\n".join(
    [
        "usage: iotcloud PART [...]",
        "",
        "From devices to cloud processing and back.",
        "",
        *(f"  {name:9} {does}" for name, (_, _, does) in _PARTS.items()),
        "",
        "examples:",
        "  iotcloud gateway init --driver serial > gateway.toml",
        "  iotcloud gateway run gateway.toml",
        "  iotcloud master --data /var/lib/iotcloud",
        "  iotcloud pipeline realtime --runner=PrismRunner --help",
        "  iotcloud prove --gateway gateway.toml --archive archive",
        "",
        "'iotcloud PART --help' tells more.",
    ]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a part with the rest of the arguments; returns its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        sys.stdout.write(_HELP + "\n")
        return 0
    if given[0] not in _PARTS:
        sys.stderr.write(f"Error: no part {given[0]!r}\nTry: one of {', '.join(_PARTS)}\n")
        return 2
    module, extra, _ = _PARTS[given[0]]
    try:
        part: Callable[[Sequence[str]], int] = import_module(module).main
    except ModuleNotFoundError as error:
        sys.stderr.write(f"Error: {given[0]} needs the package {error.name}\nTry: pip install 'iotcloud[{extra}]'\n")
        return 1
    try:
        return part(given[1:])
    except IoTCloudError as error:
        sys.stderr.write(error.told)
        return 1


if __name__ == "__main__":
    sys.exit(main())
