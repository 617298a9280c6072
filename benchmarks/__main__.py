"""``python -m benchmarks [NAME] [...]``: run one measurement, or all."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

NOT_QUESTIONS = {"__init__", "__main__", "measure", "echo", "servers"}


def main(arguments: list[str]) -> int:
    here = Path(__file__).parent
    names = sorted({path.stem for path in here.glob("*.py")} - NOT_QUESTIONS)
    if arguments and arguments[0] in ("-h", "--help"):
        sys.stdout.write("usage: ./dev bench [NAME] [--quick]\n\nmeasurements: " + ", ".join(names) + "\n")
        return 0
    chosen = names if not arguments or arguments[0].startswith("-") else [arguments.pop(0)]
    for name in chosen:
        if name not in names:
            sys.stderr.write(f"Error: no measurement {name!r}\nTry: one of {', '.join(names)}\n")
            return 2
        status: int = import_module(f"benchmarks.{name}").main(list(arguments))
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
