"""Interleaved runs and ratios of medians: what a noisy machine lets one say.

Contestants take turns, so that a slow minute of the machine falls on all of them alike; what is
compared is the ratio of their medians, never one run against another.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Measured:
    """Rates of one contestant, in the order of its runs."""

    name: str
    rates: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rates)


def interleaved(contestants: Mapping[str, Callable[[], float]], *, rounds: int) -> dict[str, Measured]:
    """Let each contestant run once a round; each returns its rate."""
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name, run in contestants.items():
            rates[name].append(run())
            progress(f"round {number + 1} of {rounds}: {name} {rates[name][-1]:,.0f}/s")
    return {name: Measured(name, tuple(values)) for name, values in rates.items()}


def percentile(values: Sequence[float], fraction: float) -> float:
    """Nearest-rank percentile of at least one value."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(fraction * len(ordered) + 0.5) - 1))]


def progress(line: str) -> None:
    """A line for who waits, on stderr."""
    sys.stderr.write(f"· {line}\n")
    sys.stderr.flush()


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        cpu = next(
            (line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")), cpu
        )
    cores = info.read_text().count("processor\t") if info.exists() else None
    return {"cpu": cpu, "cores": cores, "python": platform.python_version(), "system": platform.system()}


def write_result(name: str, figures: Mapping[str, Any]) -> Path:
    """Keep figures as ``results/NAME.json`` with the date (UTC) and the machine."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    result = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine(), **figures}
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return path
