"""A past moment of the replica as a `Tree`: mirror, compare and recovery read it like a directory of this machine.

    PastTree ──directory(path)──▶ PastDirectory ──open(name)──▶ PastFile

An object of the moment may have a number or not when it is opened; a record may give it one, and retention may take it
away again. So an open object keeps its handle and the names that led to it at the moment, which never change, and asks
the index for its number with each question. No number is remembered.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import attrs
import xxhash

from i2core.api.inode_flags import UNREAD, flags_of, may_have_flags
from i2core.api.present import Handle
from i2core.api.records import Entry, Xattrs, xattr_digest
from i2core.api.tree import AttributesUnreadable, OpenDirectory, Opened, OpenFile, RootGone, Tree, Unread, raise_it
from i2core.history.read.past import Past, Ref, Was
from i2core.history.read.paths import PathsAt
from i2core.history.read.places import ObjectLost, Places

_OPEN_ENTRIES = 256
"""Objects of a listing that are open at a time."""
_FIRST_BYTES, _MOST_BYTES = 1 << 20, 1 << 30
"""Holes are sought in ranges from this to that size, each twice as large as the one before."""
_SINGLE = 1 << 63
"""Set in the inode numbers of objects with one name."""

Names = tuple[bytes, ...]
"""Names that lead to an object, each in the directory before, from the root on."""


@attrs.frozen
class _Reading:
    """Answers of one moment, under one hold of the lock."""

    past: Past
    root: int
    seq: int
    flags: bool
    paths: PathsAt

    def ref(self, names: Names, handle: Handle | None) -> Ref:
        """An object that is open."""
        assert handle is not None, "it is closed"
        return Ref(self.past.number(self.root, names, self.seq), handle)

    def child(self, directory: Ref, name: bytes) -> Ref | None:
        return self.past.child(directory, name, self.seq)

    def stat(self, ref: Ref) -> Was:
        return self.past.stat(ref, self.seq)

    def entry(self, ref: Ref, names: Names, was: Was) -> Entry:
        """Its entry. Two values are no more than they can be: `ctime_ns` is the number of the moment, so that no entry
        of another moment passes for the same state. `blocks` is one less than the size needs: there may be holes, and
        who wants to know asks for them."""
        meta = was.meta
        size = len(was.target) or was.size
        ino, links = self._identity(ref.oid, names, meta.mode)
        return Entry(
            names[-1] if names else b"",
            meta.mode,
            meta.uid,
            meta.gid,
            size,
            meta.mtime_ns,
            links,
            ino,
            rdev=was.device,
            ctime_ns=self.seq,
            blocks=max(0, -(-size // 512) - 1),
            target=was.target,
            xattrs=xattr_digest(meta.xattrs or ()),
            flags=meta.flags if self.flags and may_have_flags(meta.mode) else UNREAD,
        )

    def _identity(self, oid: int, names: Names, mode: int) -> tuple[int, int]:
        """Inode number and count of names. An object with several names always has a number, from the record that gave
        it the second one at the latest. One with a single name may get a number or lose it, so a digest of its path
        stands for it."""
        links = 1 if stat.S_ISDIR(mode) or not oid else self._links(oid)
        if links > 1:
            return oid, links
        return _SINGLE | xxhash.xxh3_64_intdigest(b"/".join((b"%d" % self.root, *names))), 1

    def _links(self, oid: int) -> int:
        return sum(self.paths.of_name(parent, name) is not None for parent, name in self.paths.names(oid))

    def keep(self, ref: Ref) -> Handle:
        """The open object itself; the caller releases it."""
        places = self.past.places
        return places.hand_over(places.find(ref.oid) if ref.handle is None else ref.handle)


class _Held(Opened):
    """An open object of the moment."""

    __slots__ = ("_handle", "_names", "_own", "_tree", "_was")

    def __init__(self, tree: PastTree, reading: _Reading, ref: Ref, names: Names, was: Was) -> None:
        self._tree = tree
        self._names = names
        self._was = was
        self._own = reading.entry(ref, names, was)
        self._handle: Handle | None = reading.keep(ref)

    def kernel_flags(self) -> int:
        """Those that a rule carries."""
        return flags_of(max(0, self._was.meta.flags))

    def close(self) -> None:
        if self._handle is not None:
            with self._tree.reading() as reading:
                reading.past.present.release(self._handle)
            self._handle = None

    def _ref(self, reading: _Reading) -> Ref:
        return reading.ref(self._names, self._handle)


class PastFile(_Held, OpenFile):
    """A file of a `PastTree`."""

    __slots__ = ()

    def read(self, start: int, length: int) -> memoryview:
        """As `Content.read`.

        Raises:
            ObjectLost: somebody else has made the file shorter since it was opened, or took bytes that are needed.
        """
        end = min(start + length, self._was.size)
        with self._tree.reading() as reading:
            ref = self._ref(reading)
            data = reading.past.read(ref, reading.seq, start, end)
        if len(data) < end - start:
            raise ObjectLost(ref.oid, "is shorter than it was left")
        return memoryview(data)

    def next_data(self, at: int) -> int | None:
        for end, holes in self._holes(at):
            for lo, hi in holes:
                if lo > at:
                    return at
                at = hi
            if at < end:
                return at
        return None

    def next_hole(self, at: int) -> int | None:
        for _, holes in self._holes(at):
            if holes:
                return holes[0][0]
        return self._was.size if at < self._was.size else None

    def _holes(self, at: int) -> Iterator[tuple[int, list[tuple[int, int]]]]:
        """Ranges from `at` on, each by its end, and the holes in it."""
        step = _FIRST_BYTES
        while at < self._was.size:
            end = min(at + step, self._was.size)
            with self._tree.reading() as reading:
                found = list(reading.past.holes(self._ref(reading), reading.seq, at, end))
            yield end, found
            at, step = end, min(2 * step, _MOST_BYTES)

    def entry(self, xattrs: int = 0, flags: int = UNREAD) -> Entry:
        """A moment of the past has no later state."""
        return self.as_opened(xattrs, flags)

    def as_opened(self, xattrs: int = 0, flags: int = UNREAD) -> Entry:
        return self._own._replace(xattrs=xattrs, flags=flags)

    def xattrs(self) -> Xattrs:
        return self._was.meta.xattrs or ()

    def flags(self) -> int:
        return max(0, self._was.meta.flags)


class PastDirectory(_Held, OpenDirectory):
    """A directory of a `PastTree`."""

    __slots__ = ("_only",)

    def __init__(self, tree: PastTree, reading: _Reading, ref: Ref, names: Names, was: Was) -> None:
        super().__init__(tree, reading, ref, names, was)
        self._only = None if names else tree.only

    def here(self) -> Entry:
        return self._own._replace(name=b"")

    def entry(self, name: bytes) -> Entry | None:
        with self._tree.reading() as reading:
            return self._entry(reading, self._ref(reading), name)

    def _entry(self, reading: _Reading, ref: Ref, name: bytes) -> Entry | None:
        try:
            child = reading.child(ref, name)
            return None if child is None else reading.entry(child, (*self._names, name), reading.stat(child))
        except OSError as error:
            raise AttributesUnreadable(error.errno, error.strerror, name) from error

    def names(self, most: int) -> Iterator[list[bytes]]:
        """As `OpenDirectory.names`. All names are in memory meanwhile."""
        with self._tree.reading() as reading:
            names = list(reading.past.listed(self._ref(reading), reading.seq))
        if self._only is not None:
            names = [name for name in names if name == self._only]
        for at in range(0, len(names), most):
            yield names[at : at + most]

    def look(self, names: Sequence[bytes]) -> list[Entry | None]:
        found: list[Entry | None] = []
        for at in range(0, len(names), _OPEN_ENTRIES):
            with self._tree.reading() as reading:
                ref = self._ref(reading)
                found += [self._entry(reading, ref, name) for name in names[at : at + _OPEN_ENTRIES]]
        return found

    def listing(self, most: int, unread: Unread = raise_it) -> Iterator[list[Entry]]:
        """As `OpenDirectory.listing`. A name that is not there any more cannot be read: no name of the moment goes."""
        for names in self.names(most):
            missing = dict.fromkeys(names)

            def note(error: AttributesUnreadable, missing: dict[bytes, None] = missing) -> None:
                missing.pop(error.filename, None)
                unread(error)

            found = self._readable(names, note)
            for entry in found:
                missing.pop(entry.name, None)
            for name in missing:
                lost = ObjectLost(0, "is no longer in a directory that it was in")
                error = AttributesUnreadable(lost.errno, lost.strerror, name)
                error.__cause__ = lost
                unread(error)
            yield found

    def xattrs(self, name: bytes) -> Xattrs | None:
        if not name:
            return self._was.meta.xattrs or ()
        with self._tree.reading() as reading:
            child = reading.child(self._ref(reading), name)
            return () if child is None else reading.stat(child).meta.xattrs or ()

    def open(self, name: bytes) -> OpenFile:
        with self._tree.reading() as reading:
            child = reading.child(self._ref(reading), name)
            was = None if child is None else reading.stat(child)
            if child is None or was is None or not stat.S_ISREG(was.meta.mode):
                raise _gone(errno.ENOENT, name)
            return PastFile(self._tree, reading, child, (*self._names, name), was)


class PastTree(Tree):
    """One root at one moment that can be had, and is kept for as long as the tree is read.

    What somebody else has changed on the replica is an `ObjectLost` as far as the history can tell: an object that has
    a number and is not where it was left, or is another one; bytes that are missing. Where nothing has changed since
    the moment, the replica is all that there is, and a change by somebody else is a part of it.
    """

    is_fixed = True

    def __init__(
        self,
        past: Past,
        seq: int,
        path: bytes,
        *,
        root: int = 0,
        only: bytes | None = None,
        flags: bool = False,
        lock: AbstractContextManager[object] | None = None,
    ) -> None:
        """`path`: what people call it. `root`: number of the root. `flags`: of a rule that carries them. `lock` is held
        during each question; whoever changes the index holds it as well (None: the index does not change)."""
        self.path = path
        self.only = only
        self.flags = flags
        self._past = attrs.evolve(past, places=Places(past.index, past.present))
        self._seq, self._root = seq, root
        self._lock = threading.Lock() if lock is None else lock

    @contextmanager
    def reading(self) -> Iterator[_Reading]:
        """For one question. What was opened for it is released, unless it was kept."""
        with self._lock:
            try:
                paths = PathsAt(self._past.index, self._seq)
                yield _Reading(self._past, self._root, self._seq, self.flags, paths)
            finally:
                self._past.places.close()

    def directory(self, path: bytes) -> OpenDirectory:
        with self.reading() as reading:
            ref, names = self._top(reading), tuple(path.split(b"/")) if path else ()
            for name in names:
                child = reading.child(ref, name)
                if child is None:
                    raise _gone(errno.ENOENT, path)
                ref = child
            was = reading.stat(ref)
            if not stat.S_ISDIR(was.meta.mode):
                raise _gone(errno.ENOTDIR, path)
            return PastDirectory(self, reading, ref, names, was)

    def _top(self, reading: _Reading) -> Ref:
        ref = reading.past.root(self._root, self._seq)
        try:
            if ref is not None:
                reading.stat(ref)
                return ref
        except ObjectLost as error:
            raise RootGone(self) from error
        raise RootGone(self)

    def lookup(self, path: bytes) -> Entry | None:
        above, _, name = path.rpartition(b"/")
        try:
            with self.directory(above) as directory:
                return directory.entry(name) if path else directory.here()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def is_present(self) -> bool:
        try:
            with self.reading() as reading:
                self._top(reading)
        except RootGone:
            return False
        return True

    def close(self) -> None:
        """Nothing stays open between two questions, except what the caller has opened."""


def _gone(number: int, path: bytes) -> OSError:
    return OSError(number, os.strerror(number), path)
