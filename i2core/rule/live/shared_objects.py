"""Objects with several names (hard links): one object on the source is to be one object on the replica."""

from __future__ import annotations

import stat
from collections.abc import Callable

from i2core.api import Entry, Kind, Place, Record
from i2core.rule.catalog.rows import Row
from i2core.rule.live.directories import Directories
from i2core.rule.live.output import Output
from i2core.rule.source.source import Source

Check = Callable[[Place, bool], None]
"""Checks a place; True: its content may have changed although size and times are the same."""


def has_names(entry: Entry) -> bool:
    """True when it may have other names."""
    return entry.nlink > 1 and not stat.S_ISDIR(entry.mode)


class SharedObjects:
    """Keeps the names of an object together."""

    def __init__(self, source: Source, output: Output, directories: Directories, check: Check) -> None:
        self._source = source
        self._output = output
        self._directories = directories
        self._check = check

    def join(self, place: Place, row: Row) -> Row:
        """Names of one object that were sent at different times may be separate objects on the replica, for example
        because the link was made while a mirror was listing. Joins them and returns the new row."""
        objects, names = self._source.catalog.objects, self._source.catalog.names
        for other in names.apart(row, place.root):
            at = objects.place(other)
            if at.root != place.root or not self._has_object(at, row):
                continue
            if other.inode and not row.inode:
                row = names.join(row, other)
                first, second = at, place
            else:
                row = names.share(row)
                names.join(other, row)
                first, second = place, at
            self._output.emit(second, Record(Kind.LINK, second.root, second.path, other=first.path))
            self._directories.touch(second)
        return row

    def note(self, place: Place, entry: Entry) -> Row:
        """Notes that the replica has `entry` under this name and under the others of the same object. Returns its
        row."""
        return self.look_at_others(self._source.catalog.objects.put(place, entry), entry)

    def look_at_others(self, row: Row, entry: Entry) -> Row:
        """Checks the other names of an object: it changes under all of them, but perhaps only one was reported. Returns
        its row, which may be shared with other names now."""
        if has_names(entry):
            names = self._source.catalog.names
            row = names.share(row)
            for other in names.stale_elsewhere(row):
                self._check(other, True)
        return row

    def _has_object(self, place: Place, row: Row) -> bool:
        """True when the source has the object of the row at `place`."""
        now = self._source.trees[place.root].lookup(place.path)
        return now is not None and row.is_object(now)
