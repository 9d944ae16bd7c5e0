"""Files that change under a name that does not lead to them.

Events carry the name under which a file was opened. That name may be gone, or another file may have it, while the file
has another name that no event reports. Example: ``ln log log.1; rm log``, and the writer continues. The name may also
be outside of the source (a hard link), or the file had no name at all when it was opened (O_TMPFILE). Two things still
lead to the file: its inode number, if the capture reports it, and the memory of former names.
"""

from __future__ import annotations

import re
import stat
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator

from i2core.api import Entry, Place
from i2core.rule.catalog.rows import Row
from i2core.rule.live.dirty import Mark
from i2core.rule.source.source import Source

FORMER = 16_384
"""Former names remembered, about 200 bytes each."""
OF_ONE_NAME = 8
"""At most so many files are remembered for one name, the latest ones."""
TICK_NS = 20_000_000
"""Change times have the resolution of the kernel's clock tick (10 ms at most), so two changes may have the same time.
After the clock is set back, the next change has an earlier time."""
TRIED = 8
"""At most so many names of one object are checked; see `_look_at_one`."""
_NO_NAME = re.compile(rb"#([0-9]{1,19})")
"""The kernel's name for a file that was opened without a name: ``#`` and its inode number."""

Check = Callable[[Place, bool], None]
"""Checks a place; True: its content may have changed although size and times are the same."""


class OtherNames:
    """Finds other names of a file in the catalog."""

    def __init__(self, source: Source, check: Check) -> None:
        self._source = source
        self._check = check
        self._former: OrderedDict[tuple[int, bytes], list[int]] = OrderedDict()
        """Inode numbers of files that had this name (in the directory of that row) and have other names."""
        self._removed: OrderedDict[tuple[int, bytes], list[int]] = OrderedDict()
        """The same for files without another known name; one may have been reported since."""

    def follow(self, mark: Mark, found: Entry | None) -> None:
        """A change was reported for a place, and `found` is the object there now. If the report meant another file,
        that file is checked as well."""
        for inode in mark.inodes:
            if found is None or found.ino != inode:
                self.look_for(inode, content=mark.content)
        if mark.inodes or not mark.place.path:
            return
        name = mark.place.path.rpartition(b"/")[2]
        if found is None and (nameless := _NO_NAME.fullmatch(name)):
            self.look_for(int(nameless[1]), content=mark.content)
        if self._former or self._removed:
            key = (self._source.catalog.objects.directory_id(mark.place.above) or 0, name)
            for inode in self._former.get(key, ()):
                self.look_for(inode, content=False)
            for inode in self._removed.get(key, ()):
                if self.look_for(inode, content=False):
                    _remember(self._former, key, inode)

    def look_for(self, inode: int, *, content: bool) -> bool:
        """Checks the file with this inode number under the names in the catalog; False when there is none."""
        known = False
        for names in self._source.catalog.names.by_number(inode):
            known |= self._look_at_one(names, content=content, reported=True)
        return known

    def check_others(self, row: Row, *, content: bool) -> None:
        """The name of this row is gone, or belongs to another object: changes made under it show under the object's
        other names. From now on reports for this name may be about that object."""
        self.leave(row)
        if not stat.S_ISDIR(row.mode):
            for names in self._source.catalog.names.groups(row):
                self._look_at_one(names, content=content, reported=False)

    def _look_at_one(self, names: Iterator[Row], *, content: bool, reported: bool) -> bool:
        """Names of one object all show a change made under any of them, so one is checked. `reported`: a change was
        reported for these names, not only for another one. False when there are none."""
        catalog, missing, tried = self._source.catalog, None, -1
        for tried, row in enumerate(names):
            if stat.S_ISDIR(row.mode) or catalog.objects.row(row.id) != row:
                continue  # checking the previous one has changed it
            place = catalog.objects.place(row)
            entry = self._source.trees[place.root].lookup(place.path)
            if entry is None or not row.is_object(entry):  # a name that belongs to another object now shows nothing
                missing = row
                if content and not row.inode:
                    # It has moved: wherever it is found, its content differs from what was sent.
                    catalog.doubts.distrust(row, digests=True)
                elif tried >= TRIED and row.inode:
                    break
                continue
            untouched = row.untouched(entry)
            if reported and (content or (untouched and abs(time.time_ns() - entry.ctime_ns) < TICK_NS)):
                self._check(place, content or untouched)
            elif not untouched:
                self._check(place, content)
            if row.inode:
                return True
        # A name that was not found gets a hint of its own later, after which its other names are checked. So when many
        # names of one object are removed, not every removal looks for all others.
        if missing is not None and missing.inode and content:
            catalog.doubts.distrust(missing, digests=True)
        return tried >= 0

    def leave(self, row: Row) -> None:
        """The name of this row is about to belong to another file."""
        if stat.S_ISREG(row.mode):
            others = self._source.catalog.names.has_other_names(row)
            _remember(self._former if others else self._removed, (row.parent, row.name), row.ino)

    def remember(self, row: Row) -> None:
        """Remembers that the file of this row had this name."""
        if stat.S_ISREG(row.mode):
            _remember(self._former, (row.parent, row.name), row.ino)


def _remember(names: OrderedDict[tuple[int, bytes], list[int]], key: tuple[int, bytes], inode: int) -> None:
    """Remembers that the file with this inode number had this name."""
    known = [each for each in names.pop(key, ()) if each != inode]
    names[key] = [*known[1 - OF_ONE_NAME :], inode]
    if len(names) > FORMER:
        names.popitem(last=False)
