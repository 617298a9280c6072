"""The tests' own Kestrel server speaks as the published guide says, and keeps what it has said it stored."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.servers.kestrel import KestrelServer
from tests.servers.kestrel.journal import Entry, Journal, Operation
from tests.servers.kestrel.queues import Queue, Settings
from tests.servers.process import ServerFailed

PATIENCE = 20.0
Start = Callable[..., KestrelServer]


class Wire:
    """A client that says exactly what it is told."""

    def __init__(self, server: KestrelServer) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
        self._file = self._socket.makefile("rb")

    def send(self, *requests: str | bytes) -> None:
        self._socket.sendall(b"".join(r.encode() + b"\r\n" if isinstance(r, str) else r for r in requests))

    def line(self) -> str:
        """The next line; empty when the server has hung up."""
        line = self._file.readline()
        assert not line or line.endswith(b"\r\n")
        return line[:-2].decode()

    def item(self) -> bytes | None:
        """The next item, or None for END."""
        line = self.line()
        if line == "END":
            return None
        assert line.startswith("VALUE "), line
        data = self._file.read(int(line.split()[3]))
        assert self._file.read(7) == b"\r\nEND\r\n"
        return bytes(data)

    def ask(self, request: str) -> str:
        self.send(request)
        return self.line()

    def put(self, queue: str, *items: bytes, expiry: int = 0) -> list[str]:
        self.send(*(b"set %b 0 %d %d\r\n%b\r\n" % (queue.encode(), expiry, len(item), item) for item in items))
        return [self.line() for _ in items]

    def get(self, request: str) -> bytes | None:
        self.send(f"get {request}")
        return self.item()

    def all(self, queue: str) -> list[bytes]:
        found = []
        while (item := self.get(queue)) is not None:
            found.append(item)
        return found

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts servers, each in the directory of this test."""
    started: list[KestrelServer] = []

    def start(*arguments: str) -> KestrelServer:
        server = KestrelServer(tmp_path, *arguments)
        started.append(server)
        server.process.start()
        return server

    yield start
    for server in started:
        server.process.stop()
        server.proxy.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KestrelServer]:
    """One for all tests that need nothing particular."""
    server = KestrelServer(tmp_path_factory.mktemp("kestrel"), "--max-open-reads", "3")
    server.process.start()
    yield server
    server.process.stop()
    server.proxy.close()


@pytest.fixture
def wire(server: KestrelServer) -> Iterator[Wire]:
    with closing(Wire(server)) as wire:
        wire.ask("flush_all")
        yield wire


@pytest.fixture
def other(server: KestrelServer) -> Iterator[Wire]:
    with closing(Wire(server)) as wire:
        yield wire


