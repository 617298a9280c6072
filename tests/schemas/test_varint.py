"""Integers and strings as Avro encodes them."""

from __future__ import annotations

import io

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import FrameError
from schemas.varint import decode_long, decode_string, encode_long, encode_string
from tests.schemas.events import longs


@pytest.mark.parametrize(
    ("number", "data"),
    [
        (0, "00"),
        (-1, "01"),
        (1, "02"),
        (-2, "03"),
        (-64, "7f"),
        (64, "8001"),
        (2**63 - 1, "feffffffffffffffff01"),
        (-(2**63), "ffffffffffffffffff01"),
    ],
)
def test_the_examples_of_the_specification_and_the_extremes(number: int, data: str) -> None:
    assert encode_long(number).hex() == data
    assert decode_long(bytes.fromhex(data), 0) == (number, len(data) // 2)


@given(longs, st.binary(max_size=5), st.binary(max_size=5))
def test_integers_are_read_where_they_stand(number: int, before: bytes, after: bytes) -> None:
    assert decode_long(before + encode_long(number) + after, len(before)) == (number, len(before + encode_long(number)))


@given(longs, st.text())
def test_fastavro_writes_the_same(number: int, text: str) -> None:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", number)
    fastavro.schemaless_writer(out, "string", text)
    assert encode_long(number) + encode_string(text) == out.getvalue()


@given(st.text(), st.binary(max_size=5))
def test_strings_are_read_where_they_stand(text: str, after: bytes) -> None:
    data = encode_string(text)
    assert decode_string(data + after, 0) == (text, len(data))


@pytest.mark.parametrize("data", ["", "80", "ffffffffffffffffffff01", "ffffffffffffffffff02"])
def test_what_is_no_64_bit_integer_is_refused(data: str) -> None:
    with pytest.raises(FrameError):
        decode_long(bytes.fromhex(data), 0)


@pytest.mark.parametrize("data", ["", "02", "0461", "01", "02ff", "feffffffffffffffff01"])
def test_what_is_no_string_is_refused(data: str) -> None:
    with pytest.raises(FrameError):
        decode_string(bytes.fromhex(data), 0)
