"""The tests' own Kestrel server speaks as the published guide says: reads that are open, that wait, that go on."""

from __future__ import annotations

from contextlib import closing

from tests.servers.kestrel import KestrelServer
from tests.servers.kestrel.wire import Wire, eventually


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
        wire.send("get q/t=20000", "version")
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
