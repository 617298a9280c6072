"""The tests' own Kestrel server keeps what it has said that it stored."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.servers.kestrel import KestrelServer
from tests.servers.kestrel.journal import Entry, Journal, Operation
from tests.servers.kestrel.queues import Queue, Settings
from tests.servers.kestrel.wire import Start, Wire
from tests.servers.process import ServerFailed


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
