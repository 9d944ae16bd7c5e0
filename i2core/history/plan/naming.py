"""Plans records that give, take and move names."""

from __future__ import annotations

import stat

from i2core.api.records import Kind, Meta, Record
from i2core.history.plan.capture import Capture
from i2core.history.plan.staging import key
from i2core.history.plan.step import Restore
from i2core.history.plan.view import Thing, View

_NEW_TYPES = {Kind.CREATE: stat.S_IFREG, Kind.MKDIR: stat.S_IFDIR, Kind.SYMLINK: stat.S_IFLNK}


class Naming:
    """A method for each kind. One that cannot be carried out as things stand plans nothing."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture

    @property
    def _view(self) -> View:
        return self._capture.view

    def put(self, record: Record) -> None:
        """CREATE, SYMLINK, MKNOD, and MKDIR where no directory is: a new object takes the name."""
        place, capture = self._view.place(record.root, record.path), self._capture
        if place is None or not record.path:
            return
        directory, name = place
        capture.touch(directory)
        capture.leave(directory, name, record.path)
        meta = record.meta or Meta(_NEW_TYPES.get(record.kind, 0) | 0o600, 0, 0, 0)
        thing = capture.new(meta)
        if record.kind is Kind.CREATE and record.data:
            thing.content.write(0, record.data, capture.step.seq)
        capture.step.oid = capture.step.made = capture.arrive(directory, name, thing)
        capture.step.length = len(record.data)

    def mkdir(self, record: Record) -> None:
        thing = self._view.find(record.root, record.path)
        if thing is None or not thing.is_dir:
            self.put(record)
        else:
            self._capture.set_meta(thing, record.meta)
            self._capture.step.oid = thing.oid or 0

    def link(self, record: Record) -> None:
        place, thing = self._view.place(record.root, record.path), self._view.find(record.root, record.other)
        if place is None or thing is None or thing.is_dir or self._view.slot(*place).thing is thing:
            return
        capture, (directory, name) = self._capture, place
        capture.ident(thing)
        capture.touch(directory)
        capture.leave(directory, name, record.path)
        capture.step.oid = capture.arrive(directory, name, thing)

    def rename(self, record: Record) -> None:
        old, new = record.path, record.other
        if not old or not new or old == new or old.startswith(new + b"/") or new.startswith(old + b"/"):
            return
        source, target = self._view.place(record.root, old), self._view.place(record.root, new)
        if source is None or target is None:
            return
        thing, there = self._view.slot(*source).thing, self._view.slot(*target).thing
        if thing is None:
            return
        capture = self._capture
        capture.touch(source[0])
        capture.touch(target[0])
        if there is thing:
            capture.leave(*source, old)
        else:
            capture.leave(*target, new)
            capture.leave(*source, old, stays=True)
            capture.arrive(*target, thing)
        capture.step.oid = thing.oid or 0

    def remove(self, record: Record) -> None:
        if record.staged:
            self._view.set(self._view.staging, key(record), None, self._capture.step.seq)
        elif not record.path:
            root = self._view.find(record.root, b"")
            for name in () if root is None else self._view.names(root):
                self._lose(root, name, name)
        else:
            place = self._view.place(record.root, record.path)
            if place is not None:
                self._lose(*place, record.path)

    def _lose(self, directory: Thing | None, name: bytes, shown: bytes) -> None:
        if directory is not None and self._view.slot(directory, name).thing is not None:
            self._capture.touch(directory)
            thing = self._capture.leave(directory, name, shown)
            self._capture.step.oid = (thing and thing.oid) or 0

    def restore(self, record: Restore) -> None:
        place = self._view.place(record.root, record.path)
        above, _, name = record.kept.rpartition(b"/")
        directory: Thing | None = self._view.store
        for part in above.split(b"/") if above else ():
            directory = None if directory is None else self._view.slot(directory, part).thing
        thing = None if directory is None else self._view.slot(directory, name).thing
        if place is None or directory is None or thing is None:
            return
        capture = self._capture
        capture.touch(place[0])
        if directory is not self._view.store:
            capture.touch(directory)
        capture.leave(*place, record.path)
        capture.leave(directory, name, b"", stays=True)
        capture.step.oid = capture.arrive(*place, thing)
