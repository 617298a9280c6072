"""What a rule makes of a series: the step-by-step judge equals a model that looks at all rows at once."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ConfigurationError
from transforms.rules.book import Book, slack
from transforms.rules.machine import Position, SeriesState, judge
from transforms.rules.match import TIME, judged
from transforms.rules.spec import CommandConfig, Limit, Rule

ROWS = st.lists(st.tuples(st.integers(1, 5), st.booleans(), st.booleans()), max_size=60)


def model(rows: list[tuple[int, bool, bool]], hold: int, limit: Limit | None, each: bool) -> list[tuple[int, str]]:
    """Changes, each with the index of its row: every question is asked of the whole history."""
    changes: list[tuple[int, str]] = []
    for index, (time, raises, clears) in enumerate(rows):
        active = bool(changes) and changes[-1][1] == "raised" and not each
        if active:
            if clears:
                changes.append((index, "cleared"))
            continue
        if not raises:
            continue
        begin = index
        after = changes[-1][0] + 1 if changes else 0
        while begin > after and rows[begin - 1][1]:
            begin -= 1
        if time - rows[begin][0] < hold:
            continue
        if limit is not None:
            recent = [at for at, change in changes if change == "raised" and rows[at][0] > time - limit.per]
            if len(recent) >= limit.count:
                continue
        changes.append((index, "raised"))
    return changes


@given(
    steps=ROWS,
    hold=st.integers(0, 8),
    limit=st.none() | st.builds(Limit, st.integers(1, 3), st.integers(1, 20)),
    each=st.booleans(),
)
def test_judging_row_by_row_equals_looking_at_all(
    steps: list[tuple[int, bool, bool]], hold: int, limit: Limit | None, each: bool
) -> None:
    if each:
        hold = 0
    rows, time = [], 0
    for step, raises, clears in steps:
        time += step
        rows.append((time, raises, clears))
    state = SeriesState(Position(-1))
    found = []
    for index, (at, raises, clears) in enumerate(rows):
        change, remember = judge(state, Position(at), raises=raises, clears=clears, hold=hold, limit=limit, each=each)
        assert remember or change is None, "a change that is not remembered would be made again after a restart"
        if change:
            found.append((index, change))
    assert found == model(rows, hold, limit, each)


def rule(**more: Any) -> Rule:
    plain: dict[str, Any] = {
        "name": "r", "window": None, "channel": "*", "device": "*", "when": "value > 5", "until": "NOT (value > 5)", "hold": 0,
        "each": False, "limit": None, "absent": 0, "alert": True, "command": None, "otherwise": None,
    }  # fmt: skip
    return Rule(**{**plain, **more})


def events(values: list[tuple[str, float]], first: int = 0, step: int = 1) -> pl.DataFrame:
    """Readings of devices, numbered from ``first``, at times that go with their numbers."""
    return pl.DataFrame(
        {
            "gateway": ["g"] * len(values),
            "epoch": [1] * len(values),
            "seq": [first + place for place in range(len(values))],
            "gateway_time": [first + place for place in range(len(values))],
            "device": [device for device, _ in values],
            "channel": ["c"] * len(values),
            "event_time": [(first + place) * step for place in range(len(values))],
            "value": [value for _, value in values],
        },
        schema_overrides={"value": pl.Float64, **dict.fromkeys(("epoch", "seq", "gateway_time", "event_time"), pl.Int64)},
    ).with_columns(pl.col("event_time").alias(TIME))


VALUES = st.lists(st.tuples(st.sampled_from(["a", "b"]), st.sampled_from([1.0, 4.0, 6.0, 9.0])), max_size=40)


@given(values=VALUES, cuts=st.lists(st.integers(0, 40), max_size=4), hold=st.sampled_from([0, 3]), until=st.booleans())
def test_rows_left_out_in_columns_change_nothing(
    values: list[tuple[str, float]], cuts: list[int], hold: int, until: bool
) -> None:
    """However a stream is cut into blocks, what fires is what a judge of every row finds."""
    of = rule(hold=hold, until="value < 3" if until else "NOT (value > 5)")
    book, found = Book(), []
    bounds = sorted({0, len(values), *(cut for cut in cuts if cut <= len(values))})
    for start, end in pairwise(bounds):
        block = events(values[start:end], first=start)
        out = book.judge(of, judged(of, block).iter_rows(named=True), now=0)
        found += [(fired.device, fired.change, fired.time) for fired in out.fired]
    expected = []
    for device in ("a", "b"):
        rows = [
            (time, value > 5, value < 3 if until else value <= 5)
            for time, (of_device, value) in enumerate(values)
            if of_device == device
        ]
        expected += [(device, change, rows[index][0]) for index, change in model(rows, hold, None, False)]
    assert sorted(found) == sorted(expected)


@given(values=VALUES, crash=st.integers(0, 40), back=st.integers(0, 40), hold=st.sampled_from([0, 3]))
def test_a_restart_fires_nothing_twice_and_misses_nothing(
    values: list[tuple[str, float]], crash: int, back: int, hold: int
) -> None:
    """Killed after any row and started again with what was remembered, from any earlier row whose effects it may have lost."""
    of = rule(hold=hold, limit=Limit(2, 10))
    crash = min(crash, len(values))

    def run(book: Book, start: int, end: int, memory: dict[Any, bytes]) -> list[Any]:
        out = book.judge(of, judged(of, events(values[start:end], first=start)).iter_rows(named=True), now=0)
        memory |= out.remember
        return [(fired.id, fired.device, fired.change, fired.time) for fired in out.fired]

    undisturbed = run(Book(), 0, len(values), {})
    memory: dict[Any, bytes] = {}
    before = run(Book(), 0, crash, memory)
    after = run(Book.remembered(memory, 0, 1), max(0, crash - back), len(values), memory)
    assert sorted(before + after) == sorted(undisturbed)


def test_an_older_value_that_comes_after_a_newer_one_counts_no_more() -> None:
    of, book = rule(), Book()
    newer, older = events([("a", 1.0)], first=10), events([("a", 9.0)], first=3)
    assert book.judge(of, judged(of, newer).iter_rows(named=True), now=0).fired == []
    assert book.judge(of, judged(of, older).iter_rows(named=True), now=0).fired == []


def test_ids_name_rule_series_change_and_cause_and_nothing_else() -> None:
    def ids(of: Rule, now: int, values: list[tuple[str, float]]) -> list[str]:
        return [fired.id for fired in Book().judge(of, judged(of, events(values)).iter_rows(named=True), now=now).fired]

    first = ids(rule(), 1, [("a", 9.0), ("a", 1.0)])
    assert len(set(first)) == 2
    assert ids(rule(), 2, [("a", 8.0), ("a", 1.0)]) == first, "neither the clock nor the values may matter"
    assert not set(ids(rule(), 1, [("b", 9.0), ("b", 1.0)])) & set(first)
    assert not set(ids(dataclasses.replace(rule(), name="other"), 1, [("a", 9.0), ("a", 1.0)])) & set(first)


@pytest.mark.parametrize(("silent", "expected"), [(119, []), (120, ["raised"]), (500, ["raised"])])
def test_silence_is_told_once_and_ends_with_the_next_row(silent: int, expected: list[str]) -> None:
    of, book = rule(when="", until="", absent=120), Book()
    book.seen(of, [("a", "c", 5, 10)], now=0)
    assert book.next_absence(of) == 130
    assert [fired.change for fired in book.absent(of, 10 + silent, now=0).fired] == expected
    assert book.absent(of, 10 + silent, now=0).fired == []
    back = book.seen(of, [("a", "c", 10 + silent + 1, 10 + silent + 2)], now=0).fired
    assert [fired.change for fired in back] == (["cleared"] if expected else [])


@given(
    steps=st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(1, 25)), max_size=60),
    crash=st.integers(0, 60),
    back=st.integers(0, 60),
)
def test_a_restart_tells_of_every_silence_and_of_no_other(steps: list[tuple[str, int]], crash: int, back: int) -> None:
    """Killed after any row and started again from any earlier one, however the series keep time with one another."""
    of, memory = rule(when="", until="", absent=40), dict[Any, bytes]()
    rows, time = [], 0
    for device, step in steps:
        time += step
        rows.append((device, time))

    def run(book: Book, start: int, end: int) -> list[tuple[str, int]]:
        """Device and time of every silence told."""
        raised = []
        for device, time in rows[start:end]:
            silent = book.absent(of, time - 1, now=0)
            raised += [(fired.device, fired.time) for fired in silent.fired]
            memory.update(silent.remember | book.seen(of, [(device, "c", time, time)], now=0).remember)
        return raised

    crash = min(crash, len(rows))
    raised = run(Book(), 0, crash)
    again = Book.remembered(memory, 0, 1)
    again.expect_unremembered(of)
    raised += run(again, max(0, crash - back), len(rows))
    for device in ("a", "b"):
        times = [time for of_device, time in rows if of_device == device]
        told = [time for of_device, time in raised if of_device == device]
        assert not [due for due in told for time in times if due - 40 < time < due], "it was not silent"
        for last, following in pairwise(times):
            if following - last > 40 + slack(of):
                assert any(last < due < following for due in told), "its silence was not told"


def test_a_series_that_is_seen_all_the_time_is_not_remembered_all_the_time() -> None:
    of, book = rule(when="", until="", absent=120), Book()
    writes = [bool(book.seen(of, [("a", "c", time, time), ("b", "c", time, time)], now=0).remember) for time in range(1200)]
    assert sum(writes) == 1200 / slack(of)


@given(values=VALUES, crash=st.integers(0, 40), back=st.integers(0, 40))
def test_a_restart_repeats_no_event_of_a_rule_for_each_that_is_limited(
    values: list[tuple[str, float]], crash: int, back: int
) -> None:
    of = rule(each=True, limit=Limit(2, 10))

    def run(book: Book, start: int, end: int, memory: dict[Any, bytes]) -> set[str]:
        out = book.judge(of, judged(of, events(values[start:end], first=start)).iter_rows(named=True), now=0)
        memory |= out.remember
        return {fired.id for fired in out.fired}

    crash, memory = min(crash, len(values)), dict[Any, bytes]()
    undisturbed = run(Book(), 0, len(values), {})
    before = run(Book(), 0, crash, memory)
    assert before | run(Book.remembered(memory, 0, 1), max(0, crash - back), len(values), memory) == undisturbed


def test_names_of_any_letters_keep_their_state() -> None:
    of, book = rule(), Book()
    for first in range(3):
        found = book.judge(of, judged(of, events([("a\0b", 9.0)], first=first)).iter_rows(named=True), now=0).fired
        assert len(found) == (first == 0)
        book = Book.unpack(book.pack())


def test_a_rule_for_each_event_fires_for_each() -> None:
    of = rule(each=True)
    found = Book().judge(of, judged(of, events([("a", 9.0), ("a", 8.0), ("a", 1.0), ("a", 7.0)])).iter_rows(named=True), now=0)
    assert [fired.time for fired in found.fired] == [0, 1, 3]
    assert len({fired.id for fired in found.fired}) == 3


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_cannot_write_is_null_in_the_command_and_told_by_the_alert(value: float) -> None:
    order = CommandConfig("g", "fan", "set", {"level": "{value}", "levels": ["{value}", "{seq}"], "said": "to {value}"})
    of = rule(when="value > 5 OR value < 0", until="value < 1", command=order)
    (found,) = Book().judge(of, judged(of, events([("a", value)])).iter_rows(named=True), now=0).fired
    assert found.command is not None
    assert msgspec.json.decode(found.command.args) == {"level": None, "levels": [None, 0], "said": f"to {value}"}
    detail = msgspec.json.decode(found.detail)
    assert detail["value"] is None
    assert detail["not_finite"] == {"value": str(value)}


def test_errors_are_of_configuration() -> None:
    with pytest.raises(ConfigurationError, match="no condition"):
        judged(rule(when="value >"), events([("a", 1.0)]))
