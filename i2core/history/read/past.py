"""Reads the tree as it was at a moment: names, attributes, content.

The replica is read first, catalog and rows second, and rows win. What a record destroys or makes is in catalog and rows
before the record is carried out; so whatever changed while the replica was read, they tell. A reader needs no lock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import attrs

from i2core.api.present import TOP, Handle, Present
from i2core.api.records import Meta
from i2core.history.index.index import Index
from i2core.history.model.grain import Grain
from i2core.history.model.meta import unpack
from i2core.history.model.rows import HOLE, DataWas
from i2core.history.read.places import ObjectLost, Places


class Ref(NamedTuple):
    """An object at some moment: by its number, or, when it has no history, by what the replica has. Both: it has a
    number, and is open already."""

    oid: int = 0
    handle: Handle | None = None


class Was(NamedTuple):
    """What an object was like."""

    meta: Meta
    size: int
    handle: Handle
    """The object itself: its type, a symlink's text and a device number never change."""
    target: bytes
    device: int


class Span(NamedTuple):
    """Where the bytes [lo, hi) of a file at a moment come from."""

    lo: int
    hi: int
    row: DataWas | None
    """Old bytes, or (`HOLE`) a hole; None: the replica has them."""


class OldBytes(Protocol):
    """Gives old bytes; made over the journal."""

    def read(self, row: DataWas, lo: int, hi: int) -> bytes:
        """[lo, hi) of the row's block: `unpack_chunk` of `row.size` bytes at its place, from `row.skip` on."""


