"""``python -m tests.servers.kestrel --port N --directory DIR``. See the package."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from tests.servers.kestrel.queues import Settings
from tests.servers.kestrel.server import Server


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.servers.kestrel", description="The tests' own Kestrel server.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True, help="of the journals")
    parser.add_argument("--max-open-reads", type=int, default=1, help="per connection and queue")
    parser.add_argument("--sync", type=float, help="seconds between syncs of the journals, 0: before every answer")
    parser.add_argument("--fanout-only", action="store_true")
    parser.add_argument("--discard-old-when-full", action="store_true")
    for name in ("--max-items", "--max-bytes", "--max-item-bytes"):
        parser.add_argument(name, type=int, default=0, help="0: no limit")
    parser.add_argument("--journal-bytes", type=int, default=Settings.journal_bytes)
    arguments = vars(parser.parse_args())
    port, directory, max_open_reads, sync = (arguments.pop(name) for name in ("port", "directory", "max_open_reads", "sync"))
    server = Server(directory, Settings(**arguments), max_open_reads=max_open_reads, sync=sync)
    asyncio.run(server.run(port))


if __name__ == "__main__":
    main()
