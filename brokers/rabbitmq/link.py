"""A connection to a server on a thread of its own, which answers heartbeats however busy or idle its user is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final

import pika  # type: ignore[import-untyped]
from pika.adapters.select_connection import IOLoop  # type: ignore[import-untyped]
from pika.exceptions import ConnectionOpenAborted  # type: ignore[import-untyped]

from brokers.rabbitmq.failures import LinkFailed

#: Seconds for the farewell to the server.
_FAREWELL: Final = 0.5


class Link:
    """One connection from its opening to its end, after which another link has to be made.

    pika may be used by one thread only: what touches it is run on the link's thread, and its users wait here.
    What they wait for ends with `LinkFailed` as soon as the connection, or a channel they rely on, has ended.
    """

    def __init__(self, parameters: pika.ConnectionParameters) -> None:
        self._parameters = parameters
        self._loop = IOLoop()
        self._connection: Any = None
        self._changed = threading.Condition()
        self._opened = False
        self._given_up = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"amqp-{parameters.host}:{parameters.port}", daemon=True)
        #: Why the server takes no messages for now; empty when it does.
        self.blocked = ""

    @property
    def failed(self) -> bool:
        return self._failure is not None

    def open(self, deadline: float) -> None:
        """Connect. Raises `LinkFailed`, and `TimeoutError` at the deadline (of `time.monotonic`)."""
        self._thread.start()
        self.wait(lambda: self._opened, deadline)

    def channel(self, deadline: float, *, trial: bool = False) -> Channel:
        """A new channel; one for a ``trial`` the server may close without ending the link.

        Raises `LinkFailed` and `TimeoutError`.
        """
        channel = Channel(self, trial=trial)
        self.run(lambda: channel.open(self._connection))
        self.wait(lambda: channel.is_open, deadline)
        return channel

    def run(self, action: Callable[[], object]) -> None:
        """Run ``action`` on the link's thread, soon, after what was given before. An exception in it ends the link."""
        self._loop.add_callback_threadsafe(lambda: self._guarded(action))

    def wait(self, done: Callable[[], bool], deadline: float) -> None:
        """Return when ``done`` holds. Raises `LinkFailed`, and `TimeoutError` at the deadline."""
        with self._changed:
            while not done():
                if self._failure is not None:
                    raise LinkFailed(self._failure)
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"the server has blocked publishing: {self.blocked}" if self.blocked else "")
                self._changed.wait(left)

    def changed(self) -> None:
        """Have all look again who wait."""
        with self._changed:
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """End the link at once, for ``error``; what was not sent yet never will be."""
        self._ended(error)
        self._loop.add_callback_threadsafe(self._abort)

    def close(self) -> None:
        """Say farewell and end, within a second."""
        self._ended(ConnectionOpenAborted("it was closed"))
        self._loop.add_callback_threadsafe(self._leave)
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(2 * _FAREWELL)

    def _run(self) -> None:
        try:
            self._connection = pika.SelectConnection(
                self._parameters,
                on_open_callback=self._on_open,
                on_open_error_callback=self._on_end,
                on_close_callback=self._on_end,
                custom_ioloop=self._loop,
            )
            self._loop.start()
        except Exception as error:  # noqa: BLE001  (whatever pika raises, those who wait have to hear of it)
            self._ended(error)
        self._loop.close()

    def _on_open(self, connection: Any) -> None:
        connection.add_on_connection_blocked_callback(lambda _, frame: self._block(frame.method.reason))
        connection.add_on_connection_unblocked_callback(lambda _, __: self._block(""))
        self._opened = True
        self.changed()

    def _on_end(self, _: Any, error: BaseException) -> None:
        self._ended(error)
        self._loop.stop()

    def _block(self, reason: str) -> None:
        self.blocked = reason
        self.changed()

    def _ended(self, error: BaseException) -> None:
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()

    def _guarded(self, action: Callable[[], object]) -> None:
        if self._failure is not None:
            return
        try:
            action()
        except Exception as error:  # noqa: BLE001  (it would end the thread without a word)
            self.fail(error)

    def _leave(self) -> None:
        if self._connection.is_open:
            self._loop.call_later(_FAREWELL, self._abort)
            self._connection.close()
        else:
            self._abort()

    def _abort(self) -> None:
        if self._connection.is_closed:
            self._loop.stop()
        elif not self._given_up:
            self._given_up = True
            # pika has no public way to give up a connection at once: closing it waits for the server's answer.
            self._connection._terminate_stream(ConnectionOpenAborted("given up"))  # noqa: SLF001


class Channel:
    """A channel of a link. When the server closes it, the link has failed, unless the channel is for a trial."""

    def __init__(self, link: Link, *, trial: bool) -> None:
        self.link = link
        #: pika's channel, for use on the link's thread.
        self.raw: Any = None
        self.is_open = False
        self._trial = trial
        self._failure: BaseException | None = None

    def open(self, connection: Any) -> None:
        """On the link's thread."""
        self.raw = connection.channel(on_open_callback=self._on_open)
        self.raw.add_on_close_callback(self._on_close)

    def ask(self, method: str, deadline: float, **arguments: Any) -> Any:
        """The server's answer to a method of pika's channel. Raises `LinkFailed` and `TimeoutError`."""
        answers: list[Any] = []

        def answered(frame: Any) -> None:
            answers.append(frame.method)
            self.link.changed()

        self.link.run(lambda: getattr(self.raw, method)(**arguments, callback=answered))
        self.link.wait(lambda: bool(answers) or self._failure is not None, deadline)
        if self._failure is not None:
            raise LinkFailed(self._failure)
        return answers[0]

    def close(self) -> None:
        """Forget one for a trial; the server is told."""
        self.link.run(lambda: self.raw.is_open and self.raw.close())

    def _on_open(self, _: Any) -> None:
        self.is_open = True
        self.link.changed()

    def _on_close(self, _: Any, error: BaseException) -> None:
        self._failure = error
        if self._trial:
            self.link.changed()
        elif not self.link.failed:
            self.link.fail(error)
