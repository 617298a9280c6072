"""One client's connection: its requests, one after the other, and the reads it has open."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from tests.servers.kestrel.administration import COMMANDS, Command, Refused
from tests.servers.kestrel.queues import Item, Queue, now

if TYPE_CHECKING:
    from tests.servers.kestrel.server import Server

_LONGEST_LINE: Final = 2048
_LONGEST_ITEM: Final = 256 << 20
#: A client that sends on while it waits is not read from beyond this many bytes.
_READ_AHEAD: Final = 4 << 20
#: Bytes of answers that are not sent yet, beyond which they are: a client takes them in while the next are looked for.
_MOST_ANSWERS: Final = 32 << 10
#: Expiries below this are seconds from now, others seconds since 1970.
_RELATIVE: Final = 1_000_000


@dataclass
class Wanted:
    """What a GET or MONITOR asked for, as long as it is not answered in full."""

    name: str
    queue: Queue
    opening: bool
    peeking: bool
    #: Items that may still be sent.
    left: int
    #: A monitor ends with an END of its own.
    monitor: bool = False


class Session(asyncio.Protocol):
    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._at = 0
        self._set: tuple[str, int, int] | None = None
        self._answers: list[bytes] = []
        self._answer_bytes = 0
        self._waiting: Wanted | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._reads: dict[str, deque[int]] = {}
        self._ended = False
        self._full = False
        self._commands: dict[str, Callable[[list[str]], None]] = {
            "get": self._get,
            "gets": self._get,
            "set": self._begin_set,
            "monitor": self._monitor,
            "confirm": self._confirm,
            "quit": self._quit,
            **{name: partial(self._administer, command=command) for name, command in COMMANDS.items()},
        }

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.count("curr_connections")
        self._server.count("total_connections")

    def data_received(self, data: bytes) -> None:
        self._server.count("bytes_read", len(data))
        self._buffer += data
        self._go_on()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._transport = None
        self._stop_waiting()
        self._server.count("curr_connections", -1)
        # First opened, first put back at the head: several come back in reverse, as from the published server.
        for name, numbers in self._reads.items():
            if queue := self._server.queues.find(name):
                for number in numbers:
                    queue.put_back(number)
        self._reads.clear()
        self._server.settle()

    # What the server and its queues call.

    def send_answers(self) -> None:
        if self._transport is None:
            return
        data = b"".join(self._answers)
        self._answers.clear()
        self._answer_bytes = 0
        self._server.count("bytes_written", len(data))
        self._transport.write(data)
        if self._ended:
            self._transport.close()

    def wake(self) -> None:
        """See `queues.Waiter`."""
        wanted = self._waiting
        assert wanted is not None
        del wanted.queue.waiters[self]
        if wanted.queue.deleted:
            self._answer("END")
        elif not self._serve(wanted):
            wanted.queue.waiters[self] = None
            return
        self._stop_waiting()
        self._loop.call_soon(self._go_on)

    # Requests.

    def _go_on(self) -> None:
        """Do what has been asked for, up to a request that waits."""
        try:
            while not (self._waiting or self._full or self._ended) and self._step():
                if self._answer_bytes > _MOST_ANSWERS:
                    self._server.settle()
        except (Refused, ValueError, IndexError) as error:
            self._answer(str(error) if isinstance(error, Refused) else f"CLIENT_ERROR {error}")
            self._ended = True
        if self._at:
            del self._buffer[: self._at]
            self._at = 0
        self._server.settle()
        if self._transport is not None and not self._transport.is_closing():
            held = self._full or (self._waiting is not None and len(self._buffer) > _READ_AHEAD)
            if held and self._transport.is_reading():
                self._transport.pause_reading()
            elif not held and not self._transport.is_reading():
                self._transport.resume_reading()

    def _step(self) -> bool:
        """Whether there was a whole request, or a whole part of one."""
        if self._set is not None:
            return self._finish_set(*self._set)
        end = self._buffer.find(b"\n", self._at)
        if end < 0:
            if len(self._buffer) - self._at > _LONGEST_LINE:
                raise Refused("CLIENT_ERROR the line is too long")
            return False
        words = self._buffer[self._at : end].decode("latin-1").split()
        self._at = end + 1
        command = self._commands.get(words[0].lower()) if words else None
        if command is None:
            raise Refused("CLIENT_ERROR")
        command(words[1:])
        return True

    def _begin_set(self, words: list[str]) -> None:
        name, _flags, expiry, length = words[0], int(words[1]), int(words[2]), int(words[3])
        if not 0 <= length <= _LONGEST_ITEM or expiry < 0:
            raise Refused("CLIENT_ERROR")
        self._server.check_writes()
        at = 0 if expiry == 0 else now() + 1000 * expiry if expiry < _RELATIVE else 1000 * expiry
        self._set = (name, at, length)

    def _finish_set(self, name: str, expiry: int, length: int) -> bool:
        after = self._at + length + 2
        if len(self._buffer) < after:
            return False
        data = bytes(memoryview(self._buffer)[self._at : after - 2])
        self._at = after
        self._set = None
        self._server.count("cmd_set")
        stored = self._server.queues.add(name, data, expiry)
        if stored:
            self._server.count("total_items")
        self._answer("STORED" if stored else "NOT_STORED")
        return True

    def _get(self, words: list[str]) -> None:
        name, *options = words[0].split("/")
        opening, closing, aborting, peeking = (option in options for option in ("open", "close", "abort", "peek"))
        waits = [int(option[2:]) for option in options if option.startswith("t=")]
        if not name or ((peeking or aborting) and (opening or closing)) or (peeking and aborting):
            raise Refused("CLIENT_ERROR")
        if aborting:
            if number := self._pop_read(name):
                self._server.queues.queue(name).put_back(number)
            self._answer("END")
            return
        if closing and (number := self._pop_read(name)):
            self._server.queues.queue(name).confirm(number)
        if closing and not opening:
            self._answer("END")
            return
        self._server.check_reads()
        open_reads = len(self._reads.get(name, ()))
        if (opening and open_reads >= self._server.max_open_reads) or (open_reads and not opening and not peeking):
            raise Refused("ERROR")
        self._server.count("cmd_peek" if peeking else "cmd_get")
        wanted = Wanted(name, self._server.queues.queue(name), opening, peeking, left=1)
        self._want(wanted, waits[-1] / 1000 if waits else 0.0)

    def _monitor(self, words: list[str]) -> None:
        self._server.check_reads()
        most = int(words[2]) if len(words) > 2 else self._server.max_open_reads
        seconds = int(words[1])
        wanted = Wanted(words[0], self._server.queues.queue(words[0]), opening=True, peeking=False, left=most, monitor=True)
        if seconds <= 0:
            wanted.left = 0
        self._want(wanted, seconds)

    def _confirm(self, words: list[str]) -> None:
        name, count = words[0], int(words[1])
        numbers = self._reads.get(name, deque())
        if not 0 < count <= len(numbers):
            self._answer("ERROR")
            return
        queue = self._server.queues.queue(name)
        for _ in range(count):
            queue.confirm(numbers.popleft())
        self._answer("END")

    def _administer(self, words: list[str], command: Command) -> None:
        for line in command(self._server, words):
            self._answer(line)

    def _quit(self, _: list[str]) -> None:
        self._server.answering.add(self)
        self._ended = True

    # Answers.

    def _want(self, wanted: Wanted, seconds: float) -> None:
        """Answer with what there is, or wait for it."""
        if self._serve(wanted):
            return
        if seconds <= 0:
            self._answer("END")
            return
        self._waiting = wanted
        wanted.queue.waiters[self] = None
        self._timer = self._loop.call_later(seconds, self._give_up)

    def _serve(self, wanted: Wanted) -> bool:
        """Answer with what there is. Whether all is answered."""
        while wanted.left and (not wanted.monitor or len(self._reads.get(wanted.name, ())) < self._server.max_open_reads):
            item = self._fetch(wanted)
            if item is None:
                return False
            self._answer(f"VALUE {wanted.name} 0 {len(item.data)}", item.data, "END")
            wanted.left -= 1
        if wanted.monitor:
            self._answer("END")
        return True

    def _fetch(self, wanted: Wanted) -> Item | None:
        queue = wanted.queue
        if wanted.peeking:
            item = queue.peek()
        elif not wanted.opening:
            item = queue.remove()
        else:
            found = queue.remove_tentatively()
            item = found[0] if found else None
            if found:
                self._reads.setdefault(wanted.name, deque()).append(found[1])
        self._server.count("get_hits" if item else "get_misses")
        return item

    def _give_up(self) -> None:
        self._answer("END")
        self._stop_waiting()
        self._go_on()

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.queue.waiters.pop(self, None)
            self._waiting = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pop_read(self, name: str) -> int | None:
        numbers = self._reads.get(name)
        return numbers.popleft() if numbers else None

    def _answer(self, *lines: str | bytes) -> None:
        for line in lines:
            data = line.encode("latin-1") if isinstance(line, str) else line
            self._answers += (data, b"\r\n")
            self._answer_bytes += len(data) + 2
        self._server.answering.add(self)
