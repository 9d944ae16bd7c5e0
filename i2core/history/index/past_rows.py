"""Questions to all partitions: the first row above a moment, wherever it is."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

from i2core.history.index.partition import Partition
from i2core.history.index.schema import Table
from i2core.history.model.rows import DataWas, NameWas


class PastRows:
    """The rows of all frames so far."""

    def __init__(self, every: Callable[[], Sequence[Partition]]) -> None:
        """`every`: all partitions, the oldest first, and the tail."""
        self._every = every

    def after(self, seq: int) -> Iterator[Partition]:
        """Partitions that may have rows which end after the moment, the oldest first."""
        return (part for part in self._every() if part.last > seq)

    def name(self, parent: int, name: bytes, seq: int) -> NameWas | None:
        """The first row of the name that ends after the moment; it holds if it began by then."""
        for part in self.after(seq):
            row = part.ask.name(parent, name, seq)
            if row is not None:
                return row
        return None

    def names(self, parent: int, seq: int) -> dict[bytes, int]:
        """Name to object of rows that hold at the moment."""
        return {name: oid for part in self.after(seq) for name, oid in part.ask.names(parent, seq)}

    def meta(self, oid: int, seq: int) -> bytes | None:
        """Packed attributes; None: no row tells, the object itself does."""
        return next((meta for part in self.after(seq) if (meta := part.ask.meta(oid, seq)) is not None), None)

    def size(self, oid: int, seq: int) -> int | None:
        """Length; None: no row tells."""
        return next((size for part in self.after(seq) if (size := part.ask.size(oid, seq)) is not None), None)

    def data(self, oid: int, blocks: Sequence[int], seq: int) -> Iterator[DataWas]:
        """Rows of a block, and of the wider ones around it, that end after the moment, the oldest first. `blocks`: its
        number, and theirs."""
        for part in self.after(seq):
            if not part.has_coarse:
                yield from part.ask.data(oid, blocks[0], seq)
                continue
            found = [part.ask.data(oid, block, seq) for block in blocks]
            yield from heapq.merge(*found, key=lambda row: row.until)

    def has_data(self, oid: int, seq: int) -> bool:
        """True when rows about bytes of the file end after the moment."""
        return any(part.ask.has_data(oid, seq) for part in self.after(seq))

    def blocks(self, oid: int, seq: int) -> list[int]:
        """Blocks of a file about which rows end after the moment."""
        return sorted({block for part in self.after(seq) for block in part.ask.blocks(oid, seq)})

    def names_of(self, oid: int, first: int, last: int) -> Iterator[NameWas]:
        """Rows about names of the object with first < until and since <= last."""
        for part in self.after(first):
            yield from part.ask.names_of(oid, first, last)

    def places(self, oid: int) -> Iterator[tuple[int, bytes]]:
        """(parent, name) of rows that lead to the object, newest first."""
        for part in reversed(self._every()):
            yield from part.ask.places(oid)

    def names_ended(self, seq: int) -> Iterator[NameWas]:
        """All rows about names that end after the moment, newest first."""
        for part in reversed(list(self.after(seq))):
            sql = "select parent,name,since,until,oid from name_was where until>? order by until desc"
            yield from map(NameWas._make, part.db.execute(sql, (seq,)))

    def touches(self, oid: int, before: int) -> Iterator[int]:
        """Frames that speak of the object, newest first."""
        streams = [part.ask.touches(oid, before) for part in self._every()]
        # A frame that start-up took in again may be in two partitions.
        return (frame for frame, _ in groupby(heapq.merge(*streams, reverse=True)))

    def is_named(self, oid: int) -> bool:
        """True when a row leads to the object."""
        return any(part.ask.is_named(oid) for part in self._every())

    def is_named_elsewhere(self, oid: int, parent: int) -> bool:
        """True when a row leads to the object, other than as a name in this directory."""
        return any(part.ask.is_named(oid, parent) for part in self._every())

    def speaks_of(self, oid: int) -> bool:
        """True when any row is about the object or a name in it."""
        return any(part.ask.speaks_of(oid) for part in self._every())

    def ended(self, table: Table, seq: int) -> Iterator[tuple[Any, ...]]:
        """Rows of a table that end after the moment, newest first."""
        at = table.columns.index("until")
        for part in reversed(list(self.after(seq))):
            yield from sorted(part.stream(table, seq), key=lambda row: row[at], reverse=True)


def merged_rows(parts: Sequence[Partition], table: Table) -> Iterator[tuple[Any, ...]]:
    """Rows of a table of several partitions in the order of its key, in bounded memory."""
    width = len(table.key)
    streams = [part.stream(table) for part in parts]
    return heapq.merge(*streams, key=lambda row: row[:width])
