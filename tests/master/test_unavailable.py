"""A client comes back to a master that cannot answer now, as to one that is away, and within the time it was given."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice

import msgspec
import pytest

from master import views
from master.client import Client, CommandPending, MasterRefused, MasterUnavailable, SentCommand
from master.client.http import Http


class Stub(ThreadingHTTPServer):
    """Answers with these, one after the other; with the last one again and again."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[tuple[int, bytes]] = []
        self.asked = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Stub

    def do_GET(self) -> None:
        status, body = self.server.answers[min(self.server.asked, len(self.server.answers) - 1)]
        self.server.asked += 1
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _command(*, deadline: int = 30_000_000) -> views.Command:
    """Issued in 1970: its master's clock is its own."""
    return views.Command("id", "g", "d", "stop", {}, "me", 1, 1 + deadline, "issued", 1, "", final=False)


_DONE = msgspec.json.encode([views.CommandState(1, "id", "g", "d", "done", 1, "", final=True)])


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_master_that_cannot_answer_now_is_asked_again(stub: Stub, status: int) -> None:
    told = msgspec.json.encode(views.Problem("x", status, "busy"))
    stub.answers = [(status, b"<html>a proxy</html>"), (status, told), (200, b"[]")]
    with Client(stub.url) as client:
        assert client.sites() == []
    assert stub.asked == 3


def test_one_that_never_can_is_unavailable_and_says_why(stub: Stub) -> None:
    stub.answers = [(503, msgspec.json.encode(views.Problem("x", 503, "500 clients watch already", "come later")))]
    with Client(stub.url) as client, pytest.raises(MasterUnavailable, match="500 clients watch already") as caught:
        client.sites()
    assert caught.value.remedy == "come later"
    assert stub.asked == 4


def test_what_is_refused_for_good_is_asked_once(stub: Stub) -> None:
    stub.answers = [(404, b"")]
    with Client(stub.url) as client, pytest.raises(MasterRefused):
        client.sites()
    assert stub.asked == 1


def test_a_watcher_comes_back_to_a_master_that_has_too_many(stub: Stub) -> None:
    ready, reset = b"event: ready\nid: 7\ndata: {}\n\n", b"event: reset\nid: 9\ndata: {}\n\n"
    stub.answers = [(503, b""), (200, ready), (502, b""), (200, reset)]
    with Client(stub.url) as client:
        assert [(one.kind, one.number) for one in islice(client.watch(), 2)] == [("ready", 7), ("reset", 9)]


def test_the_steps_of_a_command_are_waited_for_while_the_master_cannot_tell_them(stub: Stub) -> None:
    stub.answers = [*([(503, b"")] * 5), (200, _DONE)]
    assert [one.state for one in SentCommand(Http(stub.url, None), _command()).states()] == ["done"]


def test_no_attempt_is_begun_after_the_time_given(stub: Stub) -> None:
    stub.answers = [(503, b"")]
    began = time.monotonic()
    with pytest.raises(CommandPending):
        list(SentCommand(Http(stub.url, None), _command()).states(timeout=0.2))
    assert time.monotonic() - began < 1.0


def test_how_long_a_command_is_waited_for_does_not_depend_on_this_machines_date(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline lies in 1970 for this machine: more than the ten seconds that follow it are left."""
    sent = SentCommand(Http(stub.url, None), _command())
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 20.0)
    stub.answers = [(200, _DONE)]
    assert [one.state for one in sent.states()] == ["done"]
