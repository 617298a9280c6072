"""Rules as Beam transforms. Rows are cut down in columns where they arise; the rest goes to stateful steps, by rule and shard.

Three kinds of steps, each in the global window. *As they come*: rules on events without ``for``; a row is judged when it
arrives, in the order in which its gateway has numbered the events, and an older one that comes after a newer counts no more.
*In order*: rules on windows, and on events with ``for``; rows wait until the watermark has passed their time. *Absence*: the
newest time of each series, and a timer where it will have been silent for too long.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import apache_beam as beam
import polars as pl
from apache_beam.coders import BytesCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.utils.timestamp import Timestamp

from transforms.admit import Admitted, wall_clock
from transforms.rules.book import Book, Outcome
from transforms.rules.fired import Fired
from transforms.rules.match import SERIES, TIME, by_shard, event_rows, judged, newest, pack, spans, unpack, window_rows
from transforms.rules.memory import RuleMemory
from transforms.rules.spec import Rule

#: Opens the job's memory in the process that asks; it is pickled with the pipeline.
OpenMemory = Callable[[], RuleMemory]
AS_THEY_COME: Final = "as_they_come"
IN_ORDER: Final = "in_order"
ABSENCE: Final = "absence"
_MILLISECOND: Final = 1_000
_TIME: Final = struct.Struct("<q")


class EventRules(beam.PTransform):
    """`transforms.admit.Admitted` in, `Fired` out. Rules on windows are passed over."""

    def __init__(
        self,
        rules: tuple[Rule, ...],
        *,
        memory: OpenMemory | None = None,
        shards: int = 1,
        clock: Callable[[], int] = wall_clock,
    ) -> None:
        super().__init__()
        self._rules = tuple(rule for rule in rules if rule.window is None)
        self._settings = (memory, shards, clock)

    def expand(self, admitted: Any) -> Any:
        match = beam.ParDo(_MatchEvents(self._rules, self._settings[1]))
        return _judge(admitted | "Match" >> match.with_outputs(AS_THEY_COME, IN_ORDER, ABSENCE), self._rules, *self._settings)


class WindowRules(beam.PTransform):
    """Data frames of result rows (`transforms.aggregates.ROW_TYPES`) in, `Fired` out. Rules on events are passed over."""

    def __init__(
        self,
        rules: tuple[Rule, ...],
        *,
        memory: OpenMemory | None = None,
        shards: int = 1,
        clock: Callable[[], int] = wall_clock,
    ) -> None:
        super().__init__()
        self._rules = tuple(rule for rule in rules if rule.window is not None)
        self._settings = (memory, shards, clock)

    def expand(self, rows: Any) -> Any:
        match = beam.ParDo(_MatchWindows(self._rules, self._settings[1]))
        return _judge(rows | "Match" >> match.with_outputs(AS_THEY_COME, IN_ORDER, ABSENCE), self._rules, *self._settings)


def _judge(matched: Any, rules: tuple[Rule, ...], memory: OpenMemory | None, shards: int, clock: Callable[[], int]) -> Any:
    """Only the steps that some rule needs; at least one, so that there is something to give."""
    steps: dict[str, Any] = {AS_THEY_COME: _AsTheyCome, IN_ORDER: _InOrder, ABSENCE: _Absence}
    needed = {_step_of(rule) for rule in rules} or {AS_THEY_COME}
    outputs = []
    for tag in sorted(needed):
        step = steps[tag]
        keyed = matched[tag] | f"{step.__name__[1:]}Keys" >> beam.Map(_itself).with_output_types(tuple[str, bytes])
        if tag == ABSENCE and memory is not None:
            # Of what was silent when an earlier life of the job ended, nothing need ever come again.
            keys = [(f"{rule.name}|{shard}", b"") for rule in rules if rule.absent for shard in range(shards)]
            woken = matched[tag].pipeline | "Silent" >> beam.Create(keys, reshuffle=False).with_output_types(tuple[str, bytes])
            keyed = (keyed, woken) | "OrSilent" >> beam.Flatten()
        outputs.append(keyed | step.__name__[1:] >> beam.ParDo(step(rules, memory, shards, clock)))
    return outputs[0] if len(outputs) == 1 else tuple(outputs) | "Fired" >> beam.Flatten()


class _MatchEvents(beam.DoFn):
    def __init__(self, rules: tuple[Rule, ...], shards: int) -> None:
        self._rules = rules
        self._shards = shards

    def process(self, element: Admitted) -> Iterator[Any]:
        for rule in self._rules:
            yield from _keyed(rule, event_rows(rule, element.columns), self._shards)


class _MatchWindows(beam.DoFn):
    def __init__(self, rules: tuple[Rule, ...], shards: int) -> None:
        self._rules = rules
        self._shards = shards

    def process(self, rows: pl.DataFrame) -> Iterator[Any]:
        for rule in self._rules:
            yield from _keyed(rule, window_rows(rule, rows), self._shards)


def _keyed(rule: Rule, rows: pl.DataFrame, shards: int) -> Iterator[Any]:
    if rows.is_empty():
        return
    found = spans(rows).with_columns(pl.col("last").alias(TIME)) if rule.absent else judged(rule, rows)
    for shard, part in by_shard(found, shards):
        yield beam.pvalue.TaggedOutput(_step_of(rule), (f"{rule.name}|{shard}", pack(part)))


def _step_of(rule: Rule) -> str:
    return ABSENCE if rule.absent else IN_ORDER if rule.is_ordered else AS_THEY_COME


class _Step(beam.DoFn):
    """What the three kinds share: the books, and the memory behind them."""

    def __init__(self, rules: tuple[Rule, ...], memory: OpenMemory | None, shards: int, clock: Callable[[], int]) -> None:
        self._rules: Mapping[str, Rule] = {rule.name: rule for rule in rules}
        self._memory = memory
        self._shards = shards
        self._clock = clock

    def rule(self, key: str) -> Rule:
        return self._rules[key.rpartition("|")[0]]

    def open(self, key: str, state: Any) -> Book:
        """The book of a key: the runner's state, or when it has none, what the job remembers."""
        if data := state.read():
            return Book.unpack(data)
        if self._memory is None:
            return Book()
        rule, _, shard = key.rpartition("|")
        return Book.remembered(self._memory().load(rule), int(shard), self._shards)

    def close(self, key: str, book: Book, state: Any, outcome: Outcome) -> list[Fired]:
        if self._memory is not None and (outcome.remember or outcome.fired):
            self._memory().commit(self.rule(key).name, outcome.remember, outcome.fired)
        state.write(book.pack())
        return outcome.fired


