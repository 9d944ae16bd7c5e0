"""A block map equals the list of its digests, whatever runs it is made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i2core.api import ProtocolError
from i2core.api.blockmap import MAP_BLOCKS, ZERO_DIGEST, BlockMap, Cursor

digests = st.sampled_from([bytes([n]) * 16 for n in range(4)] + [ZERO_DIGEST])
runs = st.lists(st.integers(0, 5) | st.lists(digests, max_size=4).map(b"".join), max_size=8)


def made(parts: list[int | bytes]) -> BlockMap:
    blocks = BlockMap()
    for part in parts:
        blocks.add_zeros(part) if isinstance(part, int) else blocks.add(part)
    return blocks


def listed(parts: list[int | bytes]) -> list[bytes]:
    dense = b"".join([ZERO_DIGEST * part if isinstance(part, int) else part for part in parts])
    return [dense[at : at + 16] for at in range(0, len(dense), 16)]


@given(runs)
def test_a_map_is_its_list(parts: list[int | bytes]) -> None:
    blocks, model = made(parts), listed(parts)
    assert blocks.dense() == b"".join(model)
    assert blocks.blocks == len(model)
    assert bool(blocks) == bool(model)
    assert BlockMap.decode(blocks.encode()) == blocks


@given(runs, runs)
def test_maps_are_joined(one: list[int | bytes], other: list[int | bytes]) -> None:
    blocks = made(one)
    blocks.append(made(other))
    assert blocks.dense() == b"".join(listed(one) + listed(other))


@given(runs, st.integers(0, 30), st.integers(0, 30))
def test_a_part_of_a_map(parts: list[int | bytes], first: int, behind: int) -> None:
    part = made(parts).part(first, behind)
    assert part.dense() == b"".join(listed(parts)[first:behind])
    assert part.blocks == len(listed(parts)[first:behind])


@given(runs, st.lists(st.tuples(st.booleans(), st.integers(0, 6)), max_size=10))
def test_a_cursor_goes_through_the_list(parts: list[int | bytes], steps: list[tuple[bool, int]]) -> None:
    cursor, model, at = Cursor(made(parts)), listed(parts), 0
    for takes, count in steps:
        assert model[at : at + cursor.zeros()] == [ZERO_DIGEST] * cursor.zeros()
        left = cursor.data()
        assert (left is None) == (at >= len(model))
        if takes:
            assert cursor.take(count) == [model[n] if n < len(model) else None for n in range(at, at + count)]
        else:
            cursor.skip(count)
        at += count


def test_a_terabyte_of_holes_is_short() -> None:
    blocks = BlockMap()
    blocks.add_zeros(1 << 24)
    blocks.add(bytes(16))
    blocks.add_zeros(1 << 24)
    assert len(blocks.encode()) < 50
    assert blocks.part(1 << 20, 1 << 25).blocks == (1 << 25) - (1 << 20)


@pytest.mark.parametrize("runs", [[(MAP_BLOCKS + 1, 0)], [(MAP_BLOCKS, 0), (1, 0)], [(1 << 63, 0)] * 2])
def test_more_blocks_than_a_file_has_are_refused(runs: list[tuple[int, int]]) -> None:
    raw = b"".join(zeros.to_bytes(8, "little") + count.to_bytes(4, "little") for zeros, count in runs)
    with pytest.raises(ProtocolError):
        BlockMap.decode(raw)


def test_what_is_cut_short_is_refused() -> None:
    raw = BlockMap(bytes(32)).encode()
    for end in range(1, len(raw)):
        with pytest.raises(ProtocolError):
            BlockMap.decode(raw[:end])
