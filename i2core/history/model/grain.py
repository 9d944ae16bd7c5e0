"""The sizes that a history is built on; tests take small ones, so that short histories meet every edge."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from i2core.history.model.rows import BLOCK_BYTES

LEVELS = 4
"""With blocks of 64 KiB, each level 256 times as large: up to a terabyte."""
_LEVEL_SHIFT = 48
COARSE = 1 << _LEVEL_SHIFT
"""Numbers of blocks from here on are those of level 1 and above."""


@attrs.frozen
class Grain:
    """Sizes in bytes."""

    hole: int = 4096
    """Block of the file system: a hole consists of whole ones."""
    block: int = BLOCK_BYTES
    """Rows of bytes never cross a multiple of this; see `span`."""
    wider: int = 256
    """A hole may be wider than a block: then its rows are about blocks that are so many times as large, or that many
    times again. Else a hole of a terabyte that is cut off would take 16 million rows."""
    whole_every: int = 16
    """After so many rows about parts of a block, one has the whole block: reading then ends there, and not at the end
    of a hundred thousand rows about a page that is rewritten all day."""

    def number(self, level: int, offset: int) -> int:
        """The block of this level in which the offset is. Level 0 are the blocks of `block` bytes, and each further
        level's are `wider` times as large."""
        return level << _LEVEL_SHIFT | offset // self.bytes_of(level)

    @staticmethod
    def level(number: int) -> int:
        """The level of the block."""
        return number >> _LEVEL_SHIFT

    def start(self, number: int) -> int:
        """Where the block begins."""
        level = self.level(number)
        return (number - (level << _LEVEL_SHIFT)) * self.bytes_of(level)

    def bytes_of(self, level: int) -> int:
        """Size of the blocks of a level."""
        return self.block * int(self.wider**level)

    def numbers(self, offset: int) -> list[int]:
        """The blocks of all levels in which the offset is."""
        return [self.number(level, offset) for level in range(LEVELS)]

    def pieces(self, lo: int, hi: int) -> Iterator[tuple[int, int, int]]:
        """A hole [lo, hi) as (block, lo, hi) with offsets within the block: in few, large pieces."""
        while lo < hi:
            level = LEVELS - 1
            while level and (lo % self.bytes_of(level) or hi - lo < self.bytes_of(level)):
                level -= 1
            number = self.number(level, lo)
            start = self.start(number)
            end = min(hi, start + self.bytes_of(level))
            yield number, lo - start, end - start
            lo = end


GRAIN = Grain()
"""That of every history outside of tests."""