def eventually(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class TestQueues:
    def test_first_in_first_out_whatever_the_bytes(self, wire: Wire) -> None:
        items = [b"", b"\r\n", b"VALUE q 0 1\r\nEND\r\n", bytes(range(256)), bytes(300_000)]
        assert wire.put("q", *items) == ["STORED"] * len(items)
        assert wire.all("q") == items
        assert wire.get("q") is None

    def test_many_requests_at_once_are_answered_in_order(self, wire: Wire) -> None:
        assert wire.put("q", *(b"%d" % number for number in range(5_000))) == ["STORED"] * 5_000
        wire.send(*["get q"] * 5_001)
        assert [wire.item() for _ in range(5_001)] == [*(b"%d" % number for number in range(5_000)), None]

    def test_peek_leaves_the_item(self, wire: Wire) -> None:
        wire.put("q", b"1", b"2")
        assert [wire.get("q/peek"), wire.get("q/peek"), wire.get("q"), wire.get("q/peek")] == [b"1", b"1", b"1", b"2"]

    def test_flush_and_delete(self, wire: Wire) -> None:
        wire.put("q", b"1")
        assert wire.ask("FLUSH q") == "END"
        assert wire.get("q") is None
        wire.put("q", b"2")
        wire.put("r", b"3")
        assert wire.ask("flush_all") == "Flushed all queues."
        assert wire.all("q") + wire.all("r") == []
        wire.put("q", b"4")
        assert wire.ask("delete q") == "DELETED"
        assert wire.ask("delete never") == "DELETED"
        assert wire.get("q") is None

    def test_items_expire(self, wire: Wire) -> None:
        now = int(time.time())
        wire.put("q", b"long ago", expiry=now - 5)
        wire.put("q", b"in an hour", expiry=3600)
        wire.put("q", b"at some time", expiry=now + 3600)
        wire.put("q", b"never")
        assert wire.all("q") == [b"in an hour", b"at some time", b"never"]
        wire.put("q", b"soon", expiry=1)
        eventually(lambda: wire.get("q/peek") is None)

    def test_version_and_stats(self, wire: Wire) -> None:
        assert "tests" in wire.ask("version")
        wire.put("stats", b"12345", b"6")
        wire.get("stats/open")
        wire.send("stats")
        stats = dict(line.split()[1:] for line in iter(wire.line, "END"))
        assert [stats[f"queue_stats_{name}"] for name in ("items", "bytes", "open_transactions")] == ["1", "1", "1"]
        assert int(stats["cmd_set"]) >= 2

    def test_quit_hangs_up(self, wire: Wire) -> None:
        assert wire.ask("quit") == ""

    @pytest.mark.parametrize(
        "request_",
        [
            *("nonsense", "get a.b", "get ~a", "get /open", "get q/peek/open", "get q/abort/close", "get q/t=x"),
            *("confirm q x", "set q", "set q 0 0 -1", "set q 0 0 x", "x" * 5000),
        ],
    )
    def test_what_is_no_request_is_told_so(self, wire: Wire, request_: str) -> None:
        assert wire.ask(request_).startswith("CLIENT_ERROR")
        assert wire.line() == ""

    def test_options_that_it_does_not_know_are_left_out(self, wire: Wire) -> None:
        wire.put("q", b"1")
        assert wire.get("q/some/option") == b"1"


class TestReliableReads:
    def test_what_is_open_comes_back_when_the_client_goes(self, wire: Wire, other: Wire) -> None:
        other.put("q", b"1", b"2", b"3")
        assert wire.get("q/open") == b"1"
        assert other.get("q/peek") == b"2"
        wire.close()
        eventually(lambda: other.get("q/peek") == b"1")
        assert other.all("q") == [b"1", b"2", b"3"]

    def test_closed_is_gone_and_aborted_is_first_again(self, wire: Wire, other: Wire) -> None:
        other.put("q", b"1", b"2", b"3")
        assert wire.get("q/open") == b"1"
        assert wire.get("q/close/open") == b"2"
        assert wire.get("q/abort") is None
        assert wire.get("q/open") == b"2"
        assert wire.get("q/close") is None
        assert wire.get("q/close") is None
        wire.close()
        assert other.all("q") == [b"3"]

    def test_several_open_at_once_are_confirmed_from_the_first(self, wire: Wire, other: Wire) -> None:
        other.put("q", b"1", b"2", b"3")
        assert [wire.get("q/open") for _ in range(3)] == [b"1", b"2", b"3"]
        assert wire.ask("confirm q 4") == "ERROR"
        assert wire.ask("confirm q 2") == "END"
        wire.close()
        eventually(lambda: other.get("q/peek") == b"3")
        assert other.all("q") == [b"3"]

    def test_several_open_at_once_come_back_in_reverse(self, wire: Wire, other: Wire) -> None:
        """As the published server does it: first opened, first put back at the head."""
        other.put("q", b"1", b"2", b"3", b"4")
        for _ in range(3):
            wire.get("q/open")
        wire.close()
        eventually(lambda: other.get("q/peek") == b"3")
        assert other.all("q") == [b"3", b"2", b"1", b"4"]

    def test_more_than_are_allowed_are_refused(self, wire: Wire, other: Wire) -> None:
        other.put("q", b"1", b"2", b"3", b"4")
        for _ in range(3):
            wire.get("q/open")
        assert wire.ask("get q/open") == "ERROR"
        assert wire.line() == ""
        eventually(lambda: other.get("q/peek") == b"3")

    def test_a_plain_get_beside_an_open_read_is_refused(self, wire: Wire) -> None:
        wire.put("q", b"1", b"2")
        wire.get("q/open")
        assert wire.ask("get q") == "ERROR"
        assert wire.line() == ""

    def test_reads_of_two_queues_are_open_apart(self, wire: Wire) -> None:
        wire.put("q", b"1")
        wire.put("r", b"2")
        assert [wire.get("q/open"), wire.get("r/open")] == [b"1", b"2"]
        assert wire.ask("confirm r 1") == "END"
        assert wire.get("q/abort") is None
        assert [wire.get("q"), wire.get("r")] == [b"1", None]


class TestWaiting:
    def test_an_item_that_comes_ends_the_wait(self, wire: Wire, other: Wire) -> None:
        wire.send(f"get q/t={int(1000 * PATIENCE)}", "version")
        other.put("q", b"1")
        assert wire.item() == b"1"
        assert wire.line().startswith("VERSION")

    def test_nothing_is_told_at_the_end_of_the_wait(self, wire: Wire) -> None:
        assert wire.get("q/t=50") is None
        assert wire.get("q/t=50/open") is None

    def test_who_waited_longest_is_served_first(self, wire: Wire, other: Wire, server: KestrelServer) -> None:
        wire.send("get q/t=20000/open")
        with closing(Wire(server)) as third:
            eventually(lambda: self._waiters(third) == 1)
            other.send("get q/t=20000")
            eventually(lambda: self._waiters(third) == 2)
            third.put("q", b"1", b"2")
        assert [wire.item(), other.item()] == [b"1", b"2"]

    def test_who_went_while_waiting_takes_nothing_along(self, wire: Wire, other: Wire) -> None:
        wire.send("get q/t=20000")
        eventually(lambda: self._waiters(other) == 1)
        wire.close()
        eventually(lambda: self._waiters(other) == 0)
        other.put("q", b"1")
        assert other.get("q") == b"1"

    def test_an_item_put_back_ends_a_wait(self, wire: Wire, other: Wire) -> None:
        wire.put("q", b"1")
        wire.get("q/open")
        other.send("get q/t=20000")
        eventually(lambda: self._waiters(wire) == 1)
        wire.get("q/abort")
        assert other.item() == b"1"

    def test_a_queue_that_is_deleted_ends_its_waits(self, wire: Wire, other: Wire) -> None:
        wire.send("get q/t=20000")
        eventually(lambda: self._waiters(other) == 1)
        other.ask("delete q")
        assert wire.item() is None

    @staticmethod
    def _waiters(wire: Wire) -> int:
        wire.send("stats")
        return int(dict(line.split()[1:] for line in iter(wire.line, "END")).get("queue_q_waiters", 0))


class TestMonitor:
    def test_items_come_as_they_arrive_up_to_their_number(self, wire: Wire, other: Wire) -> None:
        other.put("q", b"1")
        wire.send("monitor q 20 2", "confirm q 2")
        assert wire.item() == b"1"
        other.put("q", b"2", b"3")
        assert [wire.item(), wire.item(), wire.line()] == [b"2", None, "END"]
        assert other.all("q") == [b"3"]

    def test_it_ends_with_its_time(self, wire: Wire) -> None:
        wire.put("q", b"1")
        wire.send("monitor q 1 2")
        assert [wire.item(), wire.item()] == [b"1", None]
        wire.send("monitor q 0 2")
        assert wire.item() is None

    def test_it_opens_no_more_than_are_allowed(self, wire: Wire, other: Wire) -> None:
        other.put("q", *(b"%d" % number for number in range(5)))
        wire.send("monitor q 20 5")
        assert [wire.item() for _ in range(4)] == [b"0", b"1", b"2", None]
        wire.send("monitor q 20 5")
        assert wire.item() is None
        assert wire.ask("confirm q 3") == "END"


class TestFanout:
    def test_children_get_everything_from_when_they_are_named(self, wire: Wire) -> None:
        wire.put("f", b"before")
        assert [wire.get("f+one"), wire.get("f+two")] == [None, None]
        wire.put("f", b"1", b"2")
        wire.put("f+two", b"for two alone")
        assert wire.all("f+one") == [b"1", b"2"]
        assert wire.all("f+two") == [b"1", b"2", b"for two alone"]
        assert wire.all("f") == [b"before", b"1", b"2"]
        wire.ask("delete f+one")
        wire.put("f", b"3")
        assert wire.all("f+two") == [b"3"]
        assert wire.get("f+one") is None

    def test_a_parent_may_keep_nothing(self, start: Start) -> None:
        with closing(Wire(start("--fanout-only"))) as wire:
            wire.get("f+one")
            assert wire.put("f", b"1") == ["STORED"]
            assert wire.put("g", b"1") == ["STORED"]
            assert [wire.all("f"), wire.all("f+one"), wire.all("g")] == [[], [b"1"], []]

    def test_children_are_there_again_after_a_restart(self, start: Start) -> None:
        server = start("--fanout-only")
        with closing(Wire(server)) as wire:
            wire.get("f+one")
        server.process.kill()
        server.process.start()
        with closing(Wire(server)) as wire:
            wire.put("f", b"1")
            assert wire.get("f+one") == b"1"


class TestLimits:
    def test_a_full_queue_takes_nothing(self, start: Start) -> None:
        with closing(Wire(start("--max-items", "2", "--max-item-bytes", "10"))) as wire:
            assert wire.put("q", b"1", bytes(11), b"2", b"3") == ["STORED", "NOT_STORED", "STORED", "NOT_STORED"]
            assert wire.get("q") == b"1"
            assert wire.put("q", b"4") == ["STORED"]

    def test_a_full_queue_may_let_go_of_the_oldest(self, start: Start) -> None:
        with closing(Wire(start("--max-bytes", "10", "--discard-old-when-full"))) as wire:
            assert wire.put("q", *([bytes(4)] * 9), b"last") == ["STORED"] * 10
            assert wire.all("q") == [bytes(4), bytes(4), b"last"]

    def test_read_only_and_quiescent_also_after_a_restart(self, start: Start) -> None:
        server = start()
        with closing(Wire(server)) as wire:
            assert wire.ask("status") == "UP"
            wire.put("q", b"1", b"2")
            assert wire.ask("status ReadOnly") == "END"
        server.process.kill()
        server.process.start()
        with closing(Wire(server)) as wire:
            assert wire.ask("status") == "READONLY"
            assert wire.get("q") == b"1"
            assert wire.put("q", b"3") == ["SERVER_ERROR"]
        with closing(Wire(server)) as wire:
            wire.ask("status quiescent")
            assert wire.ask("get q") == "SERVER_ERROR"


class TestDurability:
    @pytest.mark.parametrize("arguments", [(), ("--sync", "0")])
    def test_what_was_stored_survives_being_killed(self, start: Start, arguments: tuple[str, ...]) -> None:
        server = start(*arguments, "--max-open-reads", "10")
        with closing(Wire(server)) as wire:
            wire.put("q", *(b"%d" % number for number in range(8)))
            assert wire.get("q") == b"0"
            assert [wire.get("q/open") for _ in range(4)] == [b"1", b"2", b"3", b"4"]
            assert wire.ask("confirm q 1") == "END"
            server.process.kill()
        server.process.start()
        with closing(Wire(server)) as wire:
            assert wire.all("q") == [b"%d" % number for number in range(2, 8)], "what was open first is first"

    @pytest.mark.slow
    def test_it_is_killed_again_and_again_while_it_is_written_to(self, start: Start) -> None:
        server = start("--journal-bytes", "20000", "--max-open-reads", "100")
        stored: list[bytes] = []
        taken: list[bytes] = []
        for life in range(5):
            with closing(Wire(server)) as wire:
                for call in range(40):
                    items = [b"%d.%d.%d " % (life, call, number) * 20 for number in range(10)]
                    assert wire.put("q", *items) == ["STORED"] * 10
                    stored += items
                    opened = [wire.get("q/open") for _ in range(9)]
                    assert wire.ask("confirm q 9") == "END"
                    taken += [item for item in opened if item is not None]
                # Those of which it said nothing may be stored or not.
                wire.send(*(b"set q 0 0 4\r\nlost\r\n" for _ in range(500)))
                server.process.kill()
            server.process.start()
        with closing(Wire(server)) as wire:
            left = wire.all("q")
        assert [item for item in taken + left if item != b"lost"] == stored

    def test_its_journal_stays_small_while_the_queue_does(self, start: Start, tmp_path: Path) -> None:
        server = start("--journal-bytes", "100000")
        with closing(Wire(server)) as wire, closing(Wire(server)) as holder:
            wire.put("q", b"stays open")
            assert holder.get("q/open") == b"stays open"
            for _ in range(20):
                wire.put("q", *[bytes(1000)] * 50)
                assert len(wire.all("q")) == 50
                assert (tmp_path / "queues" / "q.journal").stat().st_size < 200_000
            wire.put("q", b"last")
            server.process.kill()
        server.process.start()
        with closing(Wire(server)) as wire:
            assert wire.all("q") == [b"stays open", b"last"]


class TestJournal:
    ENTRIES = (
        Entry(Operation.ADD, 5, b"first"),
        Entry(Operation.OPEN, 1),
        Entry(Operation.ADD, 0, b""),
        Entry(Operation.CONFIRM, 1),
    )

    def test_a_torn_tail_is_cut_off_wherever_it_is_torn(self, tmp_path: Path) -> None:
        path = tmp_path / "journal"
        ends = []
        whole = Journal(path)
        for entry in self.ENTRIES:
            whole.append(*entry)
            ends.append(whole.size)
        whole.write()
        content = path.read_bytes()
        for length in range(len(content) + 1):
            path.write_bytes(content[:length])
            torn = Journal(path)
            kept = [entry for entry, end in zip(self.ENTRIES, ends, strict=True) if end <= length]
            assert torn.replay() == kept
            torn.append(Operation.ADD, 0, b"after")
            torn.write()
            again = Journal(path)
            assert again.replay() == [*kept, Entry(Operation.ADD, 0, b"after")]
            torn.close()
            again.close()
        whole.close()

    def test_a_damaged_byte_ends_it(self, tmp_path: Path) -> None:
        path = tmp_path / "journal"
        journal = Journal(path)
        for entry in self.ENTRIES:
            journal.append(*entry)
        journal.write()
        journal.close()
        content = path.read_bytes()
        for at in range(len(content)):
            path.write_bytes(content[:at] + bytes([content[at] ^ 0x40]) + content[at + 1 :])
            damaged = Journal(path)
            assert damaged.replay() == list(self.ENTRIES)[: len(damaged.replay())]
            assert len(damaged.replay()) < len(self.ENTRIES)
            damaged.close()

    @given(st.lists(st.sampled_from(["add", "remove", "open", "open", "confirm", "back", "flush", "bound"]), max_size=60))
    def test_a_queue_is_made_again_from_its_journal(self, tmp_path_factory: pytest.TempPathFactory, actions: list[str]) -> None:
        path = tmp_path_factory.mktemp("journal") / "q.journal"
        queue = Queue(path, Settings(journal_bytes=200))
        for step, action in enumerate(actions):
            oldest = min(queue.open, default=0)
            if action == "add":
                queue.add(b"%d" % step, 0)
            elif action == "remove":
                queue.remove()
            elif action == "open":
                queue.remove_tentatively()
            elif action == "confirm":
                queue.confirm(oldest)
            elif action == "back":
                queue.put_back(oldest)
            elif action == "flush":
                queue.flush()
            else:
                queue.bound_journal()
            queue.journal.write()
        again = Queue(path, Settings())
        held = [queue.open[number].data for number in sorted(queue.open)]
        assert [item.data for item in again.items] == [*held, *(item.data for item in queue.items)]
        assert again.bytes == sum(len(item.data) for item in again.items)
        queue.journal.close()
        again.journal.close()

    def test_no_two_servers_use_one_directory(self, start: Start, tmp_path: Path) -> None:
        start()
        second = KestrelServer(tmp_path)
        with pytest.raises(ServerFailed, match="in use"):
            second.process.start()
        second.proxy.close()
