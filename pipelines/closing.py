"""Letting go of what a job has used: whoever is away, it takes no longer than it may."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from pipelines.signals import Signals
from schemas.errors import IoTCloudError
from telemetry.logs import logger

#: Seconds that letting go of one thing may take, and that it has all the same after the second signal.
_MOST_SECONDS: Final = 40.0
_LEAST_SECONDS: Final = 0.5
_LOOK_SECONDS: Final = 0.05


def let_go(name: str, close: Callable[[], object], signals: Signals, *, within: float = _MOST_SECONDS) -> bool:
    """Call ``close`` and wait for its end, at most ``within`` seconds and not beyond the second signal; whether it came.

    What fails in it is a warning: all that the job had to do is done, or kept for its next life.
    """
    closing = _Closing(name, close)
    closing.start()
    began = time.monotonic()
    while closing.is_alive() and time.monotonic() - began < (_LEAST_SECONDS if signals.received > 1 else within):
        closing.join(_LOOK_SECONDS)
    if closing.is_alive():
        logger("pipeline").warning("not waited for any longer", closing=name)
        return False
    if isinstance(closing.error, IoTCloudError):
        logger("pipeline").warning("not closed in order", closing=name, error=str(closing.error))
    elif closing.error is not None:
        raise closing.error
    return closing.error is None


class _Closing(threading.Thread):
    def __init__(self, name: str, close: Callable[[], object]) -> None:
        super().__init__(name=f"close-{name}", daemon=True)
        self._close = close
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._close()
        except BaseException as error:  # noqa: BLE001  (raised again where it was asked for)
            self.error = error
