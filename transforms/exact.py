"""Sums of doubles that do not depend on order, and are correctly rounded.

A value is split into integers of three fixed scales (2^-4, 2^-44, 2^-84), whose sums are exact in 64 bits however the
values are ordered or grouped; in the manner of Demmel and Nguyen, "Parallel Reproducible Summation" (2015), but with
integers. What does not fit exactly (beyond 2^31, bits below 2^-84, infinities) is carried as it is, in a list: rare
among measurements, and still exact. `total` then rounds once, as `math.fsum` does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Bits that a limb of a value may take, and that are carried over when limbs are normalised.
_LIMB: Final = 40
_HIGH: Final = 2.0**4
_STEP: Final = 2.0**_LIMB
_LIMIT: Final = 2.0**31
_LOWEST: Final = 84
_MASK: Final = (1 << _LIMB) - 1
#: A list of carried values longer than this is reduced to the few doubles that make the same sum.
_LONGEST_REST: Final = 64
_HUGE: Final = 1e290


def split(values: Doubles) -> tuple[Ints, Ints, Ints | None, npt.NDArray[np.bool_] | None]:
    """High, middle and low limbs of each value, and which values are left out of them; None where all are zero or none is."""
    odd: npt.NDArray[np.bool_] | None = None
    inside = np.abs(values) < _LIMIT
    if not inside.all():
        odd = ~inside
        values = np.where(inside, values, 0.0)
    scaled = values * _HIGH
    high = np.rint(scaled)
    left = (scaled - high) * _STEP
    middle = np.rint(left)
    left -= middle
    if not left.any():
        return high.astype(np.int64), middle.astype(np.int64), None, odd
    left *= _STEP
    low = np.rint(left)
    inexact = left != low
    if inexact.any():
        odd = inexact if odd is None else odd | inexact
        high, middle, low = (np.where(inexact, 0.0, limb) for limb in (high, middle, low))
    return high.astype(np.int64), middle.astype(np.int64), low.astype(np.int64), odd


def normalise(high: Ints, middle: Ints, low: Ints) -> tuple[Ints, Ints, Ints]:
    """The same sums with middle and low limbs of 40 bits, so that they can be summed again: 2^22 of them, or of single values."""
    middle = middle + (low >> _LIMB)
    return high + (middle >> _LIMB), middle & _MASK, low & _MASK


def total(high: Ints, middle: Ints, low: Ints) -> Doubles:
    """The sums as doubles, each rounded once to the nearest, ties to even."""
    scale = 1 << _LOWEST
    sums = [
        ((a << 2 * _LIMB) + (b << _LIMB) + c) / scale
        for a, b, c in zip(high.tolist(), middle.tolist(), low.tolist(), strict=True)
    ]
    return np.array(sums, np.float64)


def total_with_rest(high: int, middle: int, low: int, rest: Iterable[float]) -> float:
    """The sum of limbs and the values that were left out of them, rounded once; infinite or not a number where it is so."""
    parts = [_scaled(high, -4), _scaled(middle & _MASK, -44), _scaled(low & _MASK, -_LOWEST)]
    parts += [_scaled(middle >> _LIMB, -4), _scaled(low >> _LIMB, -44)]
    return fsum([*(part for pair in parts for part in pair), *rest])


def fsum(values: Iterable[float]) -> float:
    """`math.fsum`, with infinity or not-a-number in the place of its errors."""
    listed = list(values)
    try:
        return math.fsum(listed)
    except OverflowError:
        # Scaled down the sum is finite, and has the sign of the infinity it stands for.
        return math.copysign(math.inf, math.fsum(math.ldexp(value, -100) for value in listed))
    except ValueError:
        return math.nan


def reduce_rest(values: list[float]) -> list[float]:
    """Fewer doubles with the same exact sum (Shewchuk 1997, grow-expansion), when there are many."""
    if len(values) <= _LONGEST_REST:
        return values
    partials: list[float] = []
    # Infinities add up to themselves; the largest doubles would overflow where their exact sum does not.
    carried = sorted({value for value in values if math.isinf(value)})
    for value in values:
        if math.isinf(value):
            continue
        if abs(value) > _HUGE:
            carried.append(value)
            continue
        kept = 0
        for partial in partials:
            big, small = (value, partial) if abs(value) >= abs(partial) else (partial, value)
            value = big + small
            error = small - (value - big)
            if error:
                partials[kept] = error
                kept += 1
        partials[kept:] = [value]
    return [*carried, *partials]


def _scaled(number: int, exponent: int) -> tuple[float, float]:
    """``number * 2**exponent`` as two doubles that are exact together; ``number`` has up to 64 bits."""
    upper = (number >> 32) << 32
    return math.ldexp(float(upper), exponent), math.ldexp(float(number - upper), exponent)
