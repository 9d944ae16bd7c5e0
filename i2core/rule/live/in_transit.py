"""Objects that were renamed on the replica to a name that was gone on the source by then.

Such a rename is repeated nevertheless (``mv a b; mv b c``): the next report, of another rename or of the removal, says
what became of the object, and its content is not sent again. Mostly that report follows at once. But it may have come
before, and then nothing else leads to that name.

The case that breaks without it: ``echo >> e; mv e b; mv b e; rm e``. fanotify merges the removal into the event of the
write, since both concern the file `e`. So the removal is reported first, and then both renames. Repeating these leads
to an `e` on the replica that the source does not have, and that no report mentions any more. The same happens when the
report of a rename is put off, and that of the removal is not.

So each of these objects is awaited until everything that happened before is reported for certain. If nothing has moved
or removed it by then, its name is checked as one that was reported as removed.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import NamedTuple

import trio

from i2core.rule.catalog.objects import Objects
from i2core.rule.catalog.rows import Row
from i2core.rule.live.dirty import COALESCE_AT, Mark
from i2core.rule.live.part import NEVER, Part
from i2core.rule.live.unproven import PROVEN_AFTER_NS

WAIT_NS = PROVEN_AFTER_NS
"""How long an object is awaited. Shorter, and a directory that is still to be renamed would be removed and sent again
with everything beneath."""
MOST = COALESCE_AT
"""At most so many objects are awaited, as many as there can be reports that wait; the oldest ones are checked early."""


class _Awaited(NamedTuple):
    """An object that was renamed at `at_ns` (`time.monotonic_ns`), for a change reported at `since_ns`."""

    at_ns: int
    since_ns: int


class InTransit(Part):
    """The awaited objects. All methods but those of `Part` are for the thread of a job."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._awaited: OrderedDict[int, _Awaited] = OrderedDict()
        """By the ids of their rows, oldest first: a directory above may move meanwhile."""
        self._first: _Awaited | None = None
        """The oldest one, for readers in other threads."""

    @property
    def oldest_ns(self) -> int | None:
        """When the first of these renames was reported: the replica has a name that the source lacks."""
        first = self._first
        return None if first is None else first.since_ns

    @property
    def is_due(self) -> bool:
        """True when one has been awaited long enough; the next job checks it."""
        first = self._first
        return first is not None and first.at_ns + WAIT_NS <= time.monotonic_ns()

    @property
    def due_at(self) -> float:
        """When the first of them has been awaited long enough."""
        first = self._first
        if first is None:
            return NEVER
        return trio.current_time() + max(0, first.at_ns + WAIT_NS - time.monotonic_ns()) / 1e9

    def add(self, row: Row, since_ns: int) -> None:
        """The object of this row was renamed to a name that is gone, for a change reported at `since_ns`."""
        self._awaited[row.id] = _Awaited(time.monotonic_ns(), since_ns)
        self._look()

    def drop(self, row: Row) -> None:
        """The object of this row is renamed again, or removed."""
        if self._awaited and self._awaited.pop(row.id, None) is not None:
            self._look()

    def take(self, seen_ns: int) -> list[Mark]:
        """Removes those that nothing has moved or removed, as marks. All changes reported before `seen_ns` have been
        processed."""
        marks: list[Mark] = []
        while (first := self._first) is not None:
            if first.at_ns + WAIT_NS > seen_ns and len(self._awaited) <= MOST:
                break
            ident, _ = self._awaited.popitem(last=False)
            self._look()
            row = self._objects.row(ident)
            if row is not None:  # otherwise it was removed together with its directory
                marks.append(Mark(self._objects.place(row), first.since_ns, removed=True))
        return marks

    def clear(self) -> None:
        """Forgets all: everything is compared again."""
        self._awaited.clear()
        self._look()

    def _look(self) -> None:
        self._first = next(iter(self._awaited.values()), None)
