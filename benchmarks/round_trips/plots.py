"""The grid as pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from benchmarks.round_trips.cells import Outcome

_COLUMNS: Final = 4

Share = Literal["p50", "p95"]


def plot_grid(found: Mapping[str, Sequence[Outcome]], share: Share, path: Path, *, note: str) -> None:
    """A panel for each broker: latency against size, a line for each rate; a cross where the rate was not sustained."""
    from matplotlib.figure import Figure

    rows = math.ceil(len(found) / _COLUMNS)
    columns = min(_COLUMNS, len(found))
    figure = Figure(figsize=(1 + 3.9 * columns, 1.6 + 3.3 * rows), layout="constrained", dpi=110)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    rates = sorted({one.cell.rate for outcomes in found.values() for one in outcomes})
    colours = _colours(len(rates))
    for number, panel in enumerate(panels.flat):
        if number >= len(found):
            panel.set_axis_off()
            continue
        name, outcomes = list(found.items())[number]
        panel.set_title(name, fontweight="bold")
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter(_sizes())
        _milliseconds(panel)
        for rate, colour in zip(rates, colours, strict=True):
            _line(panel, [one for one in outcomes if one.cell.rate == rate], share, colour, f"{rate} messages/s")
        if number + columns >= len(found):
            panel.tick_params(labelbottom=True)
            panel.set_xlabel("size of a message")
        if number % columns == 0:
            panel.set_ylabel(f"round trip, {share} (ms)")
    (cross,) = panels.flat[0].plot([], [], "x", color="grey", label="rate not sustained")
    handles = [line for line in panels.flat[0].get_lines() if not line.get_label().startswith("_") and line is not cross]
    figure.legend(handles=[*handles, cross], loc="outside lower center", ncols=len(handles) + 1, frameon=False)
    figure.suptitle(f"Gateway → broker → processing → broker → gateway: {share} of the round trip\n{note}", fontsize=11)
    figure.savefig(path)


def _line(panel: Any, outcomes: Sequence[Outcome], share: Share, colour: Any, label: str) -> None:
    good = [(one.cell.size, getattr(one, share)) for one in outcomes if not one.problem]
    bad = [(one.cell.size, getattr(one, share)) for one in outcomes if one.problem and one.p50 is not None]
    panel.plot([x for x, _ in good], [y for _, y in good], "o-", color=colour, label=label, markersize=4, linewidth=1.4)
    panel.plot([x for x, _ in bad], [y for _, y in bad], "x", color=colour, label="_", markersize=6)


def plot_clients(outcomes: Sequence[Outcome], path: Path, *, title: str, limit: float) -> None:
    """Round trips against the number of clients; a line at the ``limit`` (ms) of what was published."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.6), layout="constrained", dpi=110)
    panel = figure.subplots()
    tried = [one for one in outcomes if one.p50 is not None]
    for share, colour in zip(("p50", "p95", "p99"), _colours(3), strict=True):
        good = [one for one in tried if not one.problem]
        panel.plot([one.cell.clients for one in good], [getattr(one, share) for one in good], "o-", color=colour, label=share)
    if bad := [one for one in tried if one.problem]:
        panel.plot(
            [one.cell.clients for one in bad], [one.p50 for one in bad], "x", color="grey", label="p50, rate not sustained"
        )
    panel.axhline(limit, color="grey", linestyle="--", linewidth=1, label=f"published: under {limit:g} ms")
    panel.set_xscale("log")
    _milliseconds(panel)
    panel.minorticks_off()
    panel.set_xticks([one.cell.clients for one in tried], [str(one.cell.clients) for one in tried])
    panel.set_xlabel("clients (devices of one gateway)")
    panel.set_ylabel("round trip (ms)")
    panel.legend(frameon=False)
    panel.set_title(title, fontsize=9)
    figure.savefig(path)


def _milliseconds(panel: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator

    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    panel.grid(visible=True, which="major", alpha=0.3)


def _sizes() -> Any:
    from matplotlib.ticker import EngFormatter

    return EngFormatter(unit="B", places=0)


def _colours(count: int) -> list[Any]:
    from matplotlib import colormaps

    return [colormaps["viridis"](0.05 + 0.8 * number / max(1, count - 1)) for number in range(count)]
