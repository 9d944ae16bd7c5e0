"""Plans records that change the content or the attributes of an object, in place or by way of a staging file."""

from __future__ import annotations

import stat

from i2core.api.records import Meta, Record
from i2core.history.plan.capture import Capture, merged
from i2core.history.plan.staging import Staging, key
from i2core.history.plan.view import Thing, View

_END = 1 << 63
_NEW_FILE = Meta(stat.S_IFREG | 0o600, 0, 0, 0)


class Contents:
    """A method for each kind. One that cannot be carried out as things stand plans nothing."""

    def __init__(self, capture: Capture, staging: Staging) -> None:
        self._capture, self._staging = capture, staging

    @property
    def _view(self) -> View:
        return self._capture.view

    def stage(self, record: Record) -> None:
        if record.size == 1:
            return  # one that exists is continued
        if self._view.place(record.root, record.path) is not None:
            fresh = self._capture.new(_NEW_FILE)
            self._view.set(self._view.staging, key(record), fresh, self._capture.step.seq)

    def write(self, record: Record) -> None:
        thing, staged = self._target(record)
        if thing is None or not record.data:
            return
        capture, lo, size = self._capture, record.offset, thing.content.size
        end = lo + len(record.data)
        if not staged:
            hole = self._capture.grain.hole
            if end > size and size % hole and lo // hole <= size // hole:
                self._save_last_hole(thing, size)
            capture.save(thing, lo, end, record.data)
            capture.resize(thing, max(size, end))
            self._log(thing, len(record.data))
        thing.content.write(lo, record.data, capture.step.seq)

    def _save_last_hole(self, thing: Thing, size: int) -> None:
        """If the last block before the end is a hole, a write to it makes it data, also what lies below the old end."""
        start = size // self._capture.grain.hole * self._capture.grain.hole
        if all(run.hole for run in self._view.runs(thing, start, size)):
            self._capture.save(thing, start, size)

    def punch(self, record: Record) -> None:
        thing, staged = self._target(record)
        if thing is None:
            return
        capture, lo, hi = self._capture, record.offset, record.offset + record.size
        if not staged:
            capture.save(thing, lo, hi)
            self._log(thing, record.size)
        block, seq = self._capture.grain.hole, capture.step.seq
        first, last = -(-lo // block) * block, hi // block * block
        for a, z in ((lo, min(first, hi)), (max(last, first), hi)):
            self._zero(thing, a, z)
        thing.content.clear(first, last, seq, hole=True)

    def _zero(self, thing: Thing, lo: int, hi: int) -> None:
        """Zeros in a part of one block, which stays a hole if it was one."""
        if lo < min(hi, thing.content.size) and not all(run.hole for run in self._view.runs(thing, lo, hi)):
            thing.content.clear(lo, hi, self._capture.step.seq, hole=False)

    def truncate(self, record: Record) -> None:
        thing, staged = self._target(record)
        if thing is None:
            return
        if staged:
            self._view.resize(thing, record.size, self._capture.step.seq)
        else:
            self._resize(thing, record.size)

    def publish(self, record: Record) -> None:
        capture, place = self._capture, self._view.place(record.root, record.path)
        if place is None:
            return
        directory, name = place
        staged = self._staging.find(record)
        if staged is None:
            return
        self._staging.identify(staged)
        capture.ident(directory)
        self._view.resize(staged, record.size, capture.step.seq)
        if record.meta is not None:
            staged.meta = merged(staged.meta, record.meta)
        capture.touch(directory)
        capture.leave(directory, name, record.path)
        capture.leave(self._view.staging, key(record), b"", stays=True)
        capture.touched.discard(staged.oid or 0)
        capture.step.oid = capture.arrive(directory, name, staged, born=capture.step.seq)
        capture.step.length = record.size

    def setattr(self, record: Record) -> None:
        thing = self._view.find(record.root, record.path)
        if thing is not None:
            self._capture.set_meta(thing, record.meta)
            self._capture.step.oid = thing.oid or 0

    def _target(self, record: Record) -> tuple[Thing | None, bool]:
        """The file that a record changes in place, and whether that is a staging file."""
        if record.staged:
            staged = self._staging.find(record)
            if staged is not None:
                staged.changed = self._capture.step.seq
            return staged, True
        thing = self._view.find(record.root, record.path)
        return (thing if thing is not None and thing.is_file else None), False

    def _resize(self, thing: Thing, size: int) -> None:
        self._log(thing, 0)  # also where the length stays: ftruncate(2) sets the time all the same
        if size != thing.content.size:
            self._capture.save(thing, size, _END)
            self._capture.resize(thing, size)
            self._view.resize(thing, size, self._capture.step.seq)

    def _log(self, thing: Thing, length: int) -> None:
        self._capture.touch(thing)
        self._capture.step.oid, self._capture.step.length = thing.oid or 0, length
