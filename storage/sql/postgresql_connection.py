"""A connection to PostgreSQL that gives up on a server that has gone silent."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg

R = TypeVar("R")


class Connection(psycopg.Connection[Any]):
    """The server ends statements that take too long by itself; this is for when nothing comes from it at all, though the
    connection stands: a machine that hangs, a network that drops what is sent.
    """

    #: Seconds that one exchange with the server may take.
    patience: float = 60.0

    def wait(self, gen: Generator[Any, Any, R], *arguments: Any, **keywords: Any) -> R:
        """Every exchange goes through here. Raises `psycopg.OperationalError` when the server is silent for too long."""
        return super().wait(self._until(gen, time.monotonic() + self.patience), *arguments, **keywords)

    def _until(self, exchange: Generator[Any, Any, R], deadline: float) -> Generator[Any, Any, R]:
        # psycopg sends what is ready, which is nothing when an interval has passed.
        try:
            wanted = next(exchange)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > deadline:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"no answer from the server in {self.patience:.0f} s")
                wanted = exchange.send(ready)
        except StopIteration as end:
            result: R = end.value
            return result
