"""What the ledger comes to: a table for people, JSON for programs, and what to do about it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from pipelines.batch.account import Range
from pipelines.prove.ledger import Row
from pipelines.prove.rest import length
from storage.events.manifest import Identity
from transforms.intervals import Interval

PROVED: Final = 0
UNEXPLAINED: Final = 1
UNDECIDED: Final = 3

_COLUMNS: Final = ("accepted", "stored", "in_broker", "buffered", "dead_lettered", "dropped", "before_archive")
#: Ranges printed of each kind; JSON has all.
_MOST_LINES: Final = 100


@dataclass
class Report:
    """``final``: nothing more is expected to come, so that an epoch whose end nobody knows ends where it was last seen."""

    rows: Sequence[Row]
    final: bool
    problems: Sequence[str] = ()
    remarks: list[str] = field(default_factory=list)

    @property
    def status(self) -> int:
        if any(row.unexplained for row in self.rows):
            return UNEXPLAINED
        if any(row.pending for row in self.rows) or self.open_ended:
            return UNDECIDED
        return PROVED

    @property
    def open_ended(self) -> list[Row]:
        return [] if self.final else [row for row in self.rows if row.open_ended]

    @property
    def verdict(self) -> str:
        return {PROVED: "proved", UNEXPLAINED: "unexplained", UNDECIDED: "undecided"}[self.status]

    def ranges(self, kind: str) -> Iterator[Range]:
        """Of ``unexplained`` or ``pending``."""
        for row in self.rows:
            intervals: list[Interval] = getattr(row, kind)
            for first, following in intervals:
                yield Range(_identity(row), first, following - 1, kind if row.epoch is not None else "by number: epoch not known")


def print_json(report: Report) -> None:
    document = {
        "verdict": report.verdict,
        "totals": _totals(report.rows),
        "rows": [_plain(row) for row in report.rows],
        "problems": list(report.problems),
        "remarks": [*report.remarks, *_advice(report)],
    }
    sys.stdout.write(json.dumps(document, indent=1) + "\n")


def print_table(report: Report) -> None:
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False, soft_wrap=True)
    totals = _totals(report.rows)
    shown = [name for name in (*_COLUMNS, "pending", "unexplained", "duplicates") if name in _ALWAYS or totals[name]]
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("gateway", "topic", "epoch"):
        table.add_column(name, no_wrap=True)
    for name in shown:
        table.add_column(name.replace("_", " "), justify="right")
    for row in report.rows:
        numbers = _numbers(row)
        cells = [f"{numbers[name]:,}" for name in shown]
        cells[0] = ("≥ " if row.open_ended else "") + cells[0]
        table.add_row(row.gateway, row.topic, "not known" if row.epoch is None else str(row.epoch), *cells)
    if len(report.rows) != 1:
        table.add_row("all", "", "", *(f"{totals[name]:,}" for name in shown), style="bold")
    console.print(table)
    for reason, number in sorted(_reasons(report.rows).items()):
        console.print(f"dropped      {number:,} events, reason {reason}")
    for kind in ("unexplained", "pending"):
        for place, found in enumerate(report.ranges(kind)):
            if place == _MOST_LINES:
                console.print(f"{kind:12} … and more: --json lists all")
                break
            console.print(f"{kind:12} {found}")
    for problem in report.problems:
        console.print(f"problem      {problem}")
    for line in (*report.remarks, *_advice(report)):
        console.print(line)
    mark = {PROVED: "[green]✓[/]", UNEXPLAINED: "[red]✗[/]", UNDECIDED: "[yellow]?[/]"}[report.status]
    console.print(f"{mark} {_sentence(report, totals)}")


_ALWAYS: Final = ("accepted", "stored", "buffered", "dead_lettered", "dropped", "unexplained", "duplicates")


def _sentence(report: Report, totals: dict[str, int]) -> str:
    accepted = f"{totals['accepted']:,} events accepted"
    if report.status == UNEXPLAINED:
        return f"{accepted}, {totals['unexplained']:,} of them unexplained"
    if report.status == UNDECIDED:
        return f"{accepted}, none of them missing as far as was looked; not all could be decided"
    if any(row.open_ended for row in report.rows):
        return f"{accepted} at least (≥: nobody has said how many), every one of them accounted for"
    return f"{accepted}, every one of them accounted for"


def _advice(report: Report) -> list[str]:
    """What to do about what could not be decided."""
    lines = []
    if any(row.pending for row in report.rows):
        lines.append(
            "Try: pending events are published and not archived yet. Give --source URL/TOPIC to look for them in the broker's"
            " log; or let 'iotcloud pipeline archive --until-end' end, and give --final"
        )
    if report.open_ended:
        lines.append(
            f"Try: nobody has said how many events {len(report.open_ended)} epochs (≥) had. Give --gateway or --master for their"
            " gateways; if these and their disks are gone, give --final"
        )
    return lines


def _identity(row: Row) -> Identity:
    return Identity(row.topic, row.gateway, -1 if row.epoch is None else row.epoch)


def _numbers(row: Row) -> dict[str, int]:
    return {
        **{name: getattr(row, name) for name in _COLUMNS if name != "dropped"},
        "dropped": sum(row.dropped.values()),
        "pending": length(row.pending),
        "unexplained": length(row.unexplained),
        "duplicates": row.duplicates,
    }


def _totals(rows: Sequence[Row]) -> dict[str, int]:
    sums = dict.fromkeys((*_COLUMNS, "pending", "unexplained", "duplicates"), 0)
    for row in rows:
        for name, number in _numbers(row).items():
            sums[name] += number
    return sums


def _reasons(rows: Sequence[Row]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        for reason, number in row.dropped.items():
            found[reason] = found.get(reason, 0) + number
    return found


def _plain(row: Row) -> dict[str, Any]:
    ranges = {
        kind: [{"first": first, "last": following - 1} for first, following in getattr(row, kind)]
        for kind in ("pending", "unexplained")
    }
    return {
        "gateway": row.gateway,
        "topic": row.topic,
        "epoch": row.epoch,
        "open_ended": row.open_ended,
        **_numbers(row),
        "dropped_by_reason": row.dropped,
        "pending_ranges": ranges["pending"],
        "unexplained_ranges": ranges["unexplained"],
    }
