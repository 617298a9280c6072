"""The tests' own Kestrel server speaks as the published guide says: queues, their fan-out and their limits."""

from __future__ import annotations

import time
from contextlib import closing

import pytest

from tests.servers.kestrel.wire import Start, Wire, eventually


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
