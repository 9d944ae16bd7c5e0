"""What a record is about to destroy, as rows: the steps of planning that all kinds of records are made of."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import NamedTuple

from i2core.api.inode_flags import UNREAD
from i2core.api.present import Handle
from i2core.api.records import Buffer, Meta
from i2core.history.model.grain import Grain
from i2core.history.model.meta import pack
from i2core.history.model.rows import FIRST_OID, Home, Left, MetaWas, NameWas, Object, SizeWas
from i2core.history.plan.content import Content, Part
from i2core.history.plan.step import Old, OldPart, Step
from i2core.history.plan.view import Thing, View

_COUNTED_BLOCKS = 50_000
"""Blocks whose rows are counted at a time; when there are more, counting begins again, and a whole block is kept
later."""


class Coming(NamedTuple):
    """Bytes that a record writes."""

    lo: int
    data: memoryview

    def of(self, lo: int, hi: int) -> Buffer:
        """Those of [lo, hi); empty: not all of it is written."""
        return self.data[lo - self.lo : hi - self.lo] if self.lo <= lo and hi - self.lo <= len(self.data) else b""


class Capture:
    """Writes down in `step` what the record destroys, and changes the view as the record changes the replica."""

    def __init__(self, view: View, grain: Grain, next_oid: int, *, flags: bool) -> None:
        self.view, self.grain, self._flags = view, grain, flags
        self.next_oid = max(next_oid, FIRST_OID)
        self.step: Step
        self.touched: set[int] = set()
        """Objects whose time on disk is an accident of this node, because they changed after their attributes were set.
        May be forgotten: it costs one row more."""
        self._partial: dict[tuple[int, int], int] = {}

    # ------------------------------------------------------------------------------------------- objects

    def ident(self, thing: Thing) -> int:
        """Its number; an object that has none gets one, with all directories above it."""
        if thing.oid is None:
            assert thing.spot is not None
            directory, name = thing.spot
            parent = self.ident(directory)
            self.step.catalog.append(self._number(thing, 0))
            since = directory.slots[name].since
            thing.homes.add((parent, name))
            self.step.catalog.append(Home(parent, name, self._oid(thing), since))
        return self._oid(thing)

    def _number(self, thing: Thing, born: int) -> Object:
        thing.oid = self.next_oid
        self.next_oid += 1
        self.view.add(thing)
        return Object(thing.oid, born, thing.identity, self.step.seq)

    @staticmethod
    def _oid(thing: Thing) -> int:
        assert thing.oid is not None
        return thing.oid

    def touch(self, thing: Thing) -> None:
        """Its content or a name in it changes: the time that was set is lost with the first such change."""
        oid = self.ident(thing)
        self._changed(thing)
        if oid not in self.touched:
            self.step.metas.append(MetaWas(oid, self.step.seq, pack(thing.meta)))
            self.touched.add(oid)

    def _changed(self, thing: Thing) -> None:
        self.step.touched.add(self._oid(thing))
        thing.changed = self.step.seq
        self.view.add(thing)

    # ------------------------------------------------------------------------------------------- names

    def leave(self, directory: Thing, name: bytes, shown: bytes, *, stays: bool = False) -> Thing | None:
        """What has the name loses it: the object is kept whole if it was the last one. `shown`: the name's path.
        `stays`: it gets another name by the same record."""
        slot = self.view.slot(directory, name)
        thing = slot.thing
        if thing is None:
            return None
        oid, parent = self.ident(thing), self._oid(directory)
        if slot.since < self.step.seq:
            self.step.names.append(NameWas(parent, name, slot.since, self.step.seq, oid))
        self.step.catalog.append(Left(parent, name))
        thing.homes.discard((parent, name))
        self.view.set(directory, name, None, self.step.seq)
        self._changed(thing)
        if not thing.homes and not stays:
            self.step.keeps[shown] = oid
            self._home(self.view.store, b"%d" % oid, thing)
        elif thing.spot == (directory, name):
            thing.spot = None
        return thing

    def arrive(self, directory: Thing, name: bytes, thing: Thing, born: int | None = None) -> int:
        """The object gets the name. `born`: it exists as an object of the rule from this record on."""
        self.ident(directory)
        if thing.oid is None:
            self.step.catalog.append(self._number(thing, self.step.seq if born is None else born))
        elif born is not None:
            self.step.catalog.append(Object(thing.oid, born, thing.identity, self.step.seq))
        self._home(directory, name, thing)
        self._changed(thing)
        return self._oid(thing)

    def _home(self, directory: Thing, name: bytes, thing: Thing) -> None:
        parent, oid = self._oid(directory), self._oid(thing)
        thing.homes.add((parent, name))
        self.step.catalog.append(Home(parent, name, oid, self.step.seq))
        self.view.set(directory, name, thing, self.step.seq)

    # ------------------------------------------------------------------------------------------- content, attributes

    def save(self, thing: Thing, lo: int, hi: int, new: Buffer = b"") -> None:
        """Old bytes of [lo, hi) below the end of the file; holes as holes. `new`: what will stand there instead, as far
        as that is known: of bytes that stay the same nothing is lost."""
        size, end, coming = self.grain.block, thing.content.size, Coming(lo, memoryview(new))
        hi = min(hi, end)
        if lo >= hi:
            return
        oid = self.ident(thing)
        first, last = lo // size, (hi - 1) // size
        for block in (first, last) if last > first else (first,):
            start, stop = block * size, min(block * size + size, end)
            a, z = max(lo, start), min(hi, stop)
            due = self._is_due(oid, block, z - a < stop - start)
            self._save(thing, oid, *((start, stop) if due else (a, z)), coming)
        if last - first > 1:
            self._save(thing, oid, (first + 1) * size, last * size, coming)

    def _save(self, thing: Thing, oid: int, lo: int, hi: int, coming: Coming) -> None:
        for run in self.view.runs(thing, lo, hi):
            if run.hole:
                self.step.data += (Old(oid, *piece, None) for piece in self.grain.pieces(run.lo, run.hi))
                continue
            size = self.grain.block
            for start in range(run.lo // size * size, run.hi, size):
                a, z = max(run.lo, start), min(run.hi, start + size)
                parts, new = tuple(self._parts(thing, a, z)), coming.of(a, z)
                self.step.data.append(Old(oid, start // size, a - start, z - start, parts, new))

    def _is_due(self, oid: int, block: int, partial: bool) -> bool:
        """True when so many rows about parts of the block follow each other that one should have all of it."""
        if len(self._partial) > _COUNTED_BLOCKS:
            self._partial.clear()
        count = self._partial.get((oid, block), 0) + 1 if partial else 0
        due = count >= self.grain.whole_every
        self._partial[oid, block] = 0 if due else count
        return due

    def _parts(self, thing: Thing, lo: int, hi: int) -> Iterator[OldPart]:
        for part in thing.content.parts(lo, hi):
            yield OldPart(part.lo, part.hi, self._source(thing, part))

    def _source(self, thing: Thing, part: Part) -> Handle | Buffer | None:
        return self.view.on_disk(thing) if part.piece is None else part.piece.data

    def resize(self, thing: Thing, size: int) -> None:
        """The length becomes `size`."""
        if size != thing.content.size:
            self.step.sizes.append(SizeWas(self.ident(thing), self.step.seq, thing.content.size))

    def set_meta(self, thing: Thing, meta: Meta | None) -> None:
        """The attributes are set; those that the record leaves alone stay."""
        if meta is None or stat.S_IFMT(meta.mode) != stat.S_IFMT(thing.meta.mode):
            return
        old = thing.meta
        new = merged(old, meta)
        if thing.oid is not None and thing.oid in self.touched:
            self.touched.discard(thing.oid)
            if new._replace(mtime_ns=0) != old._replace(mtime_ns=0):
                self.step.metas.append(MetaWas(thing.oid, self.step.seq, pack(old)))
            self._changed(thing)
        elif new != old:
            self.step.metas.append(MetaWas(self.ident(thing), self.step.seq, pack(old)))
            self._changed(thing)
        thing.meta = new

    def new(self, meta: Meta, size: int = 0) -> Thing:
        """An object that this record makes."""
        seq = self.step.seq
        flags = max(meta.flags, 0) if self._flags else UNREAD
        fresh = meta._replace(xattrs=meta.xattrs or (), flags=flags)
        return Thing(fresh, Content(size), None, made=seq, changed=seq)


def merged(old: Meta, new: Meta) -> Meta:
    """The attributes after `new` was set."""
    xattrs = old.xattrs if new.xattrs is None else new.xattrs
    return new._replace(xattrs=xattrs, flags=old.flags if new.flags == UNREAD else new.flags)
