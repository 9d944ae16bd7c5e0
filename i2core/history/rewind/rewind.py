"""Turns the replica back in place: the records that lead from the present to a moment of the past.

Its cost is in proportion to what changed since, not to the size of the replica: rows that end after the moment say
which names, contents and attributes differ. The records are planned and captured like all others, so the way back is
itself a part of the history, can be undone, and after a crash is begun again.

    1. REMOVE    names that lead elsewhere now, the deepest first; their objects go into the store
    2. Restore, RENAME, LINK   names that led to something, directories first and from the top down
    3. TRUNCATE, PUNCH, WRITE   content
    4. SETATTR   attributes, and those of all that the steps before touched
"""

from __future__ import annotations

import stat
from collections.abc import Iterator

from i2core.api.present import STAGING, STORE
from i2core.api.records import Kind, Meta, Record
from i2core.history.index.schema import DATA, METAS, SIZES
from i2core.history.model.rows import HOLE, DataWas
from i2core.history.plan.step import Restore
from i2core.history.read.past import Past, Ref, Span
from i2core.history.read.paths import PathsAt, Place
from i2core.history.rewind.whereabouts import Whereabouts

_Name = tuple[int, bytes]


class Rewind:
    """The way back to one moment, from the present as it is when this is made. No other record comes in between."""

    def __init__(self, past: Past, seq: int) -> None:
        self._past, self._index, self._seq = past, past.index, seq
        self._then = PathsAt(past.index, seq)
        self._now = Whereabouts(past.index.catalog)
        self._changed = self._changed_names()
        self._wrong = {name: None for name in self._changed if self._index.catalog.home(*name) is not None}
        """Of these, those that still lead elsewhere."""
        self._contents = self._files_with_other_content()
        self._metas = self._attributes()

    def records(self) -> Iterator[Record | Restore]:
        """The records, in order: names, then contents, then attributes."""
        yield from self.names()
        yield from self.contents()
        yield from self.attributes()

    def names(self) -> Iterator[Record | Restore]:
        """To be taken as a whole before the first one is carried out."""
        yield from self._removals()
        yield from self._arrivals()
        yield from self._removals()  # of names in directories that lay in the store before

    def contents(self) -> Iterator[Record]:
        """Once names are right. May be carried out one by one, as they come."""
        for oid, size in self._contents.items():
            yield from self._content(oid, size)

    def attributes(self) -> Iterator[Record]:
        """Once contents are right."""
        for oid, meta in self._metas.items():
            place = self._then.place(oid)
            assert place is not None
            yield Record(Kind.SETATTR, *place, meta=meta)

    # ------------------------------------------------------------------------------------------- what differs

    def _changed_names(self) -> dict[_Name, int | None]:
        """What names led to that lead elsewhere now; None: to nothing."""
        wanted: dict[_Name, int | None] = {}
        for row in self._index.rows.names_ended(self._seq):
            wanted[row.parent, row.name] = row.oid if row.since <= self._seq else None
        for parent, name in self._index.catalog.changed_since(self._seq):
            wanted.setdefault((parent, name), None)
        shown = {oid for (parent, _), oid in wanted.items() if oid is not None and self._was_there(parent)}
        found: dict[_Name, int | None] = {}
        for (parent, name), oid in wanted.items():
            home = self._index.catalog.home(parent, name)
            there = home and home[0]
            if parent not in (STORE, STAGING) and there != oid and (self._was_there(parent) or there in shown):
                found[parent, name] = oid
        return found

    def _was_there(self, directory: int) -> bool:
        return directory not in (STORE, STAGING) and self._then.of_name(directory, b"0") is not None

    def _ids(self, *tables: str) -> dict[int, None]:
        """Objects of the moment about which rows of these tables end after it."""
        found: dict[int, None] = {}
        for table in (SIZES, DATA, METAS):
            if table.name in tables:
                found.update((row[0], None) for row in self._index.rows.ended(table, self._seq))
        return {oid: None for oid in found if self._then.place(oid) is not None}

    def _files_with_other_content(self) -> dict[int, int]:
        """Files, with their length at the moment."""
        return {oid: self._past.stat(Ref(oid), self._seq).size for oid in self._ids("size_was", "data_was")}

    def _attributes(self) -> dict[int, Meta]:
        """Attributes that differ, and of all that is touched by turning back."""
        oids = {**self._ids("meta_was"), **self._contents}
        oids.update((parent, None) for parent, _ in self._changed if self._was_there(parent))
        return {oid: self._past.stat(Ref(oid), self._seq).meta for oid in oids if self._then.place(oid) is not None}

    # ------------------------------------------------------------------------------------------- names

    def _removals(self) -> Iterator[Record]:
        """Of names that are on the replica: from the deepest up, so that each is where it was."""
        found: list[tuple[Place, _Name]] = []
        for name in self._wrong:
            place = self._now.of_name(*name)
            if place is not None:
                found.append((place, name))
        for place, name in sorted(found, key=lambda one: -one[0].depth):
            self._leave(name)
            yield Record(Kind.REMOVE, *place)

    def _arrivals(self) -> Iterator[Record | Restore]:
        """Directories from the top down, so that those above each stand where they stood then."""
        files: list[tuple[Place, _Name, int]] = []
        directories: list[tuple[Place, _Name, int]] = []
        for changed, oid in self._changed.items():
            place = self._then.of_name(*changed) if oid is not None and self._was_there(changed[0]) else None
            if place is not None and oid is not None:
                (directories if self._is_dir(oid) else files).append((place, changed, oid))
        for place, name, oid in sorted(directories, key=lambda one: one[0].depth):
            yield self._arrival(place, name, oid, Kind.RENAME)
        for place, name, oid in files:
            yield self._arrival(place, name, oid, Kind.LINK)

    def _arrival(self, place: Place, name: _Name, oid: int, kind: Kind) -> Record | Restore:
        """`kind`: how an object gets the name that is on the replica. What has the name is replaced."""
        homes = self._now.homes(oid)
        shown = [(home, found) for home in homes if (found := self._now.of_name(*home)) is not None]
        if name in self._wrong:
            self._leave(name)
        home, found = shown[0] if shown else (homes[0], None)
        kept = b"" if shown else self._now.kept(*home)
        if not shown or kind is Kind.RENAME:
            self._leave(home)
        self._now.arrive(oid, *name)
        if found is None:
            return Restore(*place, kept)
        old, new = (found.path, place.path) if kind is Kind.RENAME else (place.path, found.path)
        return Record(kind, place.root, old, other=new)

    def _leave(self, name: _Name) -> None:
        self._wrong.pop(name, None)
        self._now.leave(*name)

    def _is_dir(self, oid: int) -> bool:
        facts = self._past.present.facts(self._past.places.find(oid))
        return stat.S_ISDIR(facts.meta.mode)

    # ------------------------------------------------------------------------------------------- content

    def _content(self, oid: int, size: int) -> Iterator[Record]:
        place = self._then.place(oid)
        assert place is not None
        if self._past.present.facts(self._past.places.find(oid)).size != size:
            yield Record(Kind.TRUNCATE, *place, size=size)
        hole_bytes = self._past.grain.hole
        for begin, end in self._past.ranges(oid, self._seq):
            for hole, lo, hi, row in _joined(self._past.spans(oid, self._seq, begin, min(size, end))):
                if hole:
                    stop = -(-hi // hole_bytes) * hole_bytes  # also the block that the end of the file cuts
                    yield Record(Kind.PUNCH, *place, offset=lo, size=stop - lo)
                elif row is not None:
                    start = self._past.grain.start(row.block)
                    data = self._past.old.read(row, lo - start, hi - start)
                    yield Record(Kind.WRITE, *place, offset=lo, data=data)


def _joined(spans: Iterator[Span]) -> Iterator[tuple[bool, int, int, DataWas | None]]:
    """(is a hole, lo, hi, row) of the spans, holes beside each other in one."""
    lo = hi = -1
    for span in spans:
        hole = span.row is not None and span.row.segment == HOLE
        if lo >= 0 and not (hole and span.lo == hi):
            yield True, lo, hi, None
            lo = -1
        if not hole:
            yield False, span.lo, span.hi, span.row
            continue
        lo, hi = (span.lo if lo < 0 else lo), span.hi
    if lo >= 0:
        yield True, lo, hi, None
