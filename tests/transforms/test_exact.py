"""Sums: correctly rounded, and the same in whatever order and grouping values come."""

from __future__ import annotations

import math
import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from transforms import exact

sensor_like = st.floats(-1e6, 1e6).map(lambda value: round(value, 3)) | st.floats(-100, 100)
anything = sensor_like | st.floats(allow_nan=False) | st.sampled_from([1e300, -1e300, 5e-324, 2.0**31, -(2.0**31), 1e-30])


def summed(values: list[float], groups: int) -> float:
    """The sum of values, in ``groups`` parts that are carried and merged as partials are."""
    limbs = [0, 0, 0]
    rest: list[float] = []
    for group in range(groups):
        part = np.array(values[group::groups], np.float64)
        high, middle, low, odd = exact.split(part)
        limbs[0] += int(high.sum())
        limbs[1] += int(middle.sum())
        limbs[2] += 0 if low is None else int(low.sum())
        rest += [] if odd is None else part[odd].tolist()
        high, middle, low = exact.normalise(*(np.array([limb], np.int64) for limb in limbs))
        limbs = [int(limb[0]) for limb in (high, middle, low)]
        rest = exact.reduce_rest(rest)
    if not rest:
        return float(exact.total(*(np.array([limb], np.int64) for limb in limbs))[0])
    return exact.total_with_rest(limbs[0], limbs[1], limbs[2], rest)


@given(st.lists(anything, min_size=1, max_size=200), st.integers(1, 7), st.randoms(use_true_random=False))
def test_a_sum_is_correctly_rounded_in_any_order_and_grouping(values: list[float], groups: int, shuffled: random.Random) -> None:
    expected = exact.fsum(values)
    mixed = list(values)
    shuffled.shuffle(mixed)
    for found in (summed(values, 1), summed(values, groups), summed(mixed, groups)):
        assert found == expected or (math.isnan(found) and math.isnan(expected))


@given(st.lists(sensor_like, min_size=1, max_size=300))
def test_measurements_of_ordinary_size_need_no_list_of_the_rest(values: list[float]) -> None:
    _, _, _, odd = exact.split(np.array([value for value in values if abs(value) >= 1e-7 or value == 0] or [0.0]))
    assert odd is None


def test_a_long_rest_is_reduced_without_changing_its_sum() -> None:
    values = [(-1) ** place * 1e12 / (place + 1) for place in range(2000)]
    reduced = exact.reduce_rest(values)
    assert len(reduced) < 60
    assert math.fsum(reduced) == math.fsum(values)


def test_sums_beyond_the_largest_double_are_infinite_and_opposite_infinities_no_number() -> None:
    assert exact.fsum([1.7e308, 1.7e308]) == math.inf
    assert exact.fsum([-1.7e308, -1.7e308]) == -math.inf
    assert math.isnan(exact.fsum([math.inf, -math.inf]))


def test_a_million_values_at_the_limit_do_not_overflow() -> None:
    values = np.full(1_000_000, np.nextafter(2.0**31, 0))
    high, middle, low, odd = exact.split(values)
    assert odd is None
    sums = [np.array([limb.sum() if limb is not None else 0], np.int64) for limb in (high, middle, low)]
    assert exact.total(*exact.normalise(*sums))[0] == math.fsum(values)
