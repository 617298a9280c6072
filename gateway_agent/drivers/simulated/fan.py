"""A fan that takes its time to reach its speed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

#: Revolutions per minute when switched on without a speed.
DEFAULT_RPM: Final = 1_200.0
#: Seconds in which the difference to the wanted speed falls to 1/e.
_INERTIA: Final = 1.5
#: So near to the wanted speed it counts as reached.
_REACHED: Final = 5.0


@dataclass(slots=True)
class Fan:
    """Its wanted and its present speed, in revolutions per minute."""

    wanted: float = 0.0
    rpm: float = 0.0

    @property
    def on(self) -> bool:
        return self.wanted > 0

    @property
    def changing(self) -> bool:
        return self.rpm != self.wanted

    def spin(self, seconds: float) -> float:
        """Let ``seconds`` pass; the speed then."""
        self.rpm += (self.wanted - self.rpm) * -math.expm1(-seconds / _INERTIA)
        if abs(self.rpm - self.wanted) < _REACHED:
            self.rpm = self.wanted
        return self.rpm
