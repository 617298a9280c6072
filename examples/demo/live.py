"""What a person sees while the demonstration runs."""

from __future__ import annotations

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from examples.demo.observe import Snapshot


def view(now: Snapshot) -> RenderableType:
    """The whole screen."""
    return Group(_progress(now), Columns([_arriving(now), _counters(now)], padding=(0, 2)), _windows(now), _commands(now))


def _progress(now: Snapshot) -> RenderableType:
    line = Table.grid(padding=(0, 1))
    line.add_row(
        Text("replay", style="bold"),
        ProgressBar(total=max(now.expected, 1), completed=min(now.replayed, now.expected), width=50),
        f"{now.replayed:,} of {now.expected:,} readings",
        Text(now.phase, style="cyan"),
    )
    return line


def _arriving(now: Snapshot) -> RenderableType:
    table = Table(title="arriving", title_justify="left", box=None, header_style="dim", pad_edge=False)
    for name in ("topic", "accepted", "published"):
        table.add_column(name, justify="left" if name == "topic" else "right")
    for topic in sorted(now.topics):
        counts = now.topics[topic]
        table.add_row(topic, f"{counts.accepted:,}", f"{counts.published:,}")
    return table


def _counters(now: Snapshot) -> RenderableType:
    table = Table(title="pipeline", title_justify="left", box=None, show_header=False, pad_edge=False)
    for name, value in now.pipeline.items():
        table.add_row(Text(name, style="dim"), value)
    return table


def _windows(now: Snapshot) -> RenderableType:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in ("window (UTC)", "device", "channel", "count", "mean", "min", "max"):
        table.add_column(name, justify="right" if name in ("count", "mean", "min", "max") else "left")
    for row in now.windows:
        table.add_row(row.window, row.device, row.channel, str(row.count), *(f"{x:.2f}" for x in (row.mean, row.min, row.max)))
    return Panel(table, title=f"windows ({now.window_rows:,} rows)", title_align="left", border_style="dim")


def _commands(now: Snapshot) -> RenderableType:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in ("command", "device", "because of", "state", "latency"):
        table.add_column(name)
    for command in now.commands:
        table.add_row(command.name, command.device, command.cause, command.state, command.latency)
    return Panel(table, title=f"commands ({len(now.commands)})", title_align="left", border_style="dim")
