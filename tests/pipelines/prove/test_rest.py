"""What is taken from intervals, against sets of numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipelines.prove.rest import Rest, joined, length

END = 40
INTERVALS = st.lists(st.tuples(st.integers(0, END + 5), st.integers(0, 12)).map(lambda found: (found[0], sum(found))), max_size=6)


def numbers(intervals: object) -> set[int]:
    return {number for first, following in intervals for number in range(first, following)}  # type: ignore[attr-defined]


@given(st.integers(0, END), st.lists(INTERVALS, max_size=4), st.integers(0, END), st.integers(0, END + 5))
def test_shares_are_those_of_sets(end: int, wanted: list[list[tuple[int, int]]], last: int, place: int) -> None:
    rest, left = Rest(end), set(range(end))
    for intervals in wanted:
        taken = rest.take(joined(intervals))
        assert taken == len(left & numbers(intervals))
        left -= numbers(intervals)
        assert numbers(rest.intervals) == left
        assert len(rest) == length(rest.intervals) == len(left)
    before, after = rest.split(place)
    assert (numbers(before), numbers(after)) == ({one for one in left if one < place}, {one for one in left if one >= place})
    assert rest.take_last(last) == min(last, len(left))
    assert numbers(rest.intervals) == set(sorted(left)[: max(0, len(left) - last)])
