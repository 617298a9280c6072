"""`CassandraSink`: rows into tables, each at its key, many on their way at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, Final

import polars as pl
import stamina
from cassandra.concurrent import execute_concurrent  # type: ignore[import-untyped]
from cassandra.query import BatchStatement, BatchType  # type: ignore[import-untyped]

from storage.address import parse_address
from storage.cassandra.connection import Connection
from storage.cassandra.encoding import Request, conformed, newest, requests
from storage.cassandra.failures import ERRORS, NotApplied, describe, is_transient
from storage.cassandra.groups import merge_groups
from storage.cassandra.layout import LAYOUTS, Layout
from storage.cassandra.options import CassandraOptions
from storage.tables import table_named

#: Requests that are made ready together: the rest of a write waits as rows, which are smaller.
_PORTION: Final = 1_000


def cassandra_sink(url: str) -> CassandraSink:
    """Raises `ConfigurationError`."""
    address = parse_address(url)
    options = address.options_as(CassandraOptions)
    return CassandraSink(Connection(address, options), options)


class CassandraSink:
    """See `storage.contract.Sink`. A write that fails may have been done in part, until it is repeated."""

    def __init__(self, connection: Connection, options: CassandraOptions) -> None:
        self._connection = connection
        self._options = options
        self._prepared: Callable[[str], Any] = lru_cache(maxsize=512)(self._prepare)

    @property
    def url(self) -> str:
        return self._connection.url

    def write(self, table: str, rows: pl.DataFrame) -> None:
        spec = table_named(table)
        if rows.is_empty():
            return
        layout, checked = LAYOUTS[table], spec.conform(rows)
        where = f"{self.url}: table {table!r}"
        try:
            self._retried(self._connection.session)
            if spec.merge in ("ranges", "spans"):
                merge_groups(layout, checked, self._ttl(layout), run=self._run, retried=self._retried)
                return
            ready = conformed(layout, checked)
            made = newest(layout, ready) if spec.merge == "newer" else self._replacing(layout, ready)
            for portion in _portions(made):
                self._all(portion)
        except (*ERRORS, NotApplied) as error:
            raise describe(where, error) from error

    def check(self) -> None:
        try:
            self._connection.check()
        except ERRORS as error:
            raise describe(self.url, error) from error

    def close(self) -> None:
        self._connection.close()
        self._prepared = lru_cache(maxsize=512)(self._prepare)

    def _replacing(self, layout: Layout, rows: pl.DataFrame) -> Iterator[Request]:
        return requests(layout, rows, self._connection.clock, self._ttl(layout))

    def _ttl(self, layout: Layout) -> int:
        return round(self._options.ttl) if layout.expires else 0

    def _all(self, portion: list[Request]) -> None:
        """Send requests until all have succeeded. Their timestamps stay, so that one done twice is done once."""
        left = portion

        def send() -> None:
            nonlocal left
            results = self._run(left)
            failed = [(request, result) for request, result in zip(left, results, strict=True) if isinstance(result, Exception)]
            left = [request for request, _ in failed]
            for _, error in failed:
                if not is_transient(error):
                    raise error
            if failed:
                raise failed[0][1]

        self._retried(send)

    def _run(self, portion: Sequence[Request], *, conditional: bool = False) -> list[Any]:
        """What came of each request: its rows, or its error."""
        session = self._connection.session()
        statements = [(self._statement(request, conditional=conditional), None) for request in portion]
        done = execute_concurrent(session, statements, concurrency=self._options.in_flight, raise_on_first_error=False)
        return [result if not success else list(result) for success, result in done]

    def _statement(self, request: Request, *, conditional: bool) -> Any:
        bound = [self._prepared(write.text).bind(write.parameters) for write in request]
        if len(bound) == 1 and not conditional:
            return bound[0]
        # All of a request is for one partition: no log of batches is needed for it to be done whole.
        batch = BatchStatement(BatchType.UNLOGGED)
        batch.is_idempotent = not conditional
        for statement in bound:
            batch.add(statement)
        return batch

    def _prepare(self, text: str) -> Any:
        prepared = self._connection.session().prepare(text)
        prepared.is_idempotent = True
        return prepared

    def _retried(self, act: Callable[[], Any]) -> None:
        for attempt in stamina.retry_context(
            on=is_transient, attempts=None, timeout=self._options.retry, wait_initial=0.05, wait_max=2.0
        ):
            with attempt:
                act()


def _portions(made: Iterable[Request]) -> Iterator[list[Request]]:
    iterator = iter(made)
    while portion := list(islice(iterator, _PORTION)):
        yield portion
