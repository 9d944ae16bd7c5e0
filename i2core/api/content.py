"""The content of one file: ranges of data and holes, and digests of its blocks.

A block is `BLOCK_BYTES` long, its digest xxh3-128. Holes are never read: the digest of a hole is that of zeros, so
allocated zeros and a hole compare equal.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

import xxhash

from i2core.api.records import BLOCK_BYTES, Entry


class Content(ABC):
    """The content of a file that can be read in ranges. All calls block.

    Owes: what is no data reads as zeros. Everything counts as data where holes cannot be found. The file may change
    between two calls, and each call reads what is there then.
    """

    __slots__ = ()

    @abstractmethod
    def read(self, start: int, length: int) -> memoryview:
        """Up to `length` bytes from `start`; shorter only at the end of the file.

        Raises:
            OSError: it cannot be read.
        """

    @abstractmethod
    def next_data(self, at: int) -> int | None:
        """The offset of the first data byte from `at` on; None when there is none up to the end of the file.

        Raises:
            OSError: it cannot be read.
        """

    @abstractmethod
    def next_hole(self, at: int) -> int | None:
        """The offset of the first hole from `at` on, which may be the end of the file; None when the file is no longer
        than `at`: it may have become shorter a moment ago.

        Raises:
            OSError: it cannot be read.
        """


class Extent(NamedTuple):
    """A range of a file, in bytes; `data` False is a hole."""

    start: int
    end: int
    data: bool


def extents(content: Content, start: int, end: int) -> Iterator[Extent]:
    """Data and holes of [start, end), in order.

    The file may become shorter meanwhile: what no longer exists is a hole when the search for data finds that out, and
    is left out when the search for the end of data does.

    Raises:
        OSError: it cannot be read.
    """
    at = start
    while at < end:
        begin = content.next_data(at)
        if begin is None:
            yield Extent(at, end, False)
            return
        if begin > at:
            yield Extent(at, min(begin, end), False)
        if begin >= end:
            return
        hole = content.next_hole(begin)
        if hole is None or hole <= begin:  # the file became shorter between the two calls
            return
        stop = min(hole, end)
        yield Extent(begin, stop, True)
        at = stop


def is_sparse(content: Content, entry: Entry) -> bool:
    """True when the file has holes. Fewer blocks than the size needs may also come from compression."""
    if entry.blocks * 512 >= entry.size:
        return False
    hole = content.next_hole(0)
    return hole is not None and hole < entry.size  # None: emptied since the entry was read


def hole_blocks(content: Content, at: int, end: int) -> int:
    """How many whole blocks from `at` on hold no data."""
    data = content.next_data(at)
    return ((end if data is None else min(data, end)) - at) // BLOCK_BYTES


def data_bytes(content: Content, at: int) -> int:
    """How many bytes from `at` to the first block that is entirely a hole; more than any file has if the file has
    become shorter. The block at `at` holds data."""
    data = content.next_data(at)
    hole = None if data is None else content.next_hole(data)
    if hole is None:
        return sys.maxsize
    return max(1, -(-(hole - at) // BLOCK_BYTES)) * BLOCK_BYTES


def digests(view: memoryview) -> list[bytes]:
    """The digest of each block of `view`; the last block may be short."""
    digest = xxhash.xxh3_128_digest
    return [digest(view[at : at + BLOCK_BYTES]) for at in range(0, len(view), BLOCK_BYTES)]
