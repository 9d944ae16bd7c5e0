"""Intervals of the past: the tree that finds them, what is kept of them, and pieces of content."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i2core.history.index.fork import fork, way
from i2core.history.plan.content import Content
from i2core.history.retention.kept import Kept
from i2core.history.retention.merge import Cover

_SEQS = st.integers(0, 300)


@given(_SEQS, st.integers(1, 300), _SEQS)
def test_an_interval_is_found_at_each_of_its_moments_and_nowhere_else(since: int, length: int, seq: int) -> None:
    until = since + length
    below, above = way(seq, 700)
    node = fork(since, until)
    assert since <= node < until
    found = (node in below and until > seq) or (node in above and since <= seq)
    assert found == (since <= seq < until)


def test_few_nodes_lead_to_a_moment_of_a_long_history() -> None:
    below, above = way(123_456_789, 1 << 40)
    assert len(below) + len(above) <= 43


def test_a_row_is_kept_while_a_kept_moment_lies_in_it() -> None:
    kept = Kept(100, [20, 60])
    assert kept.needs(10, 21)
    assert not kept.needs(10, 20)
    assert not kept.needs(21, 60)
    assert kept.needs(60, 61)
    assert kept.needs(90, 101)
    assert not kept.needs(61, 100)
    assert kept.oldest == 20


def test_neighbours_of_a_moment_that_is_gone() -> None:
    kept = Kept(100, [20, 60])
    assert kept.neighbours(10) == (None, 20)
    assert kept.neighbours(30) == (20, 60)
    assert kept.neighbours(99) == (60, 100)
    assert list(kept.ranges(30, 200)) == [range(60, 61), range(100, 201)]
    assert list(kept.ranges(0, 50)) == [range(20, 21)]
    assert not kept.has(30)
    assert kept.has(60)
    assert kept.has(100)


def test_what_was_given_up_cannot_be_kept_again() -> None:
    kept = Kept(100, [20, 60])
    assert kept.shrunk(150, [60, 120]) == Kept(150, [60, 120])
    with pytest.raises(ValueError, match="given up"):
        kept.shrunk(150, [30])
    with pytest.raises(ValueError, match="given up"):
        kept.shrunk(90, [])


@given(st.lists(st.tuples(st.integers(0, 15), st.integers(1, 16)), min_size=1, max_size=8))
def test_cover_knows_the_last_row_of_each_byte(rows: list[tuple[int, int]]) -> None:
    cover, bytes_ = Cover(0), [0] * 32
    for until, (lo, length) in enumerate(rows, 1):
        found = cover.put(lo, lo + length, until)
        assert set(found) == set(bytes_[lo : lo + length])
        bytes_[lo : lo + length] = [until] * length


@given(st.lists(st.tuples(st.sampled_from(["write", "clear", "resize"]), st.integers(0, 40), st.integers(1, 20))))
def test_content_is_what_the_planned_records_make_of_the_disk(changes: list[tuple[str, int, int]]) -> None:
    disk = bytes(range(1, 31))
    content, right = Content(len(disk)), bytearray(disk)
    for seq, (kind, at, size) in enumerate(changes, 1):
        if kind == "write":
            data = bytes([100 + seq % 100]) * size
            right += bytes(max(0, at - len(right)))
            right[at : at + size] = data
            content.write(at, data, seq)
        elif kind == "clear":
            end = min(len(right), at + size)
            right[at:end] = bytes(max(0, end - at))
            content.clear(at, at + size, seq, hole=True)
        else:
            right = right[:at] + bytes(max(0, at - len(right)))
            content.resize(at, seq)
    found = bytearray()
    for lo, hi, piece in content.parts(0, content.size):
        assert lo == len(found)
        found += disk[lo:hi] if piece is None else bytes(hi - lo) if piece.data is None else bytes(piece.data)
    assert found == right
