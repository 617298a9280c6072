"""Rules in a job: from events and windows to commands on their way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import apache_beam as beam

from pipelines.commands import CommandSettings, PublishCommands
from transforms.admit import wall_clock
from transforms.rules import EventRules, Rule, WindowRules


class ApplyRules(beam.PTransform):
    """``{"events": Admitted, "windows": data frames of result rows}``, either of them, in; a collection out that stays empty.

    Its watermark says what rules have decided and the job's disk knows; a restart must begin no later.
    """

    def __init__(
        self, rules: tuple[Rule, ...], settings: CommandSettings, *, shards: int = 1, clock: Callable[[], int] = wall_clock
    ) -> None:
        super().__init__()
        self._rules = rules
        self._settings = settings
        self._shards = shards
        self._clock = clock

    def expand(self, inputs: Mapping[str, Any]) -> Any:
        options: dict[str, Any] = {"memory": self._settings.open_memory, "shards": self._shards, "clock": self._clock}
        fired = []
        if "events" in inputs and any(rule.window is None for rule in self._rules):
            fired.append(inputs["events"] | "Events" >> EventRules(self._rules, **options))
        if "windows" in inputs and any(rule.window is not None for rule in self._rules):
            fired.append(inputs["windows"] | "Windows" >> WindowRules(self._rules, **options))
        if not fired:
            raise ValueError("no rule has anything to look at")
        both = fired[0] if len(fired) == 1 else tuple(fired) | "Both" >> beam.Flatten()
        return both | "Commands" >> PublishCommands(self._settings)
