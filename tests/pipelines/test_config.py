"""What a pipeline's file says about windows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest

from pipelines.config import load_config
from schemas.errors import ConfigurationError


class Energy:
    """Joules of readings in watts that come once in ``seconds``."""

    def __init__(self, seconds: float = 1.0) -> None:
        self._seconds = seconds

    def partial(self, events: Mapping[str, pl.Expr]) -> Mapping[str, pl.Expr]:
        return {"watts": events["value"].round().cast(pl.Int64).sum()}

    def merge(self, parts: Mapping[str, pl.Expr]) -> Mapping[str, pl.Expr]:
        return {"watts": parts["watts"].sum()}

    def finish(self, part: Mapping[str, pl.Expr]) -> pl.Expr:
        return part["watts"] * self._seconds


def written(folder: Path, text: str) -> Path:
    path = folder / "pipeline.toml"
    path.write_text(text)
    return path


def test_windows_are_asked_for_aggregates_by_name(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        '[windows.plain]\nsize = "10s"\n'
        '[windows.rich]\nsize = "5m"\naggregates = ["mean", "p95", "stddev", "energy", "last", "p99_9"]\naccuracy = 0.01\n'
        f'[aggregates.energy]\nuse = "{__name__}:Energy"\noptions = {{ seconds = 2 }}\n',
    )
    plain, rich = load_config(path).window_specs()
    assert plain.measures == ()
    assert [name for measure in rich.measures for name in measure.names] == ["stddev", "last", "p95", "p99_9", "energy"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[windows.w]\nsize = "1m"\naggregates = ["p905"]\n', "windows.w: aggregates: there is no 'p905'"),
        ('[windows.w]\nsize = "1m"\naccuracy = 0.5\n', "windows.w: accuracy"),
        ('[windows.w]\nsize = "1m"\naggregates = ["e"]\n[aggregates.e]\nuse = "nowhere:E"\n', "aggregates.e: nowhere:E"),
        ('[aggregates.e]\nus = "nowhere:E"\n', "did you mean 'use'"),
    ],
)
def test_what_cannot_be_computed_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_config(written(tmp_path, text))
