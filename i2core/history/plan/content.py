"""What a file will hold when the records planned so far are carried out: their changes, over what is on disk.

Records are planned while earlier ones are still on their way, so the old bytes of a range may not be on the disk yet.
Where no planned record wrote, the disk has them, and keeps them while those records are carried out.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

from i2core.api.records import Buffer


class Piece(NamedTuple):
    """A range [lo, hi) that a planned record sets."""

    lo: int
    hi: int
    data: Buffer | None
    """None: zeros."""
    hole: bool
    """The zeros occupy no space, unless other bytes of their file-system block do."""
    seq: int

    def part(self, lo: int, hi: int) -> Piece:
        """The piece without what lies outside [lo, hi)."""
        if lo <= self.lo and self.hi <= hi:
            return self
        lo, hi = max(lo, self.lo), min(hi, self.hi)
        data = None if self.data is None else memoryview(self.data)[lo - self.lo : hi - self.lo]
        return Piece(lo, hi, data, self.hole, self.seq)


class Part(NamedTuple):
    """A range as it will be: set by a planned record, or (None) as the disk has it."""

    lo: int
    hi: int
    piece: Piece | None


class Content:
    """Length and pieces of one file."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._pieces: list[Piece] = []

    def parts(self, lo: int, hi: int) -> Iterator[Part]:
        """[lo, hi) without gaps, in order."""
        at = bisect_left(self._pieces, lo, key=lambda piece: piece.hi)
        while lo < hi:
            while at < len(self._pieces) and self._pieces[at].hi <= lo:
                at += 1
            piece = self._pieces[at].part(lo, hi) if at < len(self._pieces) and self._pieces[at].lo < hi else None
            if piece is None or piece.lo > lo:
                end = hi if piece is None else piece.lo
                yield Part(lo, end, None)
            else:
                end = piece.hi
                yield Part(lo, end, piece)
            lo = end

    def write(self, lo: int, data: Buffer, seq: int) -> None:
        """A planned record writes there."""
        end = lo + len(data)
        if lo > self.size:
            self._set(Piece(self.size, lo, None, True, seq))
        self._set(Piece(lo, end, data, False, seq))
        self.size = max(self.size, end)

    def clear(self, lo: int, hi: int, seq: int, *, hole: bool) -> None:
        """[lo, hi) becomes zeros; the length stays."""
        if lo < min(hi, self.size):
            self._set(Piece(lo, min(hi, self.size), None, hole, seq))

    def resize(self, size: int, seq: int) -> None:
        """The file is cut, or grows by a hole."""
        if size < self.size:
            self._drop(size, self.size)
        elif size > self.size:
            self._set(Piece(self.size, size, None, True, seq))
        self.size = size

    def applied(self, seq: int) -> None:
        """Records up to `seq` are carried out: the disk has what they wrote."""
        self._pieces = [piece for piece in self._pieces if piece.seq > seq]

    def _set(self, piece: Piece) -> None:
        at = self._drop(piece.lo, piece.hi)
        self._pieces.insert(at, piece)

    def _drop(self, lo: int, hi: int) -> int:
        """Takes [lo, hi) out of the pieces; where a piece for it belongs."""
        first = bisect_left(self._pieces, lo + 1, key=lambda piece: piece.hi)
        last = first
        while last < len(self._pieces) and self._pieces[last].lo < hi:
            last += 1
        cut = self._pieces[first:last]
        left = [piece.part(piece.lo, lo) for piece in cut if piece.lo < lo]
        right = [piece.part(hi, piece.hi) for piece in cut if piece.hi > hi]
        self._pieces[first:last] = left + right
        return first + len(left)
