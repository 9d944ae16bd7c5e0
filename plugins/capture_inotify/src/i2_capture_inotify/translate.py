"""From the kernel's bytes to changes: names, renames paired by cookie, directories that come and go.

Events are worked off strictly in order. Two things make it stop and wait: a MOVED_FROM whose other half may still be
on its way, and a new directory whose tree is too large to be watched between two events. What follows them waits.

An event tells of a moment that may be past: by now its names can stand for newer directories, which a walk has found
there already. So wherever a directory came or went, the disk decides which one is there now; and the table is right
again with the last event about each name at the latest.
"""

from __future__ import annotations

from collections.abc import Callable

from i2_capture_inotify import kernel
from i2_capture_inotify.kernel import (
    IN_ATTRIB,
    IN_CREATE,
    IN_DELETE,
    IN_DELETE_SELF,
    IN_IGNORED,
    IN_ISDIR,
    IN_MODIFY,
    IN_MOVE_SELF,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_Q_OVERFLOW,
    IN_UNMOUNT,
)
from i2_capture_inotify.walk import Spot, Walk, Walker
from i2_capture_inotify.watches import Directory, WatchTable
from i2core.api import RESERVED_PREFIX, Change, Lost, Op, Place

INLINE_DIRECTORIES = 32
"""A new tree up to this size is watched at once; the thread that a larger one needs costs more than this."""

_HEAD = kernel.EVENT.size
_unpack = kernel.EVENT.unpack_from
_SELF = IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED
_OPS = {IN_CREATE: Op.CREATE, IN_MOVED_TO: Op.CREATE, IN_DELETE: Op.REMOVE, IN_MODIFY: Op.MODIFY, IN_ATTRIB: Op.ATTRIB}


class Entering:
    """A directory that appeared: its watches are being placed, then it is reported."""

    def __init__(self, walk: Walk, *reports: Change | Lost) -> None:
        self.walk = walk
        self.reports = reports


