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
        self._renames = 0
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
        looked at behind it, lest the moved object be overwritten on the replica before it has moved."""
        self._renames += 1
        waiting = self._marks.pop(old, None)
        move = self._marks[self._renames] = Mark(new, now, moved_from=old)
        if waiting is None:
            waiting = Mark(old, now)
        move.content = waiting.content
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

    def _fold(self) -> None:
        """Replaces places by their directories, one level after the other, until few are left."""
        depth = max(mark.place.path.count(b"/") for mark in self._marks.values())
        while len(self._marks) > FOLD_AT // 2:
            folded: OrderedDict[Place | int, Mark] = OrderedDict()
            for mark in self._marks.values():
                place = mark.place
                if place.path.count(b"/") >= depth and place.path:
                    above = Place(place.root, place.path.rpartition(b"/")[0])
                    kept = folded.setdefault(above, Mark(above, mark.since_ns))
                    kept.tree = True
                else:
                    folded.setdefault(place, mark).moved_from = None
            self._marks = folded
            depth -= 1
            if depth < 0:
                break
