"""Moments read as a `PastTree`, against the full copy of the moment."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import Any

from i2core.api.content import extents
from i2core.api.inode_flags import UNREAD, may_have_flags
from i2core.api.records import Entry, xattr_digest
from i2core.api.tree import OpenDirectory, OpenFile
from i2core.history.read.tree import PastTree

from .copies import Copy
from .world import Readable

_Path = tuple[bytes, ...]


class Moment:
    """A moment, with all its directories and files open, which records that follow must not change."""

    def __init__(self, world: Readable, seq: int) -> None:
        self._right = world.trees[seq]
        self._tree = PastTree(world.past(), seq, b"/replica", flags=True)
        self._directories: dict[_Path, OpenDirectory] = {}
        self._files: dict[_Path, OpenFile] = {}
        self._inodes: dict[_Path, int] = {}
        """Inode numbers, which stay as they were when they were read first."""

    def open(self) -> None:
        """Opens all."""
        for path, copy in self._right.items():
            if stat.S_ISDIR(copy.mode):
                self._directories[path] = self._tree.directory(b"/".join(path))
            elif stat.S_ISREG(copy.mode):
                self._files[path] = self._directories[path[:-1]].open(path[-1])

    def close(self) -> None:
        """Closes all."""
        for each in (*self._files.values(), *self._directories.values()):
            each.close()
        self._files, self._directories = {}, {}
        self._tree.close()

    def check(self, where: object) -> None:
        """All of it reads as it was: through what is open, or, when nothing is, through what is opened for it."""
        was_open = bool(self._directories)
        if not was_open:
            self.open()
        found = self._entries()
        assert found.keys() == self._right.keys(), (where, sorted(found.keys() ^ self._right.keys()))
        groups: dict[tuple[int, int], _Path] = {}
        links: dict[_Path, int] = {}
        for path in self._right:
            group = groups.setdefault((found[path].dev, found[path].ino), path)
            links[group] = links.get(group, 0) + 1
        for path, right in self._right.items():
            group = groups[found[path].dev, found[path].ino]
            seen = self._seen(path, found[path], right)
            assert (group, *seen) == (right.group, *_promised(right)), (where, path, group, seen, right)
            assert found[path].nlink == links[group], (where, path, found[path], links[group])
            assert self._inodes.setdefault(path, found[path].ino) == found[path].ino, (where, path, "another inode")
        if not was_open:
            self.close()

    def _entries(self) -> dict[_Path, Entry]:
        found: dict[_Path, Entry] = {(): self._directories[()].here()}
        for path, directory in self._directories.items():
            here = directory.here()._replace(name=path[-1] if path else b"")
            assert self._same(path, here, self._tree.lookup(b"/".join(path)))
            for part in directory.listing(3):
                for entry in part:
                    found[*path, entry.name] = entry
                    assert directory.entry(entry.name) == entry
        return found

    def _same(self, path: _Path, one: Entry, other: Entry | None) -> bool:
        """True for equal entries; a time that is an accident may have changed between the two."""
        if other is not None and self._right[path].accidental:
            other = other._replace(mtime_ns=one.mtime_ns)
        return one == other

    def _seen(self, path: _Path, entry: Entry, right: Copy) -> tuple[Any, ...]:
        directory = self._directories[path if stat.S_ISDIR(entry.mode) else path[:-1]]
        xattrs = directory.xattrs(b"" if stat.S_ISDIR(entry.mode) else path[-1])
        assert xattrs is not None and entry.xattrs == xattr_digest(xattrs)
        mtime_ns = right.meta[3] if right.accidental else entry.mtime_ns
        data = holes = b""
        if stat.S_ISREG(entry.mode):
            file = self._files[path]
            assert self._same(path, file.entry(entry.xattrs, entry.flags), entry) and file.xattrs() == xattrs
            data, holes = bytes(file.read(0, entry.size + 9)), b"".join(_holes(file, entry.size))
            if entry.size > 3:
                assert file.read(1, 2) == data[1:3]
        meta = (entry.mode, entry.uid, entry.gid, mtime_ns, xattrs, entry.flags)
        return meta, data, holes, entry.target, entry.rdev


def _holes(file: OpenFile, size: int) -> Iterator[bytes]:
    """A flag for each byte."""
    at = 0
    for start, end, data in extents(file, 0, size):
        assert start == at < end
        at = end
        yield bytes([not data]) * (end - start)


def _promised(right: Copy) -> tuple[Any, ...]:
    meta = right.meta if may_have_flags(right.mode) else (*right.meta[:5], UNREAD)
    return meta, right.data, right.holes, right.target, right.device
