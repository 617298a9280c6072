"""What sinks promise whose store is a server: it dies, is cut off, falls silent, is not there, does not let one in.

A test module sets `SERVER` to the name of a folder of `tests.servers`, beside `SinkContract`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Protocol

import pytest

from storage import StoreRefused, StoreUnavailable, open_sink
from tests.servers.ports import free_port
from tests.servers.process import ServerProcess
from tests.servers.proxy import TcpProxy
from tests.storage.rows import aggregates, gaps, latest

PATIENCE = 120.0
BATCHES = 40


class StoreServer(Protocol):
    """A store's server, with a proxy before it."""

    process: ServerProcess
    proxy: TcpProxy
    #: Options of a URL with which a sink notices quickly that nothing comes, and then gives up.
    impatient: dict[str, str]

    def url(self, **options: str) -> str: ...

    def proxied_url(self, **options: str) -> str: ...

    def wrong_password_url(self) -> str: ...


class StoreServerContract:
    """Beside `SinkContract`, whose `rows` it reads with. ``place``: the options of a URL that lead to the test's own tables."""

    #: Of a batch. Fewer where making a row durable takes the server longer.
    ROWS = 500

    @pytest.fixture
    def server(self) -> StoreServer:
        raise NotImplementedError

    @pytest.fixture
    def place(self) -> dict[str, str]:
        raise NotImplementedError

    @pytest.fixture
    def untouched(self, place: dict[str, str]) -> dict[str, str]:
        """As ``place``, of a place where there are no tables yet."""
        return place

    def rows(self, url: str, table: str) -> list[dict[str, Any]]:
        raise NotImplementedError

    @pytest.mark.slow
    def test_a_server_killed_while_it_is_written_to_has_everything_once_in_the_end(
        self, server: StoreServer, place: dict[str, str], url: str
    ) -> None:
        with writing(server.url(**place), self.ROWS) as progress:
            progress.wait_for(BATCHES // 4)
            server.process.kill()
            server.process.start()
            progress.wait_for(BATCHES // 2)
            server.process.kill()
            server.process.start()
        self.check_all(url)

    @pytest.mark.slow
    def test_a_network_cut_while_rows_are_written_loses_and_doubles_nothing(
        self, server: StoreServer, place: dict[str, str], url: str
    ) -> None:
        with writing(server.proxied_url(**place), self.ROWS) as progress:
            for part in (1, 2, 3):
                progress.wait_for(part * BATCHES // 4)
                server.proxy.cut()
                assert not progress.moved_within(1.0, beyond=1), "written through a network that is cut"
                server.proxy.restore()
        self.check_all(url)

    @pytest.mark.slow
    def test_a_server_that_falls_silent_is_given_up_and_taken_up_again(
        self, server: StoreServer, place: dict[str, str], url: str
    ) -> None:
        with closing(open_sink(server.proxied_url(**place, **server.impatient))) as sink:
            sink.write("aggregates", aggregates(5))
            server.proxy.hang()
            with pytest.raises(StoreUnavailable) as caught:
                sink.write("aggregates", aggregates(5, first=5))
            assert caught.value.remedy
            with pytest.raises(StoreUnavailable):
                sink.check()
            server.proxy.restore()
            sink.write("aggregates", aggregates(5, first=5))
            sink.check()
        assert len(self.rows(url, "aggregates")) == 10

    @pytest.mark.slow
    def test_a_server_that_is_not_there_is_unavailable_and_says_what_to_do(
        self, server: StoreServer, place: dict[str, str]
    ) -> None:
        url = server.proxied_url(**place, **server.impatient).replace(str(server.proxy.port), str(free_port()))
        with closing(open_sink(url)) as sink:
            for act in (sink.check, lambda: sink.write("aggregates", aggregates(1))):
                with pytest.raises(StoreUnavailable) as caught:
                    act()
                assert caught.value.remedy
                assert sink.url in str(caught.value)

    @pytest.mark.slow
    def test_a_server_that_starts_late_is_waited_for(self, server: StoreServer, place: dict[str, str], url: str) -> None:
        server.process.kill()
        with writing(server.url(**place), self.ROWS) as progress:
            assert not progress.moved_within(0.5, beyond=0), "written to a server that is not there"
            server.process.start()
        self.check_all(url)

    @pytest.mark.slow
    def test_a_wrong_password_is_refused_at_once_and_never_shown(self, server: StoreServer) -> None:
        with closing(open_sink(server.wrong_password_url())) as sink:
            for act in (sink.check, lambda: sink.write("aggregates", aggregates(1))):
                with pytest.raises(StoreRefused) as caught:
                    act()
                assert caught.value.remedy
                assert "wrong-password" not in str(caught.value) + caught.value.remedy

    @pytest.mark.slow
    def test_writers_of_the_same_ranges_leave_each_seq_in_one_row(
        self, server: StoreServer, place: dict[str, str], url: str
    ) -> None:
        def write(worker: int) -> None:
            with closing(open_sink(server.url(**place))) as sink:
                for number in range(10):
                    sink.write("gaps", gaps((number, number + 5 + worker, f"w{worker}"), (100, 120, "open")))

        together(*(lambda worker=worker: write(worker) for worker in range(4)))
        found = self.rows(url, "gaps")
        seqs = [seq for row in found for seq in range(row["first"], row["last"] + 1)]
        # Up to seq 9 + 5 + 3, of the last range of the last writer.
        assert sorted(seqs) == [*range(18), *range(100, 121)]

    @pytest.mark.slow
    def test_processes_that_start_together_make_the_tables_once(self, server: StoreServer, untouched: dict[str, str]) -> None:
        def write(worker: int) -> None:
            with closing(open_sink(server.url(**untouched))) as sink:
                sink.write("aggregates", aggregates(10, first=10 * worker))

        together(*(lambda worker=worker: write(worker) for worker in range(4)))
        assert len(self.rows(server.url(**untouched), "aggregates")) == 40

    @pytest.mark.slow
    def test_of_writers_of_the_latest_value_the_newest_wins_in_any_order(
        self, server: StoreServer, place: dict[str, str], url: str
    ) -> None:
        def write(worker: int) -> None:
            with closing(open_sink(server.url(**place))) as sink:
                for step in range(20):
                    time = (step * 7 + worker) % 20
                    sink.write("latest", latest("a", time, float(100 * time + worker), epoch=1 + worker))

        together(*(lambda worker=worker: write(worker) for worker in range(4)))
        assert [row["value"] for row in self.rows(url, "latest")] == [1_903.0]

    def check_all(self, url: str) -> None:
        """That everything `writing` writes is there, once."""
        found = self.rows(url, "aggregates")
        assert sorted(row["device"] for row in found) == sorted(f"mote-{number}" for number in range(BATCHES * self.ROWS))
        ranges = sorted((row["first"], row["last"], row["state"]) for row in self.rows(url, "gaps"))
        assert ranges == [(10 * batch, 10 * batch + 9, "closed") for batch in range(BATCHES)]
        assert [row["value"] for row in self.rows(url, "latest")] == [float(BATCHES - 1)]


class Progress:
    """How many batches have been written, and by whom that is waited for."""

    def __init__(self) -> None:
        self._done = 0
        self._changed = threading.Condition()
        self.failed: BaseException | None = None

    def step(self, failed: BaseException | None = None) -> None:
        with self._changed:
            self._done += failed is None
            self.failed = failed
            self._changed.notify_all()

    def wait_for(self, batches: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._done >= batches or self.failed, PATIENCE), f"{self._done} of {batches}"
            assert self.failed is None, self.failed

    def moved_within(self, seconds: float, *, beyond: int) -> bool:
        """Whether more than ``beyond`` batches, which may have been on their way, were written within ``seconds``."""
        with self._changed:
            before = self._done
            moved = self._changed.wait_for(lambda: self._done > before + beyond or self.failed is not None, seconds)
            assert self.failed is None, self.failed
            return moved


@contextmanager
def writing(url: str, rows: int) -> Iterator[Progress]:
    """Batches of ``rows`` written while the block runs, each once, as a pipeline does; all of them when it ends."""
    progress = Progress()

    def write() -> None:
        try:
            with closing(open_sink(url)) as sink:
                for batch in range(BATCHES):
                    sink.write("gaps", gaps((10 * batch, 10 * batch + 9, "open")))
                    sink.write("aggregates", aggregates(rows, first=batch * rows))
                    sink.write("gaps", gaps((10 * batch, 10 * batch + 9, "closed")))
                    sink.write("latest", latest("a", batch, float(batch)))
                    progress.step()
        except BaseException as error:
            progress.step(error)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    yield progress
    progress.wait_for(BATCHES)
    thread.join(PATIENCE)


def together(*works: Callable[[], None]) -> None:
    """Run ``works`` at the same time, to their ends; raises what one of them raised."""
    failed: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    if failed:
        raise failed[0]