class Translator:
    """Turns events into changes (`out`) and keeps the table of watches true to them."""

    def __init__(self, table: WatchTable, walker: Walker, wants_dir: Callable[[int, bytes], bool]) -> None:
        self._table = table
        self._walker = walker
        self._wants_dir = wants_dir
        self.out: list[Change | Lost] = []
        self.entering: Entering | None = None
        """Set: nothing is translated until this walk is done and `entered` was called."""
        self.unsettled = False
        """The rest begins with a MOVED_FROM that waits for its other half."""
        self.overflowed = False
        """The kernel dropped events."""
        self.lost_roots: dict[int, str] = {}
        """Roots that are not there any more, and why."""
        self.doubtful: list[Spot] = []
        """Directories that must be looked at again."""
        self._paired: set[int] = set()
        """Cookies whose MOVED_TO was worked off before its turn."""

    def translate(self, raw: bytes, settled: int) -> bytes:
        """Works off `raw` and returns the rest that must wait. A MOVED_FROM within the first `settled` bytes that has
        no other half by now has none."""
        self.unsettled = False
        table = self._table
        by_wd, add = table.by_wd, self.out.append
        new = tuple.__new__
        seen: set[bytes] = set()  # MODIFY and ATTRIB say "look again": once between two changes of names is enough
        halves: dict[int, int] | None = None
        at, end = 0, len(raw)
        while at < end:
            wd, mask, cookie, size = _unpack(raw, at)
            start, at = at, at + _HEAD + size
            if mask & (IN_MODIFY | IN_ATTRIB):
                event = raw[start:at]
                if event in seen:
                    continue
                seen.add(event)
            elif seen:
                seen.clear()
            node = by_wd.get(wd)
            if not size or mask & _SELF or node is None:
                self._translate_self(wd, mask, node)
                continue
            prefix = node.prefix if node.stamp == table.stamp else table.prefix(node)
            if prefix is None:
                self._paired.discard(cookie)
                if mask & IN_ISDIR:
                    table.missed.add(node)
                continue
            name = raw[start + _HEAD : at].rstrip(b"\0")
            if name.startswith(RESERVED_PREFIX) and not cookie:
                continue
            if not (cookie or mask & IN_ISDIR):
                op = _OPS[mask]
                add(new(Change, (op, new(Place, (node.root, prefix + name)), False, None, False, 0, 0, None)))
                continue
            if mask & IN_MOVED_FROM:
                other = at if at < end and _unpack(raw, at)[2] == cookie else -1
                if other < 0:
                    if halves is None:
                        halves = _second_halves(raw, at)
                    other = halves.get(cookie, -1)
                if other < 0 and start >= settled:
                    self.unsettled = True
                    return raw[start:]
                if other < 0:
                    self._moved_out(node, name, is_dir=bool(mask & IN_ISDIR))
                else:
                    to_wd, _, _, to_size = _unpack(raw, other)
                    to_name = raw[other + _HEAD : other + _HEAD + to_size].rstrip(b"\0")
                    if other == at:
                        at += _HEAD + to_size
                    else:
                        self._paired.add(cookie)
                    self._moved(node, name, by_wd.get(to_wd), to_name, is_dir=bool(mask & IN_ISDIR))
            elif cookie in self._paired:
                self._paired.remove(cookie)
            elif mask & IN_ISDIR:
                self._translate_dir(mask & ~IN_ISDIR, node, name)
            elif not name.startswith(RESERVED_PREFIX):
                add(Change(Op.CREATE, Place(node.root, prefix + name)))
            if self.entering is not None:
                return raw[at:]
        return b""

    def enter(self, walk: Walk, *reports: Change | Lost) -> None:
        """Places the watches of a tree that appeared; only then may it be reported."""
        self._walker.step(walk, INLINE_DIRECTORIES)
        self.entering = Entering(walk, *reports)
        if not walk.todo:
            self.entered()

    def entered(self) -> None:
        """The walk of `entering` is done: reports it."""
        assert self.entering is not None
        self.out += self.entering.reports
        self.entering = None

    # ---------------------------------------------------------------------------------------- single events

    def _place(self, node: Directory, name: bytes) -> Place | None:
        prefix = self._table.prefix(node)
        return None if prefix is None else Place(node.root, prefix + name)

    def _wants(self, place: Place, name: bytes, *, is_dir: bool) -> bool:
        return not name.startswith(RESERVED_PREFIX) and (not is_dir or self._wants_dir(place.root, place.path))

    def _translate_self(self, wd: int, mask: int, node: Directory | None) -> None:
        """Events without a name: about the watched directory itself, or about the queue."""
        if mask & IN_Q_OVERFLOW:
            self.overflowed = True
            self._paired.clear()
            return
        if node is None:
            return
        root = node.root
        if self._table.roots[root] is node:
            if mask & _SELF:
                cause = "moved away" if mask & IN_MOVE_SELF else "unmounted" if mask & IN_UNMOUNT else "removed"
                self._table.displace(node)
                self.lost_roots[root] = f"the source directory was {cause}"
                self.out.append(Lost(Place(root, b""), self.lost_roots[root]))
            elif mask & IN_ATTRIB:
                self.out.append(Change(Op.ATTRIB, Place(root, b""), is_dir=True))
        elif mask & IN_UNMOUNT and node.parent is not None:
            place = self._place(node.parent, node.name)
            if place is not None:
                self.out.append(Lost(place, "a file system was unmounted here"))
                self.doubtful.append(Spot(node.parent, node.name, node.root))
        if mask & IN_IGNORED:
            self._table.forget(wd)

    def _translate_dir(self, mask: int, node: Directory, name: bytes) -> None:
        """A directory that was made, moved in, removed, or got other attributes."""
        place = self._place(node, name)
        if place is None or not self._wants(place, name, is_dir=True):
            return
        if mask & IN_DELETE:
            self._gone(node, name, place)
        elif mask & IN_ATTRIB:
            self.out.append(Change(Op.ATTRIB, place, is_dir=True))
            if place in self._walker.unwatched:  # it may be readable now
                self.doubtful.append(Spot(node, name, node.root))
        else:
            known = self._table.child(node, name)
            complete = known is not None and known not in self._table.missed
            self.enter(Walk(Spot(node, name, node.root)), Change(Op.CREATE, place, is_dir=True))
            if complete and known is self._table.child(node, name) and self.entering is None:
                # Seen already by the walk of a directory above, whose own report comes before this one.
                self.out.pop()

    def _gone(self, node: Directory, name: bytes, place: Place) -> None:
        known = self._table.child(node, name)
        if known is not None:
            self._table.displace(known)
        self._walker.forget_unwatched(place)
        self.out.append(Change(Op.REMOVE, place, is_dir=True))

    def _moved_out(self, node: Directory, name: bytes, *, is_dir: bool) -> None:
        place = self._place(node, name)
        if place is None or not self._wants(place, name, is_dir=is_dir):
            return
        if is_dir:
            self._gone(node, name, place)
            left = Spot(node, name, place.root)
            self._enter_left(Walk(left), left, place)
        else:
            self.out.append(Change(Op.REMOVE, place))

    def _moved(self, node: Directory, name: bytes, to_node: Directory | None, to_name: bytes, *, is_dir: bool) -> None:
        """A rename whose both halves were seen; each end may still be a place that is not protected."""
        old = self._place(node, name)
        new = None if to_node is None else self._place(to_node, to_name)
        if is_dir and to_node is not None and new is None:
            self._table.missed.add(to_node)
        wanted = old is not None and self._wants(old, name, is_dir=is_dir)
        wanted_to = new is not None and self._wants(new, to_name, is_dir=is_dir)
        if old is None or not wanted:
            if to_node is not None and new is not None and wanted_to:
                if is_dir:
                    self._translate_dir(IN_MOVED_TO, to_node, to_name)
                else:
                    self.out.append(Change(Op.CREATE, new))
        elif to_node is None or new is None or not wanted_to:
            self._moved_out(node, name, is_dir=is_dir)
        elif not is_dir:
            self.out.append(Change(Op.RENAME, old, to=new))
        else:
            self._moved_dir(Spot(node, name, old.root), old, Spot(to_node, to_name, new.root), new)

    def _moved_dir(self, spot: Spot, old: Place, to_spot: Spot, new: Place) -> None:
        assert spot.parent is not None and to_spot.parent is not None
        report = Change(Op.RENAME, old, is_dir=True, to=new)
        if self._walker.unwatched:
            self._walker.forget_unwatched(new)
            self._walker.move_unwatched(old, new)
        moved = self._table.child(spot.parent, spot.name)
        if moved is not None:
            self._table.move(moved, to_spot.parent, to_spot.name)
        # What is on disk at both names decides which directory is which: the old name may have stood for a newer one
        # already, and an exchange of two looks like a rename over an empty one.
        self._enter_left(Walk(spot, to_spot), spot, old, report)

    def _enter_left(self, walk: Walk, left: Spot, place: Place, *reports: Change) -> None:
        """A directory left this place. By an exchange another one may have come, whose own event went elsewhere."""
        self.enter(walk, *reports)
        again = Change(Op.CREATE, place, is_dir=True)
        if self.entering is not None:
            self.entering.reports += (again,)
        elif left.parent is not None and self._table.child(left.parent, left.name) is not None:
            self.out.append(again)


def _second_halves(raw: bytes, at: int) -> dict[int, int]:
    """Offsets of the MOVED_TO events from `at` on, by cookie."""
    found = {}
    end = len(raw)
    while at < end:
        _, mask, cookie, size = _unpack(raw, at)
        if mask & IN_MOVED_TO:
            found[cookie] = at
        at += _HEAD + size
    return found
