"""The attributes of directories, which are set last.

Each object that is created, moved or removed in a directory changes the directory's modification time. On the source
this has happened already; on the replica it happens with each record. So a directory's times are set after all records
of a job that touch it. If they were set earlier, the next record would change them again.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from i2core.api import Entry, Place
from i2core.rule.catalog.rows import Row
from i2core.rule.live.output import Output
from i2core.rule.live.part import Part
from i2core.rule.live.unpinned import Unpinned
from i2core.rule.source.draft import setattr_record
from i2core.rule.source.source import Source

Guard = Callable[..., None]
"""Runs a step at a place; notes an object that cannot be read."""


class Directories(Part):
    """Directories whose attributes are to be set at the end of a job. Some are touched outside of jobs: when a large
    file gets its name, or a staging file is removed. Then a job is due for them."""

    def __init__(self, source: Source, output: Output, unpinned: Unpinned) -> None:
        self._source = source
        self._output = output
        self._unpinned = unpinned
        self._touched: OrderedDict[int, None] = OrderedDict()
        """Ids of rows instead of paths: a directory may move before its times are set."""
        self._since_ns = 0

    @property
    def oldest_ns(self) -> int | None:
        """When the first of them was touched."""
        return self._since_ns if self._touched else None

    def owed(self, until_ns: int) -> bool:
        """True while there is one: it was touched by a change that a run must send before it ends."""
        return bool(self._touched)

    def touch(self, place: Place) -> None:
        """Notes that the times of the directory of `place` changed on the replica."""
        # By its id, which is cached: this is done for every record, and reading the row would cost as much as looking
        # up the object itself.
        ident = self._source.catalog.objects.directory_id(place.above)
        if ident is not None:
            self._touch(ident)

    def _touch(self, ident: int) -> None:
        if not self._touched:
            self._since_ns = time.monotonic_ns()
        self._touched[ident] = None

    def touch_if_stale(self, row: Row, now: Entry) -> None:
        """Touches the directory if its attributes differ from those that were sent."""
        if not row.same_meta(now):
            self._touch(row.id)

    def touch_if_stale_above(self, place: Place) -> None:
        """The same for the directory of `place`: an object that came and went unnoticed has still changed its times."""
        above = place.above
        row = self._source.catalog.objects.get(above)
        now = self._source.trees[above.root].lookup(above.path) if row is not None else None
        if row is not None and now is not None and row.is_object(now):
            self.touch_if_stale(row, now)

    def set_all(self, guarded: Guard) -> None:
        """Makes the records of all directories."""
        objects = self._source.catalog.objects
        touched, self._touched = self._touched, OrderedDict()
        for ident in touched:
            row = objects.row(ident)
            if row is not None:
                # If this cannot be done now, the directory has moved. Whoever finds it again will see that its times
                # are wrong.
                self._source.catalog.doubts.distrust(row, digests=True)
                place = objects.place(row)
                guarded(place, self._set, place, row)

    def _set(self, place: Place, row: Row) -> None:
        tree = self._source.trees[place.root]
        with tree.directory(place.path) as directory:
            now = directory.here()
            if row.is_object(now):
                self._unpinned.seen(place, row.flags, now.flags)
                self._output.emit(place, setattr_record(directory, place, now))
                self._source.catalog.objects.put(place, now)
