"""How long to wait before trying a broker again: growing, with jitter. Without a limit of attempts, for brokers come back."""

from __future__ import annotations

import random
from typing import Final

_FIRST: Final = 0.2
_LONGEST: Final = 15.0


class Backoff:
    """Not safe for threads."""

    def __init__(self) -> None:
        self._ceiling = _FIRST

    def reset(self) -> None:
        self._ceiling = _FIRST

    def seconds(self) -> float:
        """The next pause: jitter below a ceiling that doubles, and never less than a quarter of it."""
        pause = self._ceiling * random.uniform(0.25, 1.0)
        self._ceiling = min(_LONGEST, 2 * self._ceiling)
        return pause
