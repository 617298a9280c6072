"""From events to partials, from partials to result rows, for windows of every kind. Columns only, no Beam."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from transforms import aggregates, sessions
from transforms.measures import Measure
from transforms.windows import WindowSpec


def partials_of(columns: pl.DataFrame, windows: Sequence[WindowSpec]) -> Iterator[tuple[WindowSpec, int, pl.DataFrame]]:
    """Window, start and partial for every window, and for every period of sessions, that the events of ``columns`` fall into."""
    values = aggregates.measurements(columns, ("epoch", "seq") if any(window.measures for window in windows) else ())
    if not len(values):
        return
    # Slices are shared by the windows of the same measures: none carries what only another was asked for.
    shared: dict[tuple[Measure, ...], dict[int, pl.DataFrame]] = {}
    for window in sorted(windows, key=lambda window: window.slice):
        if window.gap:
            for start, partial in sessions.partials(values, window):
                yield window, start, partial
            continue
        of_width = shared.setdefault(window.measures, {})
        if window.slice not in of_width:
            finer = next((of_width[width] for width in sorted(of_width, reverse=True) if window.slice % width == 0), None)
            of_width[window.slice] = (
                aggregates.slices(values, window.slice, window.measures)
                if finer is None
                else aggregates.coarser(finer, window.slice, window.measures)
            )
        for start, partial in aggregates.by_window(of_width[window.slice], window):
            yield window, start, partial


def merge_of(window: WindowSpec, partials: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One partial of a window, or of a period of sessions, out of several."""
    return sessions.merge(partials, window) if window.gap else aggregates.merge(partials, window.measures)


def rows_of(window: WindowSpec, start: int, partial: pl.DataFrame, *, pane: str, updated_at: int) -> pl.DataFrame:
    """All result rows of a merged partial. Times in µs since 1970, UTC."""
    make = sessions.rows if window.gap else aggregates.rows
    return make(partial, window, start, pane=pane, updated_at=updated_at)
