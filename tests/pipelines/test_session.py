"""What the parts of a job share in a process: credit that bounds memory, readers one at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers import Message, connect
from pipelines.session import Credit, Session, close_session, open_session, session_of


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 400), st.integers(0, 300)), max_size=60))
def test_what_is_under_way_exceeds_the_credit_by_no_more_than_one_block(steps: list[tuple[bool, int, int]]) -> None:
    credit = Credit(1000)
    sent: list[int] = []
    for take, most, size in steps:
        if take:
            granted = credit.take(most)
            assert granted <= most
            if granted:
                credit.settle(granted, size)
                sent.append(size)
        elif sent:
            credit.give_back(sent.pop())
        assert credit.used == sum(sent)
        assert credit.used < 1000 + 300
    for size in sent:
        credit.give_back(size)
    assert credit.used == 0


def test_all_credit_used_grants_nothing_until_some_is_given_back() -> None:
    credit = Credit(1000)
    credit.settle(credit.take(600), 600)
    credit.settle(credit.take(600), 400)
    assert credit.take(100) == 0
    credit.give_back(400)
    assert credit.take(300) == 300


def test_a_reader_is_used_by_one_at_a_time_and_kept(tmp_path: Path) -> None:
    url = f"local:{tmp_path}/log"
    connect(url).publisher().publish([Message("t", "k", b"x")])
    session = Session()
    with session.reader(url, "t", 0) as first, session.reader(url, "t", 0) as second:
        assert first is not second
    with session.reader(url, "t", 0) as again:
        assert again is second
        assert again.end_offset("t", 0) == 1
    session.close()


def test_a_reader_that_failed_is_not_used_again(tmp_path: Path) -> None:
    session = Session()
    with pytest.raises(ZeroDivisionError), session.reader(f"local:{tmp_path}/log", "t", 0) as broken:
        raise ZeroDivisionError
    with session.reader(f"local:{tmp_path}/log", "t", 0) as other:
        assert other is not broken
    session.close()


def test_a_jobs_parts_find_its_session_by_its_id() -> None:
    opened = open_session("job-1", credit=5)
    assert session_of("job-1") is opened
    assert session_of("job-2") is not opened
    close_session("job-1")
    close_session("job-2")
    assert session_of("job-1") is not opened
    close_session("job-1")
