"""Renames or links an object on the replica that has another name there.

A move is known by a report (`Mover.move`) or by the inode number (`Mover.from_elsewhere`). A report comes
late: by then the object may have moved again, or another object may have its name. So a report is followed only where
catalog and source agree with it. Both names are checked afterwards, which corrects whatever the report got wrong."""

from __future__ import annotations

import stat
from collections.abc import Callable

from i2core.api import Kind, Place, Record
from i2core.rule.catalog.rows import Depth, Row
from i2core.rule.live.directories import Directories
from i2core.rule.live.found import Found
from i2core.rule.live.in_transit import InTransit
from i2core.rule.live.other_names import OtherNames
from i2core.rule.live.output import Output
from i2core.rule.live.update import Updater
from i2core.rule.live.walks import Walks
from i2core.rule.source.source import Source


class Mover:
    """Repeats renames and links on the replica."""

    def __init__(
        self,
        source: Source,
        output: Output,
        directories: Directories,
        names: OtherNames,
        updater: Updater,
        walks: Walks,
        in_transit: InTransit,
        has_parent: Callable[[Place], bool],
    ) -> None:
        """`has_parent` creates the directory of a place on the replica if needed, and returns whether it is there."""
        self._source = source
        self._output = output
        self._directories = directories
        self._names = names
        self._updater = updater
        self._walks = walks
        self._in_transit = in_transit
        self._has_parent = has_parent

    def move(self, old: Place, new: Place) -> bool:
        """Repeats a reported rename if the object that moved is the one that was sent for the old name. False when the
        rule excludes the new name: the old one is to be removed."""
        objects = self._source.catalog.objects
        row = objects.get(old)
        if row is None or old.root != new.root:
            return True
        tree = self._source.trees[new.root]
        at_old = tree.lookup(old.path)
        if at_old is not None and row.is_object(at_old):
            # The report was put off. Meanwhile another object became `d`, was sent, and has `d` still: to rename it
            # away now would leave `d` missing, and no mark is left that checks `d` again.
            return True
        now = tree.lookup(new.path)
        there = objects.get(new)
        if now is not None and there is not None and there.id != row.id and there.is_object(now):
            return True  # a compare has sent it already, as a link: only the old name is to be removed
        if not self._source.wants(new, stat.S_ISDIR(row.mode)):
            return False
        if (now is None or row.is_object(now)) and self._rename(old, new, row) and now is None:
            # The object has moved again, and the next rename expects it there; or it was removed.
            self._in_transit.add(row, self._output.since_ns)
        return True

    def from_elsewhere(self, found: Found) -> bool:
        """Sends an object that the replica has under another name as a rename or a link. False: it has no other
        name."""
        _, place, entry = found
        catalog, tree = self._source.catalog, self._source.trees[place.root]
        for row in catalog.names.elsewhere(entry, place.root):
            if catalog.objects.row(row.id) != row:
                continue  # checking the previous one has changed it
            other = catalog.objects.place(row)
            if other == place or other.root != place.root:
                continue
            now = tree.lookup(other.path)
            if now is None or (now.dev, now.ino) != (entry.dev, entry.ino):
                self._names.remember(row)
                if self._rename(other, place, row):
                    moved = catalog.objects.get(place)
                    assert moved is not None
                    # No event confirms this rename: the inode number may have been reused. The content decides.
                    self._updater.update(found, moved, content=stat.S_ISREG(entry.mode), ranges=None)
                    return True
            elif not stat.S_ISDIR(entry.mode):
                self._directories.touch(place)
                linked = catalog.names.join(catalog.objects.put(place, entry), row)
                self._output.emit(place, Record(Kind.LINK, place.root, place.path, other=other.path))
                # Differences are changes that were not sent under the other name yet.
                self._updater.update(found, linked, content=self._is_unread(other, row), ranges=None)
                return True
        return False

    def _rename(self, old: Place, new: Place, row: Row) -> bool:
        objects = self._source.catalog.objects
        if not old.path:
            return False  # a root cannot be renamed into itself: its inode number belongs to another directory by now
        if not self._has_parent(new) or objects.get(old) != row:
            return False  # sending the new parent directory has changed the old place
        if old.path.startswith(new.path + b"/") or new.path.startswith(old.path + b"/"):
            return False  # too late to be one rename: a name in between belonged to another object then
        is_dir = stat.S_ISDIR(row.mode)
        self._output.doubt(old, Depth.REPLACED if is_dir else Depth.NAME)
        self._directories.touch(old)
        self._directories.touch(new)
        there = objects.get(new)
        if there is not None and there.id != row.id:
            self._names.leave(there)
            if stat.S_ISDIR(there.mode):
                self._output.doubt(new, Depth.REPLACED)
        self._in_transit.drop(row)
        if self._is_unread(old, row):
            self._source.catalog.doubts.distrust(row, digests=True)  # wherever it is found
        objects.move(row, new)
        depth = Depth.SUBTREE if is_dir else Depth.NAME
        self._output.emit(new, Record(Kind.RENAME, old.root, old.path, other=new.path), depth=depth)
        if is_dir:
            # `write d/f; rename d e`: the path of the write is resolved late (`e/f`) or early (`d/f`, which is gone).
            # So the directory is compared as a whole, whatever was reported before the rename.
            self._walks.soon(new)
        return True

    def _is_unread(self, old: Place, row: Row) -> bool:
        """True when a file gets another name while the directory of the old one is compared with the catalog: the
        compare may not meet it any more, so its content is read.

        The case that breaks without it: the event of new content of the same size and time in `c/2` is lost. The
        compare after the loss has been in `a` already when `c/2` moves there, and then finds nothing in `c`. The report
        of the rename says nothing about the content."""
        return stat.S_ISREG(row.mode) and self._walks.concern(old)
