"""Content by blocks: hashing, and finding which parts of a file differ from what was last sent.

A block is `BLOCK_BYTES` long, its digest xxh3-128. Holes are never read: SEEK_DATA finds the data, and a hole's
digest is that of zeros, so allocated zeros and a hole compare equal.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from typing import NamedTuple

import xxhash

from i2core.api import BLOCK_BYTES

DIGEST_BYTES = 16
READ_BYTES = 4 * 1024 * 1024
PIECE_BYTES = 1024 * 1024
"""Most content that one record carries."""
WHOLE_BYTES = 4 * 1024 * 1024
"""Files with no more data than this cross in one go; larger ones in slices, staged until they are whole."""
ZERO_DIGEST = xxhash.xxh3_128_digest(bytes(BLOCK_BYTES))


class Extent(NamedTuple):
    """A range of a file, in bytes; `data` False is a hole."""

    start: int
    end: int
    data: bool


def extents(fd: int, start: int, end: int) -> Iterator[Extent]:
    """Data and holes of [start, end), in order. File systems that cannot tell give one data extent."""
    at = start
    while at < end:
        try:
            begin = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                yield Extent(at, end, True)
                return
            yield Extent(at, end, False)
            return
        if begin > at:
            yield Extent(at, min(begin, end), False)
        if begin >= end:
            return
        stop = min(os.lseek(fd, begin, os.SEEK_HOLE), end)
        if stop <= begin:  # the file was cut in between
            return
        yield Extent(begin, stop, True)
        at = stop


def digests(view: memoryview) -> list[bytes]:
    """The digest of each block of `view`; the last block may be short."""
    digest = xxhash.xxh3_128_digest
    return [digest(view[at : at + BLOCK_BYTES]) for at in range(0, len(view), BLOCK_BYTES)]


def read_range(fd: int, start: int, length: int) -> memoryview:
    """Up to `length` bytes from `start`; shorter only at the end of the file."""
    data = os.pread(fd, length, start)
    while 0 < len(data) < length:
        more = os.pread(fd, length - len(data), start + len(data))
        if not more:
            break
        data += more
    return memoryview(data)


def split(hashes: bytes) -> list[bytes]:
    """Concatenated digests as a list."""
    return [hashes[at : at + DIGEST_BYTES] for at in range(0, len(hashes), DIGEST_BYTES)]


class Piece(NamedTuple):
    """A run of a file that differs from the base. `data` None: a hole of `length` bytes."""

    offset: int
    length: int
    data: memoryview | None


class Scan(NamedTuple):
    """The outcome of comparing one range: what differs, and the digests of all its blocks now."""

    pieces: list[Piece]
    hashes: bytes
    end: int
    """First byte behind what was compared: less than asked for when the file ended or `budget` was reached."""


def scan(fd: int, start: int, end: int, base: bytes, budget: int = sys.maxsize) -> Scan:
    """Compares [start, end) (`start` on a block boundary) with the digests `base` of the same blocks.

    Blocks without a digest in `base` count as different. Stops behind the read in which `budget` bytes of differing
    data were reached.
    """
    old = split(base)
    pieces: list[Piece] = []
    now: list[bytes] = []
    gathered = 0
    at = start
    while at < end and gathered < budget:
        want = min(READ_BYTES, end - at)
        if _is_hole(fd, at, at + want):
            view, found = None, _zero_digests(want)
        else:
            view = read_range(fd, at, want)
            found = digests(view)
        differs = [len(now) + i >= len(old) or old[len(now) + i] != digest for i, digest in enumerate(found)]
        for first, last in _runs(differs):
            offset, stop = first * BLOCK_BYTES, min(last * BLOCK_BYTES, want if view is None else len(view))
            if view is None:
                pieces.append(Piece(at + offset, stop - offset, None))
                continue
            for piece in _cut(fd, at, view, offset, stop):
                pieces.append(piece)
                gathered += piece.length if piece.data is not None else 0
        now += found
        at += want if view is None else len(view)
        if view is not None and len(view) < want:
            break
    return Scan(pieces, b"".join(now), at)


def _cut(fd: int, at: int, view: memoryview, offset: int, stop: int) -> Iterator[Piece]:
    """[offset, stop) of `view`, which was read at `at`, in pieces; its holes stay holes."""
    done = offset
    # The file may be shorter by now; what was read is what counts.
    for start, end, data in (*extents(fd, at + offset, at + stop), Extent(at + stop, at + stop, False)):
        begin, behind = start - at, end - at
        if data or view[begin:behind].tobytes().strip(b"\0"):  # not zeros: it became a hole after it was read
            continue
        for cut in range(done, begin, PIECE_BYTES):
            cut_end = min(cut + PIECE_BYTES, begin)
            yield Piece(at + cut, cut_end - cut, view[cut:cut_end])
        if behind > begin:
            yield Piece(start, end - start, None)
        done = behind


def _is_hole(fd: int, start: int, end: int) -> bool:
    try:
        return os.lseek(fd, start, os.SEEK_DATA) >= end
    except OSError as error:
        return error.errno == errno.ENXIO


def _zero_digests(length: int) -> list[bytes]:
    whole, rest = divmod(length, BLOCK_BYTES)
    return [ZERO_DIGEST] * whole + ([xxhash.xxh3_128_digest(bytes(rest))] if rest else [])


def _runs(flags: list[bool]) -> Iterator[tuple[int, int]]:
    """The stretches of True in `flags`, as (first, behind the last)."""
    begin = -1
    for index, flag in enumerate(flags):
        if flag and begin < 0:
            begin = index
        elif not flag and begin >= 0:
            yield begin, index
            begin = -1
    if begin >= 0:
        yield begin, len(flags)