class _AsTheyCome(_Step):
    BOOK = ReadModifyWriteStateSpec("book", BytesCoder())

    def process(self, element: tuple[str, bytes], state: Any = beam.DoFn.StateParam(BOOK)) -> Iterator[Fired]:
        key, data = element
        book = self.open(key, state)
        outcome = book.judge(self.rule(key), unpack(data).iter_rows(named=True), now=self._clock())
        yield from self.close(key, book, state, outcome)


class _InOrder(_Step):
    BOOK = ReadModifyWriteStateSpec("book", BytesCoder())
    WAITING = BagStateSpec("waiting", BytesCoder())
    ARMED = ReadModifyWriteStateSpec("armed", BytesCoder())
    DUE = TimerSpec("due", TimeDomain.WATERMARK)

    def process(
        self,
        element: tuple[str, bytes],
        time: Timestamp = beam.DoFn.TimestampParam,
        waiting: Any = beam.DoFn.StateParam(WAITING),
        armed: Any = beam.DoFn.StateParam(ARMED),
        due: Any = beam.DoFn.TimerParam(DUE),
    ) -> Iterator[Fired]:
        _, data = element
        waiting.add(data)
        if not armed.read():
            _arm(newest(data), armed, due, at_least=time.micros)
        yield from ()

    @on_timer(DUE)
    def on_due(
        self,
        key: str = beam.DoFn.KeyParam,
        state: Any = beam.DoFn.StateParam(BOOK),
        waiting: Any = beam.DoFn.StateParam(WAITING),
        armed: Any = beam.DoFn.StateParam(ARMED),
        due: Any = beam.DoFn.TimerParam(DUE),
    ) -> Iterator[Fired]:
        packed = armed.read()
        if not packed:
            return
        (until,) = _TIME.unpack(packed)
        rows = [row for data in waiting.read() for row in unpack(data).iter_rows(named=True)]
        waiting_still = [data for data in waiting.read() if newest(data) > until]
        rule, book = self.rule(key), self.open(key, state)
        ready = [row for row in rows if book.judged < row[TIME] <= until]
        ready.sort(key=lambda row: (row[TIME], row.get("epoch", 0), row.get("seq", 0)))
        outcome = book.judge(rule, ready, now=self._clock())
        book.judged = max(book.judged, until)
        book.forget_idle()
        waiting.clear()
        armed.clear()
        for data in waiting_still:
            # What of it has been judged is passed over the next time.
            waiting.add(data)
        if waiting_still:
            _arm(max(map(newest, waiting_still)), armed, due)
        yield from self.close(key, book, state, outcome)


