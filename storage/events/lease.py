"""Being the only one on a file system of several machines: a lease that is renewed, taken over when it has expired, and fenced.

A directory, the lock, holds one empty file, whose name says who has the lease since which renewal, or that it is free.
Every change of hands and every renewal is a rename of that file from the name that was seen, which only one can do: who finds
another name has lost the lease, and learns it. How old the name is, the file system's clock tells by the directory's time.

A holder that was held up for so long that another has its place may still act. So the place in which it prepares what it is about
to put in place has its key for a name, `Lease.check` is asked when all is prepared, and who takes over takes that place away
before anything else: what comes later than the check finds nothing to move.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import threading
import uuid
from pathlib import Path
from typing import Final

from storage.errors import StoreError, StoreRefused, StoreUnavailable
from storage.files.webhdfs import WebHdfs

_FREE: Final = "free"
_ASIDE: Final = ".staging"
_SEPARATOR: Final = "@"
#: How often others may be faster before that is an error.
_ATTEMPTS: Final = 20
#: Renewals within the time in which it expires.
_RENEWALS: Final = 4


class Lease:
    """The lease in the directory ``lock`` of ``system``; it expires ``seconds`` after its last renewal."""

    def __init__(self, system: WebHdfs, lock: str, seconds: float) -> None:
        self._system = system
        self._lock = lock
        self._seconds = seconds
        self._key = _SEPARATOR.join((uuid.uuid4().hex, _machine(), _process(os.getpid()), socket.gethostname()))
        self._done = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="lease", daemon=True)

    def take(self) -> str:
        """Take the lease and renew it from now on; returns its key. Raises `StoreRefused` when another has it."""
        for _ in range(_ATTEMPTS):
            held = _holder(self._system, self._lock)
            if held not in ("", _FREE) and not _ended(held):
                self._refuse_unless_expired(held)
            # Of a rename whose answer was lost, only the name that is there now tells what became of it.
            if self._moved(held) and holds(self._system, self._lock, self._key):
                self._keeper.start()
                return self._key
        raise StoreRefused(
            f"{self._system.url}: {self._lock} cannot be taken", remedy=f"if no job is changing these events, remove {self._lock}"
        )

    def give_up(self) -> None:
        """Let others have it. What cannot be told them expires."""
        self._done.set()
        self._keeper.join()
        with contextlib.suppress(StoreError):
            if _is_of(held := _holder(self._system, self._lock), self._key):
                self._moved(held, _FREE)

    def _moved(self, held: str, to: str = "") -> bool:
        """Whether the lease has gone from the name ``held``, empty for a lock that is not there yet, to us."""
        new = to or f"{self._key}{_SEPARATOR}{uuid.uuid4().hex[:8]}"
        if held:
            try:
                return self._system.rename(f"{self._lock}/{held}", f"{self._lock}/{new}", parents=False)
            except FileNotFoundError:
                return False
        made = f"{_ASIDE}/{uuid.uuid4().hex}"
        self._system.create(f"{made}/{new}", b"")
        if moved := self._system.rename(made, self._lock):
            return moved
        self._system.delete(made)
        return False

    def _refuse_unless_expired(self, held: str) -> None:
        clock = f"{_ASIDE}/{uuid.uuid4().hex}"
        self._system.create(clock, b"")
        try:
            left = self._seconds - (self._system.modified(clock) - self._system.modified(self._lock))
        except FileNotFoundError:
            return  # There is nothing to take over any more.
        finally:
            self._system.delete(clock)
        if left >= 0:
            _, _, process, host, _ = held.split(_SEPARATOR)
            raise StoreRefused(
                f"{self._system.url}: another job is changing these events: process {process.partition('.')[0]} on {host}",
                remedy=f"wait for it; if it is dead, {left + 1:.0f} s",
            )

    def _keep(self) -> None:
        while not self._done.wait(self._seconds / _RENEWALS):
            with contextlib.suppress(StoreUnavailable):
                held = _holder(self._system, self._lock)
                if not _is_of(held, self._key):
                    return  # Lost: the next check says so.
                self._moved(held)


def holds(system: WebHdfs, lock: str, key: str) -> bool:
    return _is_of(_holder(system, lock), key)


def _holder(system: WebHdfs, lock: str) -> str:
    """The name in the lock; empty where there is no lock."""
    return next(iter(system.names(lock)), "")


def _is_of(held: str, key: str) -> bool:
    return held.startswith(key + _SEPARATOR)


def _ended(held: str) -> bool:
    """Whether the process that holds it ran on this machine and does not any more."""
    _, machine, process, _, _ = held.split(_SEPARATOR)
    return machine == _machine() != "" and process != _process(int(process.partition(".")[0]))


def _machine() -> str:
    """What tells this system, since it was started, and its processes' numbers from all others; empty where that is not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes()
        return hashlib.sha256(boot + bytes(Path("/proc/self/ns/pid").readlink())).hexdigest()[:16]
    except OSError:
        return ""


def _process(number: int) -> str:
    """A process by its number and when it was started (proc(5), ``stat``, field 22), as numbers are used again."""
    try:
        text = Path(f"/proc/{number}/stat").read_text()
    except OSError:
        return f"{number}."
    # The second field may hold anything, spaces and brackets too.
    state, *fields = text.rpartition(")")[2].split()
    return f"{number}." if state == "Z" else f"{number}.{fields[18]}"
