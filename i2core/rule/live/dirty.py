"""Places that changed and are not sent yet, coalesced, in the order in which they were first reported.

A hot file is one entry, however often it is written. When there are too many places, they are coalesced into marks on
the directories above them. These directories are then compared with the catalog as a whole: memory stays bounded, and
no change is lost.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Iterable

import attrs
import trio

from i2core.api import Change, Lost, Op, Place
from i2core.rule.live.part import Part

COALESCE_AT = 100_000
"""Places kept by name; more of them are coalesced into marks on directories."""
RANGES = 64
"""Exact ranges kept per file; with more of them the whole file is compared."""


BY_INODE = Place(-1, b"")
"""Pseudo place of the mark that collects files of which only the inode number is known."""


@attrs.define
class Mark:
    """What is known about one place. `removed`: the system reported a removal; the name did not merely vanish."""

    place: Place
    since_ns: int
    content: bool = False
    removed: bool = False
    tree: bool = False
    """Everything beneath is compared with the catalog."""
    moved_from: Place | None = None
    ranges: list[tuple[int, int]] | None = None
    """The only byte ranges (first, end) that changed; None when they are not known."""
    inodes: set[int] | tuple[int, ...] = ()
    """Inode numbers of the files that changed under this name, as far as they were reported. The name may be another
    file's by now."""

    def add_inode(self, inode: int) -> None:
        """Notes that the file with this inode number changed under this name."""
        if not self.inodes:
            self.inodes = (inode,)  # the usual case
        elif isinstance(self.inodes, set):
            self.inodes.add(inode)
        elif inode not in self.inodes:
            self.inodes = {*self.inodes, inode}


