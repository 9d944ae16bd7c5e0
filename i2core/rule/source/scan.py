"""Compares the content of a file with what was last sent, block by block: finds the parts that differ."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import NamedTuple

from i2core.api import BLOCK_BYTES
from i2core.api.blockmap import ZERO_DIGEST, BlockMap, Cursor
from i2core.api.content import Content, Extent, data_bytes, digests, extents, hole_blocks
from i2core.wire.message_size import PIECE_BYTES

READ_BYTES = 4 * 1024 * 1024


class Piece(NamedTuple):
    """A run of a file that differs from the base. `data` None: a hole of `length` bytes."""

    offset: int
    length: int
    data: memoryview | None


class Scan(NamedTuple):
    """The outcome of comparing one range: what differs, and the digests of all its blocks now."""

    pieces: list[Piece]
    blocks: BlockMap
    end: int
    """First byte after the compared range, which is shorter than requested if the file ended or a limit was reached."""
    ended: bool
    """The file ended within the range."""


def scan(
    content: Content,
    start: int,
    end: int,
    base: BlockMap,
    budget: int = sys.maxsize,
    most: int = sys.maxsize,
    *,
    sparse: bool = True,
) -> Scan:
    """Compares [start, end) (`start` on a block boundary) with the digests `base` of the same blocks.

    Blocks that `base` does not have count as different. Stops after the read in which `budget` bytes of differing data
    were reached, or `most` bytes of data on either side. Where both have a hole nothing is compared or read: a hole
    costs the same whatever its length. With `sparse` False holes are not searched for: for files that have none.

    Raises:
        OSError: it cannot be read.
    """
    old, now = Cursor(base), BlockMap()
    pieces: list[Piece] = []
    gathered = compared = 0
    at, ended = start, False
    while at < end and gathered < budget and compared < most:
        hole = hole_blocks(content, at, end) if sparse else 0
        if hole:
            count, differs, compares = _beside_hole(old, hole, max(1, (most - compared) // BLOCK_BYTES))
            now.add_zeros(count)
            pieces += [Piece(at + first * BLOCK_BYTES, (last - first) * BLOCK_BYTES, None) for first, last in differs]
            compared += compares
            at += count * BLOCK_BYTES
            continue
        data = data_bytes(content, at) if sparse else READ_BYTES
        want = min(READ_BYTES, end - at, data, max(BLOCK_BYTES, most - compared))
        view = content.read(at, want)
        fresh = _beside_data(content, at, view, old, now)
        pieces += fresh
        gathered += sum(piece.length for piece in fresh if piece.data is not None)
        compared += len(view)
        at += len(view)
        if len(view) < want:
            ended = True
            break
    return Scan(pieces, now, at, ended)


def _beside_hole(old: Cursor, hole: int, most: int) -> tuple[int, list[tuple[int, int]], int]:
    """Compares a hole of so many blocks with the base: returns how many blocks were compared, which stretches of them
    differ, and how many bytes this counts. At most `most` blocks that have a digest."""
    zeros = min(hole, old.zeros())
    if zeros:
        old.skip(zeros)
        return zeros, [], 0
    data = old.data()
    if data is None:  # not known, and all of it takes one record
        return hole, [(0, hole)], BLOCK_BYTES
    count = min(hole, data, most)
    return count, list(_runs([digest != ZERO_DIGEST for digest in old.take(count)])), count * BLOCK_BYTES


def _beside_data(content: Content, at: int, view: memoryview, old: Cursor, now: BlockMap) -> list[Piece]:
    """Compares what was read at `at` with the base; its digests go to `now`."""
    found = digests(view)
    now.add(b"".join(found))
    before = old.take(len(found))
    if found == before:
        return []
    return list(_differing(content, at, view, [digest != known for digest, known in zip(found, before, strict=True)]))


def _differing(content: Content, at: int, view: memoryview, different: list[bool]) -> Iterator[Piece]:
    """What differs of `view`, which was read at `at`; for each of its blocks `different` tells whether it does."""
    for first, last in _runs(different):
        yield from _cut(content, at, view, first * BLOCK_BYTES, min(last * BLOCK_BYTES, len(view)))


def _cut(content: Content, at: int, view: memoryview, offset: int, stop: int) -> Iterator[Piece]:
    """[offset, stop) of `view`, which was read at `at`, in pieces; its holes stay holes."""
    done = offset
    # The file may be shorter by now; what was read is what counts.
    for start, end, data in (*extents(content, at + offset, at + stop), Extent(at + stop, at + stop, False)):
        begin, behind = start - at, end - at
        if data or view[begin:behind].tobytes().strip(b"\0"):  # not zeros: it became a hole after it was read
            continue
        for cut in range(done, begin, PIECE_BYTES):
            cut_end = min(cut + PIECE_BYTES, begin)
            yield Piece(at + cut, cut_end - cut, view[cut:cut_end])
        if behind > begin:
            yield Piece(start, end - start, None)
        done = behind


def _runs(flags: list[bool]) -> Iterator[tuple[int, int]]:
    """The stretches of True in `flags`, as (first, one after the last)."""
    begin = -1
    for index, flag in enumerate(flags):
        if flag and begin < 0:
            begin = index
        elif not flag and begin >= 0:
            yield begin, index
            begin = -1
    if begin >= 0:
        yield begin, len(flags)
