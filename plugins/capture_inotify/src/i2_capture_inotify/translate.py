"""Translates the kernel's bytes into changes: names, renames paired by cookie, new and removed directories.

Events are processed strictly in order. Two events stop the translation, and all later ones wait: a MOVED_FROM whose
second half may still come, and a new directory whose tree is too large to be watched between two events.

An event describes a past moment. Its names may meanwhile belong to newer directories, which a walk may have found
already. So after each creation, rename or removal of a directory, the disk is read to see which directory is there now.
The table is correct again after the last event about each name at the latest."""

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
from i2core.api import Change, Lost, Op, Place

INLINE_DIRECTORIES = 32
"""A new tree up to this size is watched in the event loop; a thread, which a larger one needs, costs more than that."""

_HEAD = kernel.EVENT.size
_unpack = kernel.EVENT.unpack_from
_SELF = IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED
_OPS = {
    IN_CREATE: Op.CREATE,
    IN_MOVED_TO: Op.CREATE,
    IN_DELETE: Op.REMOVE,
    IN_MODIFY: Op.MODIFY,
    IN_ATTRIB: Op.ATTRIB,
    # One call changes both, for example when an ordinary user truncates a setuid file (fsnotify_change in the kernel).
    IN_MODIFY | IN_ATTRIB: Op.MODIFY,
}


class Entering:
    """A new directory: its watches are placed first, then it is reported."""

    def __init__(self, walk: Walk, *reports: Change | Lost) -> None:
        self.walk = walk
        self.reports = reports


