"""What a job remembers of its rules beyond its own life, on runners that keep no state across a crash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from transforms.rules.fired import Fired

Series = tuple[str, str]


class RuleMemory(Protocol):
    """May be used from any thread."""

    def load(self, rule: str) -> Mapping[Series, bytes]:
        """The states of a rule's series (device, channel), as they were last committed."""

    def commit(self, rule: str, states: Mapping[Series, bytes], fired: Sequence[Fired]) -> None:
        """Remember states and what was fired, all or none, durably.

        What was fired before under the same id stays as it was then.
        """
