"""A submitted job until its end: signals, draining, a runner that dies."""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import grpc

from pipelines.closing import let_go
from pipelines.session import Session
from pipelines.signals import Signals
from pipelines.sources.relayed import Relays
from pipelines.status import Status
from schemas.errors import IoTCloudError
from telemetry.logs import logger

_LOOK_SECONDS: Final = 0.05
#: How long what was read before a drain may take to get through the sinks.
_SETTLE_SECONDS: Final = 60.0
#: How long nothing may change before a drained job counts as settled.
_STILL_SECONDS: Final = 0.6
_CANCEL_SECONDS: Final = 10.0
_AGAIN: Final = "start the job again: with --state it resumes where it was"


class JobFailed(IoTCloudError):
    """A running job ended because of an error."""


class _Waiter(threading.Thread):
    """Waits for the end of a job; asking twice may hang, so it is done once, here."""

    def __init__(self, result: Any) -> None:
        super().__init__(name="job", daemon=True)
        self._result = result
        self.state = ""
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.state = str(self._result.wait_until_finish())
        except Exception as error:  # noqa: BLE001  (Beam raises RuntimeError, grpc its own)
            self.error = error


def submit(pipeline: Any, runner: subprocess.Popen[bytes] | None, signals: Signals) -> Any:
    """Submit a job and return its result.

    Raises `JobFailed` when the runner dies meanwhile, for a call to it would wait for ever; and at the second signal.
    """
    submitting = _Submission(pipeline)
    submitting.start()
    while submitting.is_alive():
        submitting.join(_LOOK_SECONDS)
        if submitting.is_alive() and runner is not None and runner.poll() is not None:
            raise JobFailed(f"the runner ended with {runner.returncode} while the job was starting", remedy=_AGAIN)
        if signals.received > 1:
            raise JobFailed("interrupted while the job was starting", remedy=_AGAIN)
    if submitting.error is not None:
        raise submitting.error
    return submitting.result


class _Submission(threading.Thread):
    def __init__(self, pipeline: Any) -> None:
        super().__init__(name="submit", daemon=True)
        self._pipeline = pipeline
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.result = self._pipeline.run()
        except BaseException as error:  # noqa: BLE001  (raised again where it was asked for)
            self.error = error


def run_to_end(
    result: Any,
    session: Session,
    relays: Relays,
    status: Status,
    signals: Signals,
    *,
    runner: subprocess.Popen[bytes] | None,
    close_on_drain: bool,
) -> None:
    """Return when the job has ended as it should: by itself, drained, or cancelled by a second signal.

    Raises `JobFailed` when one of its functions failed, or its runner died, and what has ended a relay.
    """
    waiter = _Waiter(result)
    waiter.start()
    status.phase = "running"
    while waiter.is_alive():
        waiter.join(_LOOK_SECONDS)
        if runner is not None and runner.poll() is not None:
            raise JobFailed(
                f"the runner ended with {runner.returncode} while the job was running",
                remedy=_AGAIN,
            )
        relays.check()
        if signals.received:
            _drain(result, waiter, session, relays, status, signals, close=close_on_drain)
            return
    _check(waiter)
    status.phase = "done"


def _drain(
    result: Any, waiter: _Waiter, session: Session, relays: Relays, status: Status, signals: Signals, *, close: bool
) -> None:
    status.phase = "draining"
    logger("pipeline").info("draining", close_windows=close)
    if close:
        relays.finish()
        while not relays.finished and waiter.is_alive() and signals.received < 2:
            waiter.join(_LOOK_SECONDS)
        relays.check()
        session.closing.set()
        while waiter.is_alive() and signals.received < 2:
            waiter.join(_LOOK_SECONDS)
        if not waiter.is_alive():
            _check(waiter)
            status.phase = "done"
            return
    else:
        let_go("relays", relays.close, signals)
        session.stopping.set()
        _settle(
            waiter,
            lambda: (
                session.credit.used + session.writing.value + len(session.unarchived),
                session.counts.watermark,
                session.counts.job(),
                session.counts.topics(),
            ),
            signals,
        )
        _check(waiter)
    status.phase = "cancelled" if signals.received > 1 else "stopped"
    with _quiet_grpc():
        result.cancel()
    waiter.join(_CANCEL_SECONDS)


def _settle(waiter: _Waiter, look: Callable[[], Any], signals: Signals) -> None:
    """Wait until what was read has gone through: nothing changes any more."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    seen, since = look(), time.monotonic()
    while waiter.is_alive() and signals.received < 2 and time.monotonic() < deadline:
        waiter.join(_LOOK_SECONDS)
        now = look()
        if now != seen:
            seen, since = now, time.monotonic()
        elif now[0] == 0 and time.monotonic() - since > _STILL_SECONDS:
            return


def _check(waiter: _Waiter) -> None:
    if waiter.is_alive():
        return
    if isinstance(waiter.error, grpc.Call):
        # The connection may break before the process can be seen to have ended.
        raise JobFailed(f"the runner was lost while the job was running: {waiter.error.details()}", remedy=_AGAIN)
    if waiter.error is not None:
        raise JobFailed(f"the job failed: {waiter.error}") from waiter.error
    if waiter.state not in ("DONE", "CANCELLED", "DRAINED"):
        raise JobFailed(f"the job ended as {waiter.state}")


@contextmanager
def _quiet_grpc() -> Iterator[None]:
    try:
        yield
    except (grpc.RpcError, RuntimeError) as error:
        logger("pipeline").debug("cancelling", reason=str(error))


@contextmanager
def quiet_workers() -> Iterator[None]:
    """Beam's worker threads lose their connections when the runner goes; that is no error to show."""
    before = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if not isinstance(arguments.exc_value, grpc.RpcError):
            before(arguments)

    level = logging.getLogger("apache_beam").level
    threading.excepthook = hook
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    logging.getLogger().addFilter(_is_shown)
    try:
        yield
    finally:
        # The threads are daemons and outlive this; the hook stays for them.
        logging.getLogger("apache_beam").setLevel(level)
        logging.getLogger().removeFilter(_is_shown)


def _is_shown(record: logging.LogRecord) -> bool:
    return "apitools not found" not in record.getMessage()
