"""What is known to have changed and is not sent yet: places, coalesced, in the order in which they were first named.

A hot file is one entry however often it is written. When too many places gather, they fold into the directories above
them, which are then compared with the catalog as a whole: memory stays bounded, and nothing is forgotten.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable

import attrs
import trio

from i2core.api import Change, Lost, Op, Place, Record

FOLD_AT = 100_000
"""Places kept by name; above it they fold into directories."""
RANGES = 64
"""Exact ranges kept per file; above it the whole file is compared."""


@attrs.define
class Mark:
    """What is known of one place. `removed`: the system said so, it did not merely vanish."""

    place: Place
    since_ns: int
    content: bool = False
    removed: bool = False
    tree: bool = False
    """Everything beneath is compared with the catalog."""
    moved_from: Place | None = None
    ranges: list[tuple[int, int]] | None = None
    """Byte ranges (first, end) that alone changed; None when that is not known."""
    records: list[Record] = attrs.field(factory=list)


class DirtySet:
    """The queue between capture and reconciliation."""

    def __init__(self) -> None:
        self._marks: OrderedDict[Place | int, Mark] = OrderedDict()
        self._own_keys = 0
        """Marks that must not be coalesced have a number as their key."""
        self._woken = trio.Event()
        self.captured = 0

    def __len__(self) -> int:
        return len(self._marks)

    @property
    def oldest_ns(self) -> int | None:
        """`time.monotonic_ns` at which the oldest waiting place was first named."""
        return next(iter(self._marks.values())).since_ns if self._marks else None

    async def wait(self) -> None:
        """Returns when there is something."""
        while not self._marks:
            self._woken = trio.Event()
            await self._woken.wait()

    def add(self, changes: Iterable[Change | Lost]) -> None:
        """Takes what a capture said."""
        now = time.monotonic_ns()
        for change in changes:
            self.captured += 1
            if isinstance(change, Lost):
                self._mark(change.place, now).tree = True
            elif change.op is Op.RENAME and change.to is not None:
                self._rename(change.place, change.to, now)
            else:
                self._note(self._mark(change.place, now), change)
        if len(self._marks) > FOLD_AT:
            self._fold()
        self._woken.set()

    def add_places(self, places: Iterable[Place], *, content: bool = False, tree: bool = False) -> None:
        """Names places again, for a second look."""
        now = time.monotonic_ns()
        for place in places:
            mark = self._mark(place, now)
            mark.content |= content
            mark.tree |= tree
            mark.ranges = None
        self._woken.set()

    def put_back(self, marks: Iterable[Mark]) -> None:
        """Marks that were taken and not worked off wait again, in front and in their order."""
        back: OrderedDict[Place | int, Mark] = OrderedDict()
        for mark in marks:
            self._own_keys += 1
            back[self._own_keys] = mark
        back.update(self._marks)
        self._marks = back
        self._woken.set()

    def has_since(self, until_ns: int) -> bool:
        """True while something waits that was first named up to then."""
        return any(mark.since_ns <= until_ns for mark in self._marks.values())

    def take(self, limit: int) -> list[Mark]:
        """The oldest marks, no longer waiting."""
        count = min(limit, len(self._marks))
        return [self._marks.popitem(last=False)[1] for _ in range(count)]

    def _mark(self, place: Place, now: int) -> Mark:
        mark = self._marks.get(place)
        if mark is None:
            mark = self._marks[place] = Mark(place, now)
        return mark

    def _rename(self, old: Place, new: Place, now: int) -> None:
        """A move is never coalesced: in order, moves say which object is where. What took the old name's place is
        looked at behind it, lest the moved object be overwritten on the replica before it has moved. By then a name
        that stands empty is no longer on its way anywhere: whatever the replica still has there is stale."""
        self._own_keys += 1
        waiting = self._marks.pop(old, None)
        move = self._marks[self._own_keys] = Mark(new, now, moved_from=old)
        if waiting is None:
            waiting = Mark(old, now)
        move.content = waiting.content
        waiting.removed = True
        self._marks[old] = waiting

    @staticmethod
    def _note(mark: Mark, change: Change) -> None:
        if change.record is not None:
            mark.records.append(change.record)
        elif change.op is Op.MODIFY:
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
            # Another file may stand here, in the inode of the one before and with its size and time.
            mark.content, mark.ranges = True, None

    def _fold(self) -> None:
        """Replaces places by their directories, one level after the other, until few are left."""
        depth = max(mark.place.path.count(b"/") for mark in self._marks.values())
        while len(self._marks) > FOLD_AT // 2:
            folded: OrderedDict[Place | int, Mark] = OrderedDict()
            for mark in self._marks.values():
                place = mark.place
                if place.path.count(b"/") >= depth and place.path:
                    above = Place(place.root, place.path.rpartition(b"/")[0])
                    folded.setdefault(above, Mark(above, mark.since_ns)).tree = True
                    continue
                kept = folded.setdefault(place, mark)
                kept.moved_from, kept.ranges = None, None
                kept.content |= mark.content
                kept.removed |= mark.removed
                kept.tree |= mark.tree
            self._marks = folded
            depth -= 1
            if depth < 0:
                break
