"""Requests that are about the server, or about whole queues."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.servers.kestrel.server import Server

#: Given the server and the words after the command, the lines of the answer.
Command = Callable[["Server", list[str]], Iterable[str]]


class Refused(Exception):
    """The client is told this and disconnected."""


def _delete(server: Server, words: list[str]) -> Iterable[str]:
    server.check_writes()
    server.queues.delete(words[0])
    return ("DELETED",)


def _flush(server: Server, words: list[str]) -> Iterable[str]:
    server.check_writes()
    if queue := server.queues.find(words[0]):
        queue.flush()
    return ("END",)


def _flush_all(server: Server, _: list[str]) -> Iterable[str]:
    server.check_writes()
    for name, _queue in tuple(server.queues):
        server.queues.queue(name).flush()
    return ("Flushed all queues.",)


def _stats(server: Server, _: list[str]) -> Iterable[str]:
    return (*(f"STAT {name} {value}" for name, value in server.stats().items()), "END")


def _status(server: Server, words: list[str]) -> Iterable[str]:
    if words:
        server.set_status(words[0])
        return ("END",)
    return (server.status.upper(),)


def _version(server: Server, _: list[str]) -> Iterable[str]:
    return (f"VERSION {server.version}",)


COMMANDS: Final[Mapping[str, Command]] = {
    "delete": _delete,
    "flush": _flush,
    "flush_all": _flush_all,
    "stats": _stats,
    "status": _status,
    "version": _version,
}