class Translator:
    """Translates events into changes (`out`) and updates the table of watches."""

    def __init__(self, table: WatchTable, walker: Walker, wants_dir: Callable[[int, bytes], bool]) -> None:
        self._table = table
        self._walker = walker
        self._wants_dir = wants_dir
        self.out: list[Change | Lost] = []
        self.entering: Entering | None = None
        """Set: nothing is translated until this walk is done and `entered` was called."""
        self.unsettled = False
        """The rest begins with a MOVED_FROM that waits for its second half."""
        self.overflowed = False
        """The kernel dropped events."""
        self.lost_roots: dict[int, str] = {}
        """Roots that are gone, with the reason."""
        self.doubtful: list[Spot] = []
        """Directories that must be checked again."""
        self._paired: set[int] = set()
        """Cookies whose MOVED_TO was processed before its turn."""

    def translate(self, raw: bytes, settled: int) -> bytes:
        """Processes `raw` and returns the rest that must wait. A MOVED_FROM within the first `settled` bytes whose
        second half has not come is treated as a removal."""
        self.unsettled = False
        table, add, new = self._table, self.out.append, tuple.__new__
        by_wd = table.by_wd
        seen: set[bytes] = set()  # MODIFY and ATTRIB mean "look again": once between two changes of names is enough
        halves = _SecondHalves(raw)
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
                self._miss(node, mask, cookie)
                continue
            name = raw[start + _HEAD : at].rstrip(b"\0")
            if not (cookie or mask & IN_ISDIR):
                add(new(Change, (_OPS[mask], new(Place, (node.root, prefix + name)), False, None, False, 0, 0, 0)))
                continue
            if mask & IN_MOVED_FROM:
                other = halves.find(cookie, at)
                if other < 0 and start >= settled:
                    self.unsettled = True
                    return raw[start:]
                at = self._translate_half(node, name, mask, raw, at, other)
            else:
                self._translate_rest(node, name, mask, cookie)
            if self.entering is not None:
                return raw[at:]
        return b""

    def enter(self, walk: Walk, *reports: Change | Lost) -> None:
        """Places the watches of a new tree; only then may it be reported."""
        self._walker.step(walk, INLINE_DIRECTORIES)
        self.entering = Entering(walk, *reports)
        if not walk.todo:
            self.entered()

    def entered(self) -> None:
        """Reports `entering` after its walk is done."""
        assert self.entering is not None
        self.out += self.entering.reports
        self.entering = None

    # ---------------------------------------------------------------------------------------- single events

    def _place(self, node: Directory, name: bytes, *, is_dir: bool) -> Place | None:
        """The place of a name in a watched directory; None when it is not known, or is a directory that is left out."""
        prefix = self._table.prefix(node)
        if prefix is None:
            return None
        place = Place(node.root, prefix + name)
        return place if not is_dir or self._wants_dir(*place) else None

    def _miss(self, node: Directory, mask: int, cookie: int) -> None:
        """An event in a directory whose place is not known."""
        self._paired.discard(cookie)
        if mask & IN_ISDIR:
            self._table.missed.add(node)

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
            place = self._place(node.parent, node.name, is_dir=False)
            if place is not None:
                self.out.append(Lost(place, "a file system was unmounted here"))
                self.doubtful.append(Spot(node.parent, node.name, node.root))
        if mask & IN_IGNORED:
            self._table.forget(wd)

    def _translate_dir(self, mask: int, node: Directory, name: bytes) -> None:
        """Translates an event of a directory: created, moved in, removed, or new attributes."""
        place = self._place(node, name, is_dir=True)
        if place is None:
            return
        if mask & IN_DELETE:
            self._gone(node, name, place)
        elif mask & IN_ATTRIB:
            self.out.append(Change(Op.ATTRIB, place, is_dir=True))
            if place in self._walker.unwatched:  # the directory may be readable now
                self.doubtful.append(Spot(node, name, node.root))
        else:
            known = self._table.child(node, name)
            complete = known is not None and known not in self._table.missed
            self.enter(Walk(Spot(node, name, node.root)), Change(Op.CREATE, place, is_dir=True))
            if complete and known is self._table.child(node, name) and self.entering is None:
                # The walk of a parent directory has found it already, and the parent's report comes before this one.
                self.out.pop()

    def _gone(self, node: Directory, name: bytes, place: Place) -> None:
        known = self._table.child(node, name)
        if known is not None:
            self._table.displace(known)
        self._walker.forget_unwatched(place)
        self.out.append(Change(Op.REMOVE, place, is_dir=True))

    def _translate_half(self, node: Directory, name: bytes, mask: int, raw: bytes, at: int, other: int) -> int:
        """Translates a MOVED_FROM that ends at the offset `at` of `raw`, and whose second half is at `other` (-1: none
        came). Returns the offset of the next event to translate."""
        is_dir = bool(mask & IN_ISDIR)
        if other < 0:
            self._moved_out(node, name, is_dir=is_dir)
            return at
        wd, _, cookie, size = _unpack(raw, other)
        end = other + _HEAD + size
        to_name = raw[other + _HEAD : end].rstrip(b"\0")
        if other == at:
            at = end
        else:
            self._paired.add(cookie)
        self._moved(node, name, self._table.by_wd.get(wd), to_name, is_dir=is_dir)
        return at

    def _translate_rest(self, node: Directory, name: bytes, mask: int, cookie: int) -> None:
        """Translates a MOVED_TO, or an event of a directory."""
        if cookie in self._paired:
            self._paired.remove(cookie)
        elif mask & IN_ISDIR:
            self._translate_dir(mask & ~IN_ISDIR, node, name)
        else:
            place = self._place(node, name, is_dir=False)
            if place is not None:
                self.out.append(Change(Op.CREATE, place))

    def _moved_out(self, node: Directory, name: bytes, *, is_dir: bool) -> None:
        place = self._place(node, name, is_dir=is_dir)
        if place is None:
            return
        if is_dir:
            self._gone(node, name, place)
            left = Spot(node, name, place.root)
            self._enter_left(Walk(left), left, place)
        else:
            self.out.append(Change(Op.REMOVE, place))

    def _moved(self, node: Directory, name: bytes, to_node: Directory | None, to_name: bytes, *, is_dir: bool) -> None:
        """A rename with both halves known. Each of the two places may be left out."""
        old = self._place(node, name, is_dir=is_dir)
        new = None if to_node is None else self._place(to_node, to_name, is_dir=is_dir)
        if is_dir and to_node is not None and self._table.prefix(to_node) is None:
            self._table.missed.add(to_node)
        if old is None:
            if to_node is not None and new is not None:
                if is_dir:
                    self._translate_dir(IN_MOVED_TO, to_node, to_name)
                else:
                    self.out.append(Change(Op.CREATE, new))
        elif to_node is None or new is None:
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
        # The disk is read at both names to see which directory is where: the old name may belong to a newer directory
        # already, and an exchange of two directories looks like a rename over an empty one.
        self._enter_left(Walk(spot, to_spot), spot, old, report)

    def _enter_left(self, walk: Walk, left: Spot, place: Place, *reports: Change) -> None:
        """A directory left this place. In an exchange another one came, without an event for this name."""
        self.enter(walk, *reports)
        again = Change(Op.CREATE, place, is_dir=True)
        if self.entering is not None:
            self.entering.reports += (again,)
        elif left.parent is not None and self._table.child(left.parent, left.name) is not None:
            self.out.append(again)


class _SecondHalves:
    """The MOVED_TO events of one read."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._offsets: dict[int, int] | None = None
        """By cookie; None until they are needed: the second half usually comes next."""

    def find(self, cookie: int, at: int) -> int:
        """The offset of the second half of a MOVED_FROM that ends at the offset `at`; -1 when it has not come."""
        raw = self._raw
        if at < len(raw) and _unpack(raw, at)[2] == cookie:
            return at
        if self._offsets is None:
            self._offsets = _second_halves(raw, at)
        return self._offsets.get(cookie, -1)


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
