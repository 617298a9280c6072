"""What every journal must do. An implementation's test module inherits `JournalContract` and says how to open one.

The guarantees are those of `storage.contract.Journal`.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from schemas.registry import Schemas
from storage import Journal, open_journal
from storage.contract import Extent, JournalRecord
from storage.errors import Overtaken
from tests.examples import examples
from tests.storage.frames import HOUR, RECORD_KINDS, LogRecord, records

TOPIC = "site.app.temperature"


def values(found: Sequence[JournalRecord] | Sequence[LogRecord]) -> list[tuple[int, int, bytes]]:
    return [(offset, time, value) for offset, time, _, value in found]


class JournalContract:
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        raise NotImplementedError

    @pytest.fixture
    def journal(self, url: str) -> Journal:
        return open_journal(url, Schemas.with_shipped())

    def test_an_empty_journal_has_no_next_offset(self, journal: Journal) -> None:
        assert journal.next_offset(TOPIC, 0) is None
        assert list(journal.read(TOPIC, 0)) == []
        assert list(journal.partitions()) == []

    def test_what_was_appended_is_read_back_as_it_was(self, journal: Journal) -> None:
        sent = records("rrscrxud", first=7)
        assert journal.append(TOPIC, 3, sent, first=7) == 15
        assert values(list(journal.read(TOPIC, 3))) == values(sent)
        assert journal.next_offset(TOPIC, 3) == 15
        assert list(journal.partitions()) == [(TOPIC, 3)]

    def test_another_reader_sees_it_at_once(self, url: str, journal: Journal) -> None:
        journal.append(TOPIC, 0, records("rr"), first=0)
        other = open_journal(url, Schemas.with_shipped())
        assert other.next_offset(TOPIC, 0) == 2

    def test_appends_follow_each_other_without_holes(self, journal: Journal) -> None:
        journal.append(TOPIC, 0, records("rr"), first=0)
        journal.append(TOPIC, 0, records("rcr", first=2, time=5 * HOUR), first=2)
        assert list(journal.extents(TOPIC, 0)) == [Extent(0, 2), Extent(2, 5)]
        assert list(journal.extents(TOPIC, 0, start=2)) == [Extent(2, 5)]
        assert [found.offset for found in journal.read(TOPIC, 0, start=1, end=4)] == [1, 2, 3]

    def test_an_append_that_does_not_follow_is_refused_and_told_where_to_go_on(self, journal: Journal) -> None:
        journal.append(TOPIC, 0, records("rr"), first=0)
        for first in (0, 1, 3):
            with pytest.raises(Overtaken) as refused:
                journal.append(TOPIC, 0, records("r", first=first), first=first)
            assert refused.value.next_offset == 2
        assert journal.next_offset(TOPIC, 0) == 2

    def test_a_clock_set_back_does_not_change_the_order(self, journal: Journal) -> None:
        journal.append(TOPIC, 0, records("r", time=30 * HOUR), first=0)
        journal.append(TOPIC, 0, records("r", first=1, time=2 * HOUR), first=1)
        journal.append(TOPIC, 0, records("r", first=2, time=3 * HOUR), first=2)
        assert journal.next_offset(TOPIC, 0) == 3
        assert [found.offset for found in journal.read(TOPIC, 0)] == [0, 1, 2]

    def test_offsets_the_log_no_longer_had_are_noted(self, journal: Journal) -> None:
        journal.append(TOPIC, 0, records("r"), first=0)
        assert journal.append_lost(TOPIC, 0, first=1, next_offset=50, time=HOUR, reason="expired") == 50
        journal.append(TOPIC, 0, records("r", first=50), first=50)
        assert list(journal.extents(TOPIC, 0)) == [Extent(0, 1), Extent(1, 50), Extent(50, 51)]
        assert [found.offset for found in journal.read(TOPIC, 0)] == [0, 50]

    def test_holes_in_the_offsets_of_a_log_are_kept(self, journal: Journal) -> None:
        sent = [(offset * 3, time, key, value) for offset, time, key, value in records("rrr")]
        assert journal.append(TOPIC, 0, sent, first=0) == 7
        assert [found.offset for found in journal.read(TOPIC, 0)] == [0, 3, 6]

    def test_offsets_that_do_not_rise_are_refused(self, journal: Journal) -> None:
        with pytest.raises(ValueError, match="do not rise"):
            journal.append(TOPIC, 0, records("rr")[::-1], first=0)
        with pytest.raises(ValueError, match="do not rise"):
            journal.append(TOPIC, 0, records("r"), first=5)

    @examples(25, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        kinds=st.text(alphabet="".join(RECORD_KINDS), min_size=1, max_size=30), cuts=st.sets(st.integers(1, 29)), data=st.data()
    )
    def test_any_mix_of_records_comes_back_whole_and_in_order(
        self, journal: Journal, kinds: str, cuts: set[int], data: st.DataObject
    ) -> None:
        sent = records(kinds)
        topic = f"t{uuid.uuid4().hex}"
        bounds = sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})
        for start, end in pairwise(bounds):
            journal.append(topic, 0, sent[start:end], first=start)
        start = data.draw(st.integers(0, len(sent)))
        end = data.draw(st.integers(start, len(sent)))
        assert values(list(journal.read(topic, 0, start=start, end=end))) == values(sent[start:end])

    def test_of_writers_of_the_same_offsets_one_succeeds_each_time(self, url: str) -> None:
        """Every writer copies the whole log; between them each offset is kept once."""
        sent = records("rc" * 100)
        won: list[int] = []
        failed: list[BaseException] = []
        start = threading.Barrier(4)

        def copy(step: int) -> None:
            try:
                journal = open_journal(url, Schemas.with_shipped())
                start.wait()
                position = 0
                while position < len(sent):
                    try:
                        position = journal.append(TOPIC, 0, sent[position : position + step], first=position)
                        won.append(position)
                    except Overtaken as overtaken:
                        position = overtaken.next_offset
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=copy, args=(step,)) for step in (3, 5, 7, 11)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        journal = open_journal(url, Schemas.with_shipped())
        assert values(list(journal.read(TOPIC, 0))) == values(sent)
        assert sorted(won) == [extent.next for extent in journal.extents(TOPIC, 0)]
