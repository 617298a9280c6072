"""What all contestants have in common."""

from __future__ import annotations

import time
from typing import Final

GROUP: Final = "bench"
#: One key for all: as a gateway publishes, in order.
KEY: Final = "gateway-1"
#: Messages that are confirmed together, where a library lets one choose.
TOGETHER: Final = 1_000
#: Seconds after which a contestant is stuck.
DEADLINE: Final = 120.0


class Clock:
    """Started when made."""

    def __init__(self) -> None:
        self._begun = time.perf_counter()

    def rate(self, count: int) -> float:
        return count / (time.perf_counter() - self._begun)
