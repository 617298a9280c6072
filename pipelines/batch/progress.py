"""How far a batch job has come, and whether it shall stop: shared by its functions within one process."""

from __future__ import annotations

import threading
from functools import lru_cache

from schemas.errors import IoTCloudError


class Interrupted(IoTCloudError):
    """The job was asked to stop."""


class BatchProgress:
    """All methods may be called from any thread."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._done = 0
        self._lock = threading.Lock()

    @property
    def done(self) -> int:
        return self._done

    def advance(self, number: int = 1) -> None:
        """``number`` of the job's steps are done. Raises `Interrupted` when it shall stop."""
        with self._lock:
            self._done += number
        self.check()

    def check(self) -> None:
        """Raises `Interrupted` when the job shall stop."""
        if self.stopping.is_set():
            raise Interrupted("the job was interrupted", remedy="run it again: nothing is half done")


@lru_cache(maxsize=64)
def progress_of(job: str) -> BatchProgress:  # noqa: ARG001  (every job has its own)
    """The progress of the job with this id in this process."""
    return BatchProgress()
