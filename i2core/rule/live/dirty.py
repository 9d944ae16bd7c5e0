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
        self._marks: OrderedDict[int, Mark] = OrderedDict()
        self._open: dict[Place, int] = {}
        """The mark of each place that takes up further hints."""
        self._last_key = 0
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
                self._rename(change, change.to, now)
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
        back = OrderedDict((self._new_key(), mark) for mark in marks)
        back.update(self._marks)
        self._marks = back
        self._woken.set()

    def has_since(self, until_ns: int) -> bool:
        """True while something waits that was first named up to then."""
        return any(mark.since_ns <= until_ns for mark in self._marks.values())

    def take(self, limit: int) -> list[Mark]:
        """The oldest marks, no longer waiting."""
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
        """A move is never coalesced: in order, moves say which object is where. What took the old name's place is
        looked at behind it, lest the moved object be overwritten on the replica before it has moved. By then a name
        that stands empty is no longer on its way anywhere: whatever the replica still has there is stale."""
        old = change.place
        key = self._open.pop(old, None)
        waiting = Mark(old, now) if key is None else self._marks.pop(key)
        # What happens to the new name from here on happens behind the move.
        self._open.pop(new, None)
        # A directory is compared as a whole: hints from before this report may have named what is beneath it wrongly.
        moved = Mark(new, now, moved_from=old, content=waiting.content, tree=change.is_dir)
        self._marks[self._new_key()] = moved
        waiting.removed = True
        self._append(waiting)

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
        while len(self._marks) > FOLD_AT // 2 and depth >= 0:
            marks, self._marks, self._open = self._marks, OrderedDict(), {}
            for mark in marks.values():
                place = mark.place
                if place.path.count(b"/") >= depth and place.path:
                    self._mark(place.above, mark.since_ns).tree = True
                    continue
                kept = self._mark(place, mark.since_ns)
                kept.content |= mark.content
                kept.removed |= mark.removed
                kept.tree |= mark.tree
                kept.records += mark.records
            depth -= 1
