"""Variables are text wherever they stand: text may stand for a number or a boolean, and for nothing else."""

from __future__ import annotations

import msgspec
import pytest

from schemas.errors import ConfigurationError
from settings import parse


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    ratio: float = 1.0
    count: int = 1
    on: bool = False
    name: str = ""
    maybe: int | None = None
    many: list[int] = []


def test_a_variable_may_stand_for_a_number_or_a_boolean() -> None:
    text = 'ratio = "${R}"\ncount = "${C}"\non = "${O}"\nmaybe = "${C}"\nmany = ["${C}", 8]\nname = "${C}"'
    found = parse(text, Settings, origin="x.toml", environment={"R": "2.5", "C": "7", "O": "true"})
    assert found == Settings(ratio=2.5, count=7, on=True, name="7", maybe=7, many=[7, 8])


@pytest.mark.parametrize(
    "line",
    ['ratio = "fast"', 'count = "2.5"', 'on = "perhaps"', 'count = ""', "count = 2.5", "count = true", "on = 1", "name = 1"],
)
def test_what_is_no_number_or_boolean_is_refused_with_its_field(line: str) -> None:
    with pytest.raises(ConfigurationError, match=f"x.toml:1: {line.split(maxsplit=1)[0]}"):
        parse(line, Settings, origin="x.toml", environment={})
