"""What differs between two moments: from the rows between them alone, not by walking two trees.

A tree that came, went or moved is reported by its top: what is in it is listed on demand.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import NamedTuple

from i2core.history.index.index import Index
from i2core.history.index.schema import DATA, METAS, SIZES
from i2core.history.read.past import Past, Ref
from i2core.history.read.paths import PathsAt, Place

_PIECE_BYTES = 1024 * 1024


class Differs(NamedTuple):
    """An object that is not at the second moment what it was at the first."""

    oid: int
    before: Place | None
    """A path at the first moment; None: it was not there."""
    after: Place | None
    names: bool
    """It has other names."""
    attributes: bool
    content: bool
    """Length, bytes, or which of them are holes."""


class Difference:
    """Objects that differ between two moments, both of which can be had."""

    def __init__(self, past: Past, first: int, second: int) -> None:
        assert first <= second
        self._past, self._first, self._second = past, first, second
        self._before, self._after = PathsAt(past.index, first), PathsAt(past.index, second)

    def objects(self) -> Iterator[Differs]:
        """In no order."""
        for oid in sorted(candidates(self._past.index, self._first, self._second)):
            found = self._compare(oid)
            if found is not None:
                yield found

    def _compare(self, oid: int) -> Differs | None:
        before, after = self._before.place(oid), self._after.place(oid)
        if before is None and after is None:
            return None
        if before is None or after is None:
            return Differs(oid, before, after, names=True, attributes=False, content=False)
        names = self._names(self._before, oid) != self._names(self._after, oid)
        was, now = (self._past.stat(Ref(oid), seq) for seq in (self._first, self._second))
        attributes = was.meta != now.meta
        content = stat.S_ISREG(was.meta.mode) and (was.size != now.size or self._reads_other(oid, was.size))
        return Differs(oid, before, after, names, attributes, content) if names or attributes or content else None

    @staticmethod
    def _names(paths: PathsAt, oid: int) -> set[tuple[int, bytes]]:
        return {(parent, name) for parent, name in paths.names(oid) if paths.of_name(parent, name) is not None}

    def _reads_other(self, oid: int, size: int) -> bool:
        """True when bytes differ, in the blocks that rows are about."""
        for begin, end in self._past.ranges(oid, self._first):
            for lo in range(begin, min(end, size), _PIECE_BYTES):
                hi = min(lo + _PIECE_BYTES, end, size)
                if self._block(oid, self._first, lo, hi) != self._block(oid, self._second, lo, hi):
                    return True
        return False

    def _block(self, oid: int, seq: int, lo: int, hi: int) -> tuple[bytes, list[tuple[int, int]]]:
        ref = Ref(oid)
        return self._past.read(ref, seq, lo, hi), _joined(self._past.holes(ref, seq, lo, hi))


def _joined(ranges: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for lo, hi in ranges:
        if found and found[-1][1] == lo:
            found[-1] = (found[-1][0], hi)
        else:
            found.append((lo, hi))
    return found


def candidates(index: Index, first: int, second: int) -> set[int]:
    """Objects that may differ: about which a row ends in (first, second], or which got a name then."""
    found: set[int] = set()
    for part in index.rows.after(first):
        for table in (METAS, SIZES, DATA):
            found |= part.ask.objects(table, first, second)
        found |= part.ask.renamed(first, second)
    return found | index.catalog.renamed(first, second)
