"""Places watches on a tree of directories, a bounded number at a time, and records the directories without a watch.

While a step of a walk runs, nothing else changes the table, and new events wait in the queue. So the findings of a walk
are at least as new as all events that were processed before it, and every later change still has its event to come.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from i2_capture_inotify.kernel import Inotify
from i2_capture_inotify.watches import Directory, WatchTable
from i2core.api import CaptureContext, Place
from i2core.posix.errnos import GONE
from i2core.posix.opening import READABLE
from i2core.posix.syscalls import open_beneath

_GONE = frozenset((*GONE, errno.ESTALE))
"""The directory was removed or replaced since it was listed: its event is still in the queue."""

LIMIT_REACHED = "the limit of watches is reached"
_TWICE = "it is visible at two places (nested sources, or a bind mount)"


class Spot(NamedTuple):
    """A place to look for a directory: a name in a watched directory, or a root (no parent)."""

    parent: Directory | None
    name: bytes
    root: int


class Walk:
    """Directories still to be visited.

    `distrust`: known directories are visited completely as well, because events were lost. `announce`: new directories
    are not entered, but added to `surprises`, because they must be reported first.
    """

    def __init__(self, *spots: Spot, distrust: bool = False, announce: bool = False) -> None:
        self.todo: deque[Spot] = deque(spots)
        self.distrust = distrust
        self.announce = announce
        self.surprises: list[Spot] = []


class Walker:
    """Visits directories for walks."""

    def __init__(self, inotify: Inotify, table: WatchTable, context: CaptureContext) -> None:
        self._inotify = inotify
        self._table = table
        self._context = context
        self._parent: Directory | None = None
        self._parent_fd = -1
        self.unwatched: dict[Place, str] = {}
        """Tops of trees that have no watch, with the reason."""
        self.root_ids: dict[int, tuple[int, int]] = {}
        """Device and inode of each root at the time when its watch was placed."""

    def step(self, walk: Walk, most: int) -> None:
        """Visits up to `most` directories of the walk, depth first."""
        try:
            while walk.todo and most > 0:
                most -= 1
                self._visit(walk.todo.pop(), walk)
        finally:
            self._release_parent()

    def _visit(self, spot: Spot, walk: Walk) -> None:
        parent, name, root = spot
        path = b""
        if parent is not None:
            prefix = self._table.prefix(parent)
            if prefix is None:
                return
            root, path = parent.root, prefix + name
            if not self._context.wants_dir(root, path) or not self._hold_parent(parent, prefix):
                return
        place = Place(root, path)
        try:
            if parent is None:
                fd = os.open(self._context.roots[root], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            else:
                fd = open_beneath(self._parent_fd, name, READABLE)
        except OSError as error:
            if error.errno in _GONE:
                self.unwatched.pop(place, None)
            else:
                self.unwatched[place] = error.strerror or str(error)
            return
        try:
            self._visit_open(fd, Spot(parent, name, root), place, walk)
        finally:
            os.close(fd)

    def _hold_parent(self, parent: Directory, prefix: bytes) -> bool:
        """Opens the parent, and checks that it is the directory of the table. While the event of a rename is still in
        the queue, the parent's path in the table is out of date, and may not exist or name another directory. Then the
        parent is listed once its path is correct."""
        if parent is self._parent:
            return True
        self._release_parent()
        try:
            root_fd = self._open_root(parent.root)
            try:
                fd = open_beneath(root_fd, prefix[:-1] or b".", READABLE)
            finally:
                os.close(root_fd)
        except OSError:
            self._table.missed.add(parent)
            return False
        self._parent, self._parent_fd = parent, fd
        with suppress(OSError):
            if self._inotify.watch(fd) == parent.wd:
                return True
        self._release_parent()
        self._table.missed.add(parent)
        return False

    def _release_parent(self) -> None:
        if self._parent is not None:
            os.close(self._parent_fd)
            self._parent = None

    def _visit_open(self, fd: int, spot: Spot, place: Place, walk: Walk) -> None:
        table = self._table
        try:
            wd = self._inotify.watch(fd)
        except OSError as error:
            self.unwatched[place] = LIMIT_REACHED if error.errno == errno.ENOSPC else error.strerror or str(error)
            return
        known = table.by_wd.get(wd)
        if known is not None and self._is_here(known, spot):
            incomplete = self.unwatched.pop(place, None) is not None or known in table.missed
            if walk.distrust or incomplete:
                self._list(fd, known, place, walk)
            return
        if known is not None and self._is_still_at_its_place(known, fd):
            if self._leads_to(spot, fd):
                self.unwatched[place] = _TWICE
            return
        self.unwatched.pop(place, None)
        if walk.announce:
            walk.surprises.append(spot)
        elif spot.parent is None:
            self.root_ids[spot.root] = _identity(os.fstat(fd))
            self._list(fd, table.add_root(spot.root, wd), place, walk)
        elif known is not None:
            table.move(known, spot.parent, spot.name)
            if known in table.missed:
                self._list(fd, known, place, walk)
        else:
            self._list(fd, table.add(spot.parent, spot.name, wd), place, walk)

    def _is_here(self, known: Directory, spot: Spot) -> bool:
        if spot.parent is None:
            return self._table.roots[spot.root] is known
        return known.parent is spot.parent and known.name == spot.name

    def _leads_to(self, spot: Spot, fd: int) -> bool:
        """True if the name still leads to the open directory; else it moved to the place that the table has already."""
        try:
            if spot.parent is None:
                entry = os.stat(self._context.roots[spot.root])
            else:
                entry = os.stat(spot.name, dir_fd=self._parent_fd, follow_symlinks=False)
        except OSError:
            return False
        return os.path.samestat(entry, os.fstat(fd))

    def root_is_there(self, root: int) -> bool:
        """True if the root's path still leads to the watched directory: no parent was renamed, nothing was mounted over
        it."""
        try:
            return _identity(os.stat(self._context.roots[root])) == self.root_ids.get(root)
        except OSError:
            return False

    def _is_still_at_its_place(self, known: Directory, fd: int) -> bool:
        prefix = self._table.prefix(known)
        if prefix is None:
            return False
        try:
            root_fd = self._open_root(known.root)
            try:
                other = open_beneath(root_fd, prefix[:-1] or b".", READABLE)
            finally:
                os.close(root_fd)
        except OSError:
            return False
        try:
            return os.path.sameopenfile(fd, other)
        finally:
            os.close(other)

    def _open_root(self, root: int) -> int:
        return os.open(self._context.roots[root], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def _list(self, fd: int, node: Directory, place: Place, walk: Walk) -> None:
        names = []
        self._table.missed.discard(node)
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        names.append(os.fsencode(entry.name))
        except OSError as error:
            self.unwatched[place] = error.strerror or str(error)
            return
        if node.children:
            for gone in node.children.keys() - set(names):
                self._table.displace(node.children[gone])
        known = node.children or {}
        for name in names:
            spot = Spot(node, name, node.root)
            if walk.announce and name not in known:
                walk.surprises.append(spot)
            else:
                walk.todo.append(spot)

    def forget_unwatched(self, place: Place) -> None:
        """Drops the entries of the tree at `place`, which is gone."""
        for other in [p for p in self.unwatched if _is_beneath(p, place)]:
            del self.unwatched[other]

    def move_unwatched(self, old: Place, new: Place) -> None:
        """Moves the entries of a tree that was renamed from `old` to `new`."""
        for other in [p for p in self.unwatched if _is_beneath(p, old)]:
            reason = self.unwatched.pop(other)
            self.unwatched[Place(new.root, new.path + other.path[len(old.path) :])] = reason


def _identity(entry: os.stat_result) -> tuple[int, int]:
    return entry.st_dev, entry.st_ino


def _is_beneath(place: Place, top: Place) -> bool:
    return place.root == top.root and (place.path + b"/").startswith(top.path + b"/" if top.path else b"")


def directories(root: bytes, wanted: Callable[[bytes], bool]) -> Iterator[bytes]:
    """Paths of all directories beneath `root` that would get a watch, ``b""`` first."""
    todo = [b""]
    while todo:
        path = todo.pop()
        yield path
        with suppress(OSError), os.scandir(os.path.join(root, path)) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    below = os.path.join(path, entry.name)
                    if wanted(below):
                        todo.append(below)


def count_directories(context: CaptureContext, most: int | None = None) -> int:
    """How many watches the roots need; stops counting above `most`."""
    count = 0
    for index, root in enumerate(context.roots):
        for _ in directories(root, partial(context.wants_dir, index)):
            count += 1
            if most is not None and count > most:
                return count
    return count