class DirtySet(Part):
    """The queue between capture and reconciliation."""

    def __init__(self) -> None:
        self._marks: OrderedDict[int, Mark] = OrderedDict()
        self._open: dict[Place, int] = {}
        """For each place, the mark that takes further hints."""
        self._last_key = 0
        self._woken = trio.Event()
        self.captured = 0

    def __len__(self) -> int:
        return len(self._marks)

    @property
    def oldest_ns(self) -> int | None:
        """`time.monotonic_ns` at which the oldest waiting place was first reported."""
        return next(iter(self._marks.values())).since_ns if self._marks else None

    async def wait(self) -> None:
        """Returns when there is a mark."""
        while not self._marks:
            self._woken = trio.Event()
            await self._woken.wait()

    def add(self, changes: Iterable[Change | Lost]) -> None:
        """Adds the reports of a capture."""
        now = time.monotonic_ns()
        for change in changes:
            self.captured += 1
            if isinstance(change, Lost):
                self._mark(change.place, now).tree = True
            elif change.op is Op.RENAME and change.to is not None:
                self._rename(change, change.to, now)
            elif change.inode and not change.place.path and not change.is_dir:
                self._note_inodes((change.inode,), now, content=change.op is Op.MODIFY)
            else:
                mark = self._mark(change.place, now)
                self._note(mark, change)
                if change.inode and change.op is not Op.REMOVE:
                    mark.add_inode(change.inode)
                    if len(mark.inodes) > RANGES:
                        self._note_inodes(mark.inodes, now, content=mark.content)
                        mark.inodes = ()
        if len(self._marks) > COALESCE_AT:
            self._coalesce()
        self._woken.set()

    def add_places(self, places: Iterable[Place], *, content: bool = False, tree: bool = False) -> None:
        """Adds places that are to be checked again."""
        now = time.monotonic_ns()
        for place in places:
            mark = self._mark(place, now)
            mark.content |= content
            mark.tree |= tree
            mark.ranges = None
        self._woken.set()

    def add_aged(self, places: Iterable[tuple[Place, int]]) -> None:
        """Adds places whose content has been waiting since that time (`time.monotonic_ns`) and was not sent. They keep
        their age. With a new age, the lag would restart at 0 although the replica still has the old content, and a run
        that is to end would not wait for them."""
        self.put_back([Mark(place, since_ns, content=True) for place, since_ns in places])

    def put_back(self, marks: Iterable[Mark]) -> None:
        """Returns marks that were taken and not processed to the front of the queue, in their order."""
        for mark in reversed(list(marks)):
            key = self._new_key()
            self._marks[key] = mark
            self._marks.move_to_end(key, last=False)
        self._woken.set()

    def owed(self, until_ns: int) -> bool:
        """True while a mark waits that was first reported up to then."""
        return any(mark.since_ns <= until_ns for mark in self._marks.values())

    def take(self, limit: int) -> list[Mark]:
        """Removes and returns the oldest marks."""
        taken = []
        for _ in range(min(limit, len(self._marks))):
            key, mark = self._marks.popitem(last=False)
            if self._open.get(mark.place) == key:
                del self._open[mark.place]
            taken.append(mark)
        return taken

    def _mark(self, place: Place, now: int) -> Mark:
        key = self._open.get(place)
        return self._append(Mark(place, now)) if key is None else self._marks[key]

    def _append(self, mark: Mark) -> Mark:
        key = self._open[mark.place] = self._new_key()
        self._marks[key] = mark
        return mark

    def _new_key(self) -> int:
        self._last_key += 1
        return self._last_key

    def _rename(self, change: Change, new: Place, now: int) -> None:
        """A move is never coalesced: only moves in their order show which object is where.

        The old name is checked after the move. Example: `mv a b; echo new > a`. If the new `a` were sent first, it
        would overwrite on the replica the object that is still to be moved to `b`. If the old name is empty when it is
        checked after the move, its object is not on its way to another name: whatever the replica still has there is
        stale."""
        old = change.place
        key = self._open.pop(old, None)
        waiting = Mark(old, now) if key is None else self._marks.pop(key)
        # Later changes of the new name get a mark of their own, after the move.
        self._open.pop(new, None)
        # A directory is compared as a whole: hints from before this report may have wrong names for objects beneath it.
        moved = Mark(new, now, moved_from=old, content=waiting.content, tree=change.is_dir, inodes=waiting.inodes)
        waiting.inodes = ()
        self._marks[self._new_key()] = moved
        waiting.removed = True
        self._append(waiting)

    def _note_inodes(self, inodes: Iterable[int], since_ns: int, *, content: bool) -> None:
        """Notes that the files with these inode numbers changed, under any name."""
        mark = self._mark(BY_INODE, since_ns)
        mark.content |= content
        for inode in inodes:
            mark.add_inode(inode)
        if len(mark.inodes) > COALESCE_AT:
            mark.tree, mark.inodes = True, ()

    @staticmethod
    def _note(mark: Mark, change: Change) -> None:
        if change.op is Op.MODIFY:
            if not change.exact:
                mark.content, mark.ranges = True, None
            elif not mark.content or mark.ranges is not None:
                mark.content = True
                mark.ranges = mark.ranges or []
                mark.ranges.append((change.first, change.first + change.length))
                if len(mark.ranges) > RANGES:
                    mark.ranges = None
        elif change.op is Op.REMOVE:
            mark.removed = True
        elif change.op is Op.CREATE and change.is_dir:
            mark.tree = True
        elif change.op is Op.CREATE:
            # Another file may be here now, with the inode number, size and time of the previous one.
            mark.content, mark.ranges = True, None

    def _coalesce(self) -> None:
        """Replaces places by the directories above them, the deepest first, until few are left."""
        while len(self._marks) > COALESCE_AT // 2:
            # Goes directly to the level where enough places are that deep: trees may have any depth.
            counts = Counter(_depth(mark.place) for mark in self._marks.values())
            if counts.keys() == {0}:
                return
            depth, deep = max(counts), 0
            for depth in sorted(counts, reverse=True):
                deep += counts[depth]
                if len(self._marks) - deep < COALESCE_AT // 2:
                    break
            self._coalesce_beneath(max(1, depth) - 1)

    def _coalesce_beneath(self, level: int) -> None:
        """Replaces all places beneath directories of that depth by marks on these directories."""
        marks, self._marks, before, self._open = self._marks, OrderedDict(), self._open, {}
        for key, mark in marks.items():
            place = mark.place
            if _depth(place) > level:
                if mark.inodes and (mark.removed or before.get(place) != key):
                    # The name is gone, or another file has it: comparing the directory would not find the changed file.
                    self._note_inodes(mark.inodes, mark.since_ns, content=mark.content)
                names = place.path.split(b"/", level)
                self._mark(Place(place.root, b"/".join(names[:level])), mark.since_ns).tree = True
                continue
            kept = self._mark(place, mark.since_ns)
            kept.content |= mark.content
            kept.removed |= mark.removed
            kept.tree |= mark.tree
            for inode in mark.inodes:
                kept.add_inode(inode)


def _depth(place: Place) -> int:
    """0 for a root."""
    return place.path.count(b"/") + 1 if place.path else 0
