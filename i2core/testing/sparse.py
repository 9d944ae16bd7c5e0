"""The content of a file in memory, with its holes."""

from __future__ import annotations

from collections.abc import Iterator

from i2core.api.present import Extent
from i2core.api.records import Buffer


class Sparse:
    """What has content. A block is a hole until something is written into it."""

    __slots__ = ()

    data: bytearray
    alloc: set[int]
    """The blocks that are no holes."""
    hole: int
    """Size of a block, in bytes."""

    def write(self, at: int, data: Buffer) -> None:
        """Overwrites, or writes beyond the end."""
        if data:
            end = at + len(data)
            self.data += bytes(max(0, at - len(self.data)))
            self.data[at:end] = data
            self.alloc |= set(range(at // self.hole, (end - 1) // self.hole + 1))

    def punch(self, at: int, hi: int) -> None:
        """[at, hi) becomes zeros, whole blocks of it a hole."""
        end = min(len(self.data), hi)
        if at < end:
            self.data[at:end] = bytes(end - at)
            self.alloc -= set(range(-(-at // self.hole), hi // self.hole))

    def truncate(self, size: int) -> None:
        """Sets the length."""
        del self.data[size:]
        self.data += bytes(size - len(self.data))
        self.alloc -= {block for block in self.alloc if block * self.hole >= size}

    def extents(self, lo: int, hi: int) -> Iterator[Extent]:
        """As `Present.extents`."""
        hi = min(hi, len(self.data))
        while lo < hi:
            block = lo // self.hole
            hole = block not in self.alloc
            while block * self.hole < hi and (block not in self.alloc) == hole:
                block += 1
            end = min(hi, block * self.hole)
            yield Extent(lo, end, hole)
            lo = end

    def holes(self) -> bytes:
        """A flag for each byte."""
        size = len(self.data)
        blocks = (bytes([block not in self.alloc]) * self.hole for block in range(-(-size // self.hole)))
        return b"".join(blocks)[:size]