@attrs.frozen
class Past:
    """Past states of one replica. For one thread at a time. `places.close` ends what it has open."""

    index: Index
    places: Places
    old: OldBytes
    grain: Grain = attrs.field(factory=Grain)

    @property
    def present(self) -> Present:
        """The replica as it stands."""
        return self.places.present

    # ------------------------------------------------------------------------------------------- names

    def root(self, number: int, seq: int) -> Ref | None:
        """The root directory of this number."""
        return self.child(Ref(TOP), b"%d" % number, seq)

    def child(self, directory: Ref, name: bytes, seq: int) -> Ref | None:
        """What had the name at the moment; None: nothing."""
        handle = self._handle(directory)
        home = self.index.catalog.home(directory.oid, name) if directory.oid else None
        there = self.present.child(handle, name) if home is None else None
        here = None if there is None else Ref(handle=self.places.keep(there))
        if not directory.oid:
            return here
        home = home or self.index.catalog.home(directory.oid, name)
        row = self.index.rows.name(directory.oid, name, seq)
        if row is not None:
            return Ref(row.oid) if row.since <= seq else None
        if home is not None:
            return Ref(home[0]) if home[1] <= seq else None
        return here

    def number(self, root: int, names: Sequence[bytes], seq: int) -> int:
        """The number of what these names led to at the moment, each in the one before, from the root on: from the index
        alone. 0: they led to nothing, or to an object of which nothing is planned that would change it or a name in it
        after the moment."""
        oid = TOP
        for name in (b"%d" % root, *names):
            home = self.index.catalog.home(oid, name)
            row = self.index.rows.name(oid, name, seq)
            found, since = (row.oid, row.since) if row is not None else home or (0, 0)
            if not found or since > seq:
                return 0
            oid = found
        return oid

    def names(self, directory: Ref, seq: int) -> dict[bytes, Ref]:
        """All names in the directory at the moment."""
        listed = self.listed(directory, seq)
        handle = self._handle(directory)
        return {name: Ref(oid) if oid else self._here(handle, name) for name, oid in listed.items()}

    def listed(self, directory: Ref, seq: int) -> dict[bytes, int]:
        """As `names`, with the numbers of the objects (0: it has none), and nothing is opened."""
        there = self.present.names(self._handle(directory))
        if not directory.oid:
            return dict.fromkeys(there, 0)
        found = dict.fromkeys(there, 0)
        for name, oid, since in self.index.catalog.within(directory.oid):
            if since <= seq:
                found[name] = oid  # if the replica lacks it, whoever opens the object learns that it is lost
            else:
                found.pop(name, None)
        for name in [name for name, oid in found.items() if not oid]:
            if self.index.rows.name(directory.oid, name, seq) is not None:
                del found[name]  # it came and went after the moment; or it was there, and comes next
        return found | self.index.rows.names(directory.oid, seq)

    def _here(self, handle: Handle, name: bytes) -> Ref:
        child = self.present.child(handle, name)
        if child is None:
            raise ObjectLost(0)
        return Ref(handle=self.places.keep(child))

    # ------------------------------------------------------------------------------------------- what it was like

    def stat(self, ref: Ref, seq: int) -> Was:
        """Attributes and length at the moment."""
        handle = self._handle(ref)
        facts = self.present.facts(handle)
        if not ref.oid:
            return Was(facts.meta, facts.size, handle, facts.target, facts.device)
        packed, size = self.index.rows.meta(ref.oid, seq), self.index.rows.size(ref.oid, seq)
        meta = facts.meta if packed is None else unpack(packed)
        return Was(meta, facts.size if size is None else size, handle, facts.target, facts.device)

    def spans(self, oid: int, seq: int, lo: int, hi: int) -> Iterator[Span]:
        """Where [lo, hi), which lies below the length at the moment, comes from: in order, without gaps. What comes
        from the replica must have been read before."""
        size = self.grain.block
        for start in range(lo // size * size, hi, size):
            yield from self._block(oid, seq, start, max(lo, start), min(hi, start + size))

    def _block(self, oid: int, seq: int, start: int, lo: int, hi: int) -> list[Span]:
        found: list[Span] = []
        todo = [(lo, hi)]
        for row in self.index.rows.data(oid, self.grain.numbers(start), seq):
            begin = self.grain.start(row.block)
            rest: list[tuple[int, int]] = []
            for x, y in todo:
                a, z = max(x, begin + row.lo), min(y, begin + row.hi)
                if a >= z:
                    rest.append((x, y))
                    continue
                found.append(Span(a, z, row))
                rest += [(p, q) for p, q in ((x, a), (z, y)) if p < q]
            todo = rest
            if not todo:
                break
        return sorted(found + [Span(x, y, None) for x, y in todo])

    def ranges(self, oid: int, seq: int) -> Iterator[tuple[int, int]]:
        """Ranges [lo, hi) of the file about which rows end after the moment: blocks, and wide holes."""
        for number in self.index.rows.blocks(oid, seq):
            start = self.grain.start(number)
            yield start, start + self.grain.bytes_of(self.grain.level(number))

    def read(self, ref: Ref, seq: int, lo: int, hi: int) -> bytes:
        """[lo, hi) at the moment; shorter at the end of the file.

        Raises:
            ObjectLost: the replica lacks bytes that no record has taken away.
        """
        was = self.stat(ref, seq)
        hi = min(hi, was.size)
        if lo >= hi:
            return b""
        data = bytearray(self.present.read(was.handle, lo, hi))
        end = lo + len(data)
        data += bytes(hi - end)
        for a, z, row in self._spans(ref, seq, lo, hi):
            if row is not None:
                start = self.grain.start(row.block)
                data[a - lo : z - lo] = (
                    bytes(z - a) if row.segment == HOLE else self.old.read(row, a - start, z - start)
                )
            elif z > end:
                raise ObjectLost(ref.oid, "is shorter than it was left")
        return bytes(data)

    def _spans(self, ref: Ref, seq: int, lo: int, hi: int) -> Iterator[Span]:
        """A file whose content has not changed since is one span, however large it is."""
        if ref.oid and self.index.rows.has_data(ref.oid, seq):
            return self.spans(ref.oid, seq, lo, hi)
        return iter((Span(lo, hi, None),))

    def holes(self, ref: Ref, seq: int, lo: int, hi: int) -> Iterator[tuple[int, int]]:
        """Holes in [lo, hi) at the moment."""
        was = self.stat(ref, seq)
        hi = min(hi, was.size)
        if lo >= hi:
            return
        here = [extent for extent in self.present.extents(was.handle, lo, hi) if extent.hole]
        at = 0
        for a, z, row in self._spans(ref, seq, lo, hi):
            if row is not None and row.segment == HOLE:
                yield a, z
            while row is None and at < len(here) and here[at].lo < z:
                if a < here[at].hi:
                    yield max(a, here[at].lo), min(z, here[at].hi)
                if here[at].hi > z:
                    break
                at += 1

    # ------------------------------------------------------------------------------------------- where it is now

    def _handle(self, ref: Ref) -> Handle:
        return self.places.find(ref.oid) if ref.handle is None else ref.handle
