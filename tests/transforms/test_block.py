"""Blocks come out as they went in, and bytes that are no block are refused."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers import Record
from transforms.block import Block, block_of, decode_block, encode_block

values = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 2**50), st.binary(max_size=60)), min_size=1, max_size=20)
longs = st.integers(-(2**63), 2**63 - 1)


def block(found: list[tuple[int, int, bytes]], first: int, watermark: int) -> Block:
    offsets = first + np.cumsum([step for step, _, _ in found])
    records = [Record(int(offset), time, "k", value) for offset, (_, time, value) in zip(offsets, found, strict=True)]
    return block_of("site.ü.temperature", 3, records, watermark=watermark)


@given(values, st.integers(0, 2**40), longs)
def test_a_block_comes_out_as_it_went_in(found: list[tuple[int, int, bytes]], first: int, watermark: int) -> None:
    given_block = block(found, first, watermark)
    back = decode_block(encode_block(given_block))
    assert back.frames() == [value for _, _, value in found]
    assert (back.topic, back.partition, back.watermark) == ("site.ü.temperature", 3, watermark)
    assert (back.first_offset, back.next_offset) == (given_block.first_offset, given_block.next_offset)
    assert back.append_time == max(time for _, time, _ in found)
    assert (back.offsets == given_block.offsets).all()
    assert len(back) == len(found)


@given(values, st.data())
def test_bytes_that_are_no_block_are_refused(found: list[tuple[int, int, bytes]], data: st.DataObject) -> None:
    whole = encode_block(block(found, 0, 0))
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises((ValueError, OSError, struct.error)):
        decode_block(whole[:cut])
