"""The SQLite storage of thingsboard-gateway: events put until they are committed. Run by a Python that has that package.

usage: thingsboard_sqlite.py DIRECTORY EVENTS; prints events per second
"""

from __future__ import annotations

import json
import logging
import sqlite3
import sys
import threading
import time
from pathlib import Path
from typing import Any


class _Logger(logging.Logger):
    """The package logs at a level of its own."""

    def trace(self, *_: Any, **__: Any) -> None:
        """Not wanted."""


def main(directory: str, events: int) -> None:
    from thingsboard_gateway.storage.sqlite.sqlite_event_storage import (  # type: ignore[import-not-found]
        SQLiteEventStorage,
    )

    # Its own defaults, with room for all, so that it measures writing and not rotation of files.
    config = {"data_file_path": f"{directory}/", "size_limit": 4096, "max_read_records_count": 1000, "writing_batch_size": 1000}
    storage = SQLiteEventStorage(config, _Logger("storage"), threading.Event())
    messages = [
        json.dumps({"deviceName": "mote-1", "telemetry": [{"ts": 1_273_363_200_000 + at, "values": {"humidity": at / 100}}]})
        for at in range(events)
    ]
    database = next(Path(directory).glob("*.db"))
    reader = sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=30)
    started = time.perf_counter()
    for message in messages:
        storage.put(message)
    while (reader.execute("SELECT max(id) FROM messages").fetchone()[0] or 0) < events:
        time.sleep(0.001)
    print(events / (time.perf_counter() - started), flush=True)
    # What it does at its end is not measured, and not waited for.
    import os

    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
