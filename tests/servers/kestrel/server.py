"""The server: its sessions, its queues, and the moment at which answers may leave."""

from __future__ import annotations

import asyncio
import fcntl
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Final

from tests.servers.kestrel.administration import Refused
from tests.servers.kestrel.queues import Queues, Settings
from tests.servers.kestrel.session import Session

VERSION: Final = "2.4.7-iotcloud-tests"
_STATUSES: Final = ("up", "readonly", "quiescent")


class Server:
    """``sync`` is the seconds between calls of fdatasync: 0 before every answer, None for never."""

    version = VERSION

    def __init__(self, directory: Path, settings: Settings, *, max_open_reads: int, sync: float | None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = (directory / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"{directory} is in use by another server") from None
        self.queues = Queues(directory, settings)
        self.max_open_reads = max_open_reads
        #: Sessions that have something to send.
        self.answering: set[Session] = set()
        self._sync = sync
        self._status_file = directory / "status"
        self.status = self._status_file.read_text() if self._status_file.exists() else "up"
        self._counts: Counter[str] = Counter()
        self._began = time.time()

    async def run(self, port: int) -> None:
        """Serve on the loopback interface until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        listener = await loop.create_server(lambda: Session(self, loop), "127.0.0.1", port, backlog=512)
        regularly = asyncio.create_task(self._regularly())
        await stopping.wait()
        regularly.cancel()
        listener.close()
        self.settle()
        self.queues.sync()

    def settle(self) -> None:
        """Write the journals, and only then send the answers: what a client was told survives SIGKILL."""
        self.queues.write(sync=self._sync == 0)
        while self.answering:
            self.answering.pop().send_answers()

    def count(self, name: str, amount: int = 1) -> None:
        self._counts[name] += amount

    def stats(self) -> dict[str, int | str]:
        queues = dict(self.queues)
        known: dict[str, int | str] = {
            "uptime": int(time.time() - self._began),
            "time": int(time.time()),
            "version": self.version,
            "curr_items": sum(len(queue.items) for queue in queues.values()),
            "bytes": sum(queue.bytes for queue in queues.values()),
        }
        for name in ("total_items", "curr_connections", "total_connections", "cmd_get", "cmd_set", "cmd_peek", "get_hits"):
            known[name] = self._counts[name]
        for name in ("get_misses", "bytes_read", "bytes_written"):
            known[name] = self._counts[name]
        for name, queue in queues.items():
            known |= {f"queue_{name}_{stat}": value for stat, value in queue.stats().items()}
        return known

    def set_status(self, status: str) -> None:
        """Kept over restarts."""
        if status.lower() not in _STATUSES:
            raise Refused("CLIENT_ERROR")
        self.status = status.lower()
        self._status_file.write_text(self.status)

    def check_writes(self) -> None:
        if self.status != "up":
            raise Refused("SERVER_ERROR")

    def check_reads(self) -> None:
        if self.status == "quiescent":
            raise Refused("SERVER_ERROR")

    async def _regularly(self) -> None:
        """Let items expire, and sync."""
        while True:
            await asyncio.sleep(self._sync or 1.0)
            self.queues.discard_expired()
            self.settle()
            if self._sync is not None:
                self.queues.sync()
