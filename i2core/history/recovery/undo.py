"""Takes a replica back to the moment up to which all is certain: what start-up does after a crash.

Nothing is done again and nothing compared: rows of the frames after that moment say what was lost, whether or not their
records were carried out. After a power cut the disk has all that was durable, a prefix of the later changes of names,
and any of the later changes of content, torn perhaps. So objects are found by identity, in any place that a row names.

Each step is absolute: cut off anywhere, it is begun again.

1. What stands under a name that changed and does not belong there goes aside (a known object) or away (a new one).
2. Each of those names gets its object.
3. Lengths, content, attributes; of several rows the oldest is right, so it is written last.
4. The replica is flushed, then the index rolled back. The caller cuts the journal.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator

from i2core.api.present import STAGING, STORE, Handle, Replica
from i2core.history.index.index import Index
from i2core.history.index.schema import DATA, METAS, SIZES
from i2core.history.model.grain import Grain
from i2core.history.model.meta import unpack
from i2core.history.model.rows import HOLE, DataWas
from i2core.history.read.past import OldBytes
from i2core.history.read.places import ObjectLost
from i2core.history.recovery.scattered import Scattered, limbo


class Undo:
    """Takes replica and index back. The index must have all frames of the journal, with their changes of the
    catalog."""

    def __init__(
        self,
        index: Index,
        replica: Replica,
        old: OldBytes,
        seq: int,
        reach: tuple[int, int],
        grain: Grain | None = None,
    ) -> None:
        """`seq`: the last record of the last plan that is certainly carried out as a whole; `reach`: where its frame
        ends in the journal."""
        self._index, self._replica, self._old, self._seq = index, replica, old, seq
        self._reach, self._grain = reach, grain or Grain()
        self._scattered = Scattered(index, replica, seq)
        self._wanted: dict[tuple[int, bytes], int | None] = {}

    def run(self) -> Iterator[None]:
        """Works, with a stop after each change of the replica.

        Raises:
            ObjectLost: an object that was there is in none of its places: somebody else has changed the replica.
            OSError: the replica cannot be changed.
        """
        self._want()
        objects = {oid for oid in self._wanted.values() if oid is not None}
        self._scattered.find(objects | {parent for parent, _ in self._wanted} | self._changed(), objects)
        try:
            yield from self._clear()
            yield from self._give()
            yield from self._restore()
            yield from self._tidy()
        finally:
            self._scattered.close()
        self._replica.flush()
        yield
        self._index.roll_back(self._seq, self._reach)

    def _want(self) -> None:
        """What each changed name leads to at the moment; None: nothing."""
        wanted = self._wanted
        for row in self._index.rows.names_ended(self._seq):
            wanted[row.parent, row.name] = row.oid if row.since <= self._seq else None
        for parent, name in self._index.catalog.changed_since(self._seq):
            wanted.setdefault((parent, name), None)

    def _changed(self) -> set[int]:
        """Objects of the moment with changed content or attributes."""
        oids = {row[0] for table in (SIZES, DATA, METAS) for row in self._index.rows.ended(table, self._seq)}
        return {oid for oid in oids if self._index.catalog.born(oid) <= self._seq}

    # ------------------------------------------------------------------------------------------- names

    def _clear(self) -> Iterator[None]:
        for (parent, name), oid in self._wanted.items():
            for directory in self._scattered.handles(parent):
                yield from self._evict(directory, name, oid)

    def _evict(self, directory: Handle, name: bytes, right: int | None) -> Iterator[None]:
        """What has the name goes, unless it is the right object."""
        handle = self._replica.child(directory, name)
        if handle is None:
            return
        try:
            oid = self._scattered.who(handle)
            if oid is None and stat.S_ISDIR(self._replica.facts(handle).meta.mode):
                for inner in list(self._replica.names(handle)):
                    yield from self._evict(handle, inner, None)
        finally:
            self._replica.release(handle)
        if oid is None:
            self._replica.remove(directory, name)
        elif oid != right:
            self._set_aside(directory, name, oid)
        yield

    def _set_aside(self, directory: Handle, name: bytes, oid: int) -> None:
        store = self._replica.directory(STORE)
        there = self._replica.child(store, limbo(oid))
        if there is None:
            self._replica.move(directory, name, store, limbo(oid))
        else:
            self._replica.release(there)
            self._replica.remove(directory, name)

    def _give(self) -> Iterator[None]:
        for (parent, name), oid in self._wanted.items():
            if oid is None:
                continue
            directories = self._scattered.handles(parent)
            if not directories:
                raise ObjectLost(parent)
            handle = self._replica.child(directories[0], name)
            if handle is not None:
                self._replica.release(handle)
                continue
            self._bring(oid, directories[0], name, optional=parent == STAGING)
            yield

    def _bring(self, oid: int, directory: Handle, name: bytes, *, optional: bool) -> None:
        """`optional`: a staging file that was begun after the moment; it is staged again."""
        for source, old in self._scattered.sources(oid):
            handle = self._scattered.handles(oid)[0]
            if stat.S_ISDIR(self._replica.facts(handle).meta.mode):
                self._replica.move(source, old, directory, name)
            else:
                self._replica.link(handle, directory, name)
            return
        if not optional:
            raise ObjectLost(oid)

    # ------------------------------------------------------------------------------------------- content, attributes

    def _restore(self) -> Iterator[None]:
        for oid, _, size in self._index.rows.ended(SIZES, self._seq):
            for handle in self._of_then(oid):
                self._replica.truncate(handle, size)
                yield
        for values in self._index.rows.ended(DATA, self._seq):
            row = DataWas._make(values)
            for handle in self._of_then(row.oid):
                self._put(handle, row)
                yield
        for oid, _, meta in self._index.rows.ended(METAS, self._seq):
            for handle in self._of_then(oid):
                self._replica.set_meta(handle, unpack(meta))
                yield

    def _of_then(self, oid: int) -> list[Handle]:
        """The object, if it is one of the moment; a staging file may be gone with its directory."""
        if self._index.catalog.born(oid) > self._seq:
            return []
        return self._scattered.handles(oid)

    def _put(self, handle: Handle, row: DataWas) -> None:
        start = self._grain.start(row.block)
        size = self._replica.facts(handle).size
        lo, hi = start + row.lo, min(start + row.hi, size)
        if lo >= hi:
            return
        if row.segment == HOLE:
            step = self._grain.hole
            self._replica.punch(handle, lo, -(-(start + row.hi) // step) * step)  # also the block that the end cut
        else:
            self._replica.write(handle, lo, self._old.read(row, row.lo, hi - start))

    # ------------------------------------------------------------------------------------------- the end

    def _tidy(self) -> Iterator[None]:
        """Nothing is left aside that has a place."""
        store = self._replica.directory(STORE)
        for name in list(self._replica.names(store)):
            if name.startswith(b"u"):
                self._replica.remove(store, name)
                yield
