"""Exact sums of squares, and with them the standard deviation that exact arithmetic would find, rounded once.

The square of a double is two doubles (Dekker 1971); each is split into integers of fixed scales, whose sums are exact in 64 bits
(see `transforms.exact`). Values that are left out of the sums there are squared as Python integers.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from transforms.exact import Doubles, Ints

#: Limbs of 40 bits: the highest counts 2^32, the lowest 2^-168, twice as deep as those of `transforms.exact`.
LIMBS: Final = 6
_LIMB: Final = 40
_HIGH: Final = 2.0**-32
_STEP: Final = 2.0**_LIMB
_MASK: Final = (1 << _LIMB) - 1
#: Multiplied by it, a double is cut into halves of 26 bits.
_SPLITTER: Final = float((1 << 27) + 1)
#: Squares of doubles are multiples of 2^-2148; of those that have limbs, of 2^-168.
_ALL_BITS: Final = 2_148
_LIMB_BITS: Final = 168
_SUM_BITS: Final = 84


def split(values: Doubles) -> list[Ints | None]:
    """The limbs of each square, highest first; None where all are zero. Values must fit the limbs of `transforms.exact.split`."""
    square = values * values
    halves = values * _SPLITTER
    upper = halves - (halves - values)
    lower = values - upper
    error = ((upper * upper - square) + 2.0 * upper * lower) + lower * lower
    limbs: list[Ints | None] = []
    parts = [square * _HIGH, error * _HIGH]
    for _ in range(LIMBS):
        parts = [part for part in parts if part.any()]
        rounded = [np.rint(part) for part in parts]
        limbs.append(sum(rounded[1:], rounded[0]).astype(np.int64) if rounded else None)
        parts = [(part - whole) * _STEP for part, whole in zip(parts, rounded, strict=True)]
    return limbs


def normalise(limbs: list[Ints]) -> list[Ints]:
    """The same sums with limbs of 40 bits below the highest, so that they can be summed again."""
    carried = list(limbs)
    for place in range(LIMBS - 1, 0, -1):
        carried[place - 1] = carried[place - 1] + (carried[place] >> _LIMB)
        carried[place] = carried[place] & _MASK
    return carried


def pack(value: float) -> bytes:
    """The square of a value that has no limbs; empty for one that is infinite."""
    if math.isinf(value):
        return b""
    numerator, denominator = value.as_integer_ratio()
    return _bytes((numerator * numerator) << (_ALL_BITS - 2 * (denominator.bit_length() - 1)))


def add(squares: list[bytes]) -> bytes:
    """The sum of what `pack` or `add` gave."""
    return b"" if b"" in squares else _bytes(sum(int.from_bytes(square, "little") for square in squares))


def deviation(count: int, total: int, limbs: list[int], rest: list[float], square: bytes | None) -> float | None:
    """The sample standard deviation; None of fewer than two values, NaN with an infinite one.

    ``total`` is the sum in units of 2^-84 and ``limbs`` that of squares, of all values but those of ``rest`` (any doubles of
    the same sum) and ``square`` (`add`).
    """
    if count < 2:
        return None
    squares = 0
    for limb in limbs:
        squares = (squares << _LIMB) + limb
    bits = _LIMB_BITS
    if square is not None:
        if not square or not all(map(math.isfinite, rest)):
            return math.nan
        shift = _ALL_BITS - _LIMB_BITS
        total = (total << shift // 2) + sum(_scaled(value, _SUM_BITS + shift // 2) for value in rest)
        squares = (squares << shift) + int.from_bytes(square, "little")
        bits = _ALL_BITS
    return _root(count * squares - total * total, (count * (count - 1)) << bits)


def _root(numerator: int, denominator: int) -> float:
    """The square root of a fraction, rounded once to the nearest double.

    An integer root of 55 bits or more, its last bit set when it is not exact, rounds as the true one does.
    """
    if not numerator:
        return 0.0
    shift = max(0, (112 - numerator.bit_length() + denominator.bit_length() + 1) // 2)
    whole, left = divmod(numerator << 2 * shift, denominator)
    root = math.isqrt(whole)
    root |= bool(left) or root * root != whole
    try:
        return root / (1 << shift)
    except OverflowError:
        return math.inf


def _scaled(value: float, bits: int) -> int:
    numerator, denominator = value.as_integer_ratio()
    return numerator << (bits - (denominator.bit_length() - 1))


def _bytes(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "little")