class _Absence(_Step):
    BOOK = ReadModifyWriteStateSpec("book", BytesCoder())
    ARMED = ReadModifyWriteStateSpec("armed", BytesCoder())
    DUE = TimerSpec("due", TimeDomain.WATERMARK)

    def process(
        self,
        element: tuple[str, bytes],
        time: Timestamp = beam.DoFn.TimestampParam,
        state: Any = beam.DoFn.StateParam(BOOK),
        armed: Any = beam.DoFn.StateParam(ARMED),
        due: Any = beam.DoFn.TimerParam(DUE),
    ) -> Iterator[Fired]:
        key, data = element
        rule, book = self.rule(key), self.open(key, state)
        if not data:
            self._arm(rule, book, armed, due, at_least=time.micros)
            return
        outcome = book.seen(rule, unpack(data).select(*SERIES, "first", "last").iter_rows(), now=self._clock())
        self._arm(rule, book, armed, due, at_least=time.micros)
        yield from self.close(key, book, state, outcome)

    def open(self, key: str, state: Any) -> Book:
        book = super().open(key, state)
        if not state.read():
            book.expect_unremembered(self.rule(key))
        return book

    @on_timer(DUE)
    def on_due(
        self,
        key: str = beam.DoFn.KeyParam,
        state: Any = beam.DoFn.StateParam(BOOK),
        armed: Any = beam.DoFn.StateParam(ARMED),
        due: Any = beam.DoFn.TimerParam(DUE),
    ) -> Iterator[Fired]:
        packed = armed.read()
        if not packed:
            return
        armed.clear()
        rule, book = self.rule(key), self.open(key, state)
        outcome = book.absent(rule, _TIME.unpack(packed)[0], now=self._clock())
        self._arm(rule, book, armed, due)
        yield from self.close(key, book, state, outcome)

    @staticmethod
    def _arm(rule: Rule, book: Book, armed: Any, due: Any, *, at_least: int | None = None) -> None:
        following = book.next_absence(rule)
        packed = armed.read()
        if following is not None and (not packed or following < _TIME.unpack(packed)[0]):
            _arm(following, armed, due, at_least=at_least)


def _arm(time: int, armed: Any, due: Any, *, at_least: int | None = None) -> None:
    """Wake when everything up to ``time`` has come. Runners count in milliseconds; rows of that very time may be on their way."""
    armed.write(_TIME.pack(time))
    wake = -(-time // _MILLISECOND) * _MILLISECOND + _MILLISECOND
    due.set(Timestamp(micros=wake if at_least is None else max(wake, at_least)))


def _itself(element: tuple[str, bytes]) -> tuple[str, bytes]:
    return element
