"""The replica as it will be when the records planned so far are carried out: what planning sees.

A batch is planned as a whole before its first record is carried out, and while the batch before it still is. So names
and contents that planned records change are taken from here, and all others from the replica as it stands.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import attrs

from i2core.api.present import STAGING, STORE, TOP, Facts, Handle, Identity, Present
from i2core.api.records import Meta
from i2core.history.plan.content import Content


class MustWait(Exception):
    """This can only be planned when the records planned so far are carried out."""


class ForeignChange(Exception):
    """The catalog knows another object under this name: somebody else has changed the replica, and history lacks that
    change. Take the name out of the catalog, tell of the gap, compare the place, and plan again."""

    def __init__(self, parent: int, name: bytes, oid: int) -> None:
        super().__init__(f"{name!r} in {parent} is not object {oid}")
        self.parent, self.name, self.oid = parent, name, oid


class Known(Protocol):
    """What planning asks of the catalog."""

    def home(self, parent: int, name: bytes) -> tuple[int, int] | None:
        """Object and seq since which it has this name; None: the object has no history."""

    def homes(self, oid: int) -> list[tuple[int, bytes]]:
        """All names of an object: (parent, name)."""

    def identity(self, oid: int) -> Identity | None:
        """None: not known."""


@attrs.define(eq=False)
class Thing:
    """An object of the view."""

    meta: Meta
    content: Content
    spot: tuple[Thing, bytes] | None
    """A name that leads to it; the only one, if it has no oid. None: one of the fixed directories, or not known."""
    handle: Handle | None = None
    """None: it was made by a planned record."""
    identity: Identity | None = None
    oid: int | None = None
    homes: set[tuple[int, bytes]] = attrs.field(factory=set)
    """The names of an object with an oid."""
    slots: dict[bytes, Slot] = attrs.field(factory=dict)
    """Of a directory: names that were looked up or are changed by planned records."""
    made: int = 0
    """The planned record that made it; 0: it is on the disk."""
    changed: int = 0
    """The last planned record that changes it or a name in it."""

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.meta.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.meta.mode)


class Slot(NamedTuple):
    """A name in a directory."""

    thing: Thing | None
    since: int
    seq: int
    """The planned record that set it; 0: it stands so on disk."""


class Run(NamedTuple):
    """A range of a file: all of it a hole, or all of it data."""

    lo: int
    hi: int
    hole: bool


class View:
    """Looks up names and contents, planned changes first."""

    def __init__(self, known: Known, present: Present, hole_bytes: int) -> None:
        self._known = known
        self._present = present
        self._hole_bytes = hole_bytes
        self._applied = 0
        self._things: dict[Thing, None] = {}
        self._by_oid: dict[int, Thing] = {}
        directory = Meta(stat.S_IFDIR, 0, 0, 0)
        self.top, self.store, self.staging = (
            Thing(directory, Content(0), None, present.directory(oid), oid=oid) for oid in (TOP, STORE, STAGING)
        )

    # ------------------------------------------------------------------------------------------- names

    def find(self, root: int, path: bytes) -> Thing | None:
        """The object at the path."""
        thing = self.slot(self.top, b"%d" % root).thing
        for name in path.split(b"/") if path else ():
            if thing is None or not thing.is_dir:
                return None
            thing = self.slot(thing, name).thing
        return thing

    def place(self, root: int, path: bytes) -> tuple[Thing, bytes] | None:
        """The directory that holds the path, and the name in it; None: there is no such directory."""
        above, _, name = path.rpartition(b"/")
        directory = self.find(root, above)
        return (directory, name) if directory is not None and directory.is_dir else None

    def slot(self, directory: Thing, name: bytes) -> Slot:
        """What has the name.

        Raises:
            ForeignChange: not what the catalog says.
            MustWait: the directory is on its way.
        """
        slot = directory.slots.get(name)
        if slot is None:
            slot = directory.slots[name] = self._look(directory, name)
        return slot

    def names(self, directory: Thing) -> list[bytes]:
        """All names in the directory."""
        handle = self.handle(directory)
        found = set() if handle is None else set(self._present.names(handle))
        return sorted(name for name in found | set(directory.slots) if self.slot(directory, name).thing is not None)

    def set(self, directory: Thing, name: bytes, thing: Thing | None, seq: int) -> None:
        """A planned record gives the name to this object, or to none."""
        directory.slots[name] = Slot(thing, seq, seq)
        directory.changed = seq
        self._things[directory] = None
        if thing is not None:
            thing.spot = (directory, name)
            thing.changed = seq
            self._things[thing] = None

    def _look(self, directory: Thing, name: bytes) -> Slot:
        above = self.handle(directory)
        handle = None if above is None else self._present.child(above, name)
        home = None if directory.oid is None else self._known.home(directory.oid, name)
        oid, since = home or (None, 0)
        if handle is None:
            if directory.oid is not None and oid is not None and directory is not self.staging:
                raise ForeignChange(directory.oid, name, oid)
            return Slot(None, 0, 0)
        thing = None if oid is None else self._by_oid.get(oid)
        if thing is not None:
            self._present.release(handle)
            return Slot(thing, since, 0)
        facts = self._present.facts(handle)
        thing = Thing(facts.meta, Content(facts.size), (directory, name), handle, facts.identity, oid)
        self._things[thing] = None
        if oid is not None:
            self._check(facts, directory, name, oid)
            thing.homes = set(self._known.homes(oid))
            self._by_oid[oid] = thing
        return Slot(thing, since, 0)

    def _check(self, facts: Facts, directory: Thing, name: bytes, oid: int) -> None:
        identity = self._known.identity(oid)
        if identity is not None and identity != facts.identity and directory.oid is not None:
            raise ForeignChange(directory.oid, name, oid)

    # ------------------------------------------------------------------------------------------- objects

    def add(self, thing: Thing) -> None:
        """A thing that has its oid from now on."""
        assert thing.oid is not None
        self._things[thing] = None
        self._by_oid[thing.oid] = thing

    def handle(self, thing: Thing) -> Handle | None:
        """The open object; None: it is not on the disk yet.

        Raises:
            MustWait: it is on the disk, at a place that a planned record changes.
        """
        if thing.handle is None and 0 < thing.made <= self._applied:
            directory, name = thing.spot or (None, b"")
            if directory is None or self.slot(directory, name).seq > self._applied:
                raise MustWait
            above = self.handle(directory)
            thing.handle = None if above is None else self._present.child(above, name)
            if thing.handle is None:
                raise MustWait
            thing.identity = self._present.facts(thing.handle).identity
        return thing.handle

    def runs(self, thing: Thing, lo: int, hi: int) -> Iterator[Run]:
        """[lo, hi) below the end of a file as runs of holes and data. A hole is given with all of its first and last
        block, for a write into a part of such a block makes all of it data."""
        size, step = thing.content.size, self._hole_bytes
        hi = min(hi, size)
        start, end = lo // step * step, min(size, -(-hi // step) * step)
        last: Run | None = None
        for known in self._rounded(self._raw(thing, start, end), start, end):
            run = known if known.hole else Run(max(lo, known.lo), min(hi, known.hi), False)
            if last is None or last.hole != run.hole:
                if last is not None:
                    yield last
                last = run
            else:
                last = Run(last.lo, run.hi, run.hole)
        if last is not None:
            yield last

    def resize(self, thing: Thing, size: int, seq: int) -> None:
        """A planned record cuts the file, or lets it grow. The block in which the new end lies stays data, also where
        its only data lay beyond the end."""
        start = size // self._hole_bytes * self._hole_bytes
        solid = start < size < thing.content.size and not self._is_hole(thing, start, size)
        thing.content.resize(size, seq)
        if solid and self._is_hole(thing, start, size):
            thing.content.clear(start, size, seq, hole=False)

    def _is_hole(self, thing: Thing, lo: int, hi: int) -> bool:
        return all(run.hole for run in self.runs(thing, lo, hi))

    def _raw(self, thing: Thing, lo: int, hi: int) -> Iterator[Run]:
        """Holes and data as they are known, not rounded to blocks."""
        for part in thing.content.parts(lo, hi):
            if part.piece is not None:
                yield Run(part.lo, part.hi, part.piece.hole)
                continue
            for extent in self._present.extents(self.on_disk(thing), part.lo, part.hi):
                yield Run(*extent)

    def _rounded(self, raw: Iterator[Run], lo: int, hi: int) -> Iterator[Run]:
        """[lo, hi) in whole blocks: one that has any data is no hole."""
        step, at = self._hole_bytes, lo
        for run in raw:
            if run.hole:
                continue
            first, last = run.lo // step * step, min(hi, -(-run.hi // step) * step)
            if first > at:
                yield Run(at, first, True)
            if last > at:
                yield Run(max(at, first), last, False)
                at = last
        if at < hi:
            yield Run(at, hi, True)

    def on_disk(self, thing: Thing) -> Handle:
        """The open object of a file with bytes that no planned record wrote."""
        handle = self.handle(thing)
        assert handle is not None, "bytes that nobody wrote"
        return handle

    # ------------------------------------------------------------------------------------------- time goes on

    def applied(self, seq: int) -> None:
        """Records up to `seq` are carried out: what they changed is on the disk."""
        self._applied = seq
        fixed = (self.top, self.store, self.staging)
        needed: dict[Thing, None] = {}
        for thing in self._things:
            at: Thing | None = thing if thing.changed > seq else None
            while at is not None and at not in needed:
                needed[at] = None
                at = at.spot[0] if at.spot else None
        for thing in self._things:
            if thing not in needed and thing not in fixed:
                self._drop(thing)
        self._things = needed
        for thing in {**needed, **dict.fromkeys(fixed)}:
            thing.slots = {n: slot for n, slot in thing.slots.items() if slot.seq > seq or slot.thing in needed}
            thing.content.applied(seq)

    def close(self) -> None:
        """Releases all handles; the view is not used any more."""
        for thing in self._things:
            if thing not in (self.top, self.store, self.staging):
                self._drop(thing)
        self._things = {}

    def _drop(self, thing: Thing) -> None:
        if thing.oid is not None:
            self._by_oid.pop(thing.oid, None)
        if thing.handle is not None:
            self._present.release(thing.handle)
            thing.handle = None
