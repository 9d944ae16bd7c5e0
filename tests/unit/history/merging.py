"""Merges partitions of an index that has no journal."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from i2core.history.index.index import Index
from i2core.history.index.now import PartFile
from i2core.history.index.partition import Partition
from i2core.history.index.switch import prepare, settle
from i2core.history.retention.kept import Kept
from i2core.history.retention.merge import Merge, put


def merge(index: Index, parts: Sequence[Partition], kept: Kept) -> Iterator[None]:
    """With a stop after each block of rows. Closed before its end, it leaves all as it was."""
    last = max(part.last for part in parts)
    new, beside = index.parts.new(min(part.first for part in parts)), [part.beside() for part in parts]
    done = False
    try:
        for block in Merge(beside, kept, index.catalog.born, last).blocks():
            put(new, block.table, block.below)
            yield
        new.seal()
        done = True
    finally:
        for part in beside:
            part.close()
        if not done or not new.count:
            index.parts.discard(new)
    new.close()
    files = [PartFile(os.path.basename(new.path), new.first, last, new.count)] if new.count else []
    settle(index, prepare(index, parts, files, log=(0, 0)))
