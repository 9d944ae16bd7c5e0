"""Makes room on a replica whose disk is full, using the source's own changes. Before anything is sent that needs room,
objects that the source has removed are removed, and files that became shorter are truncated.

The case that breaks without it: the rule stopped because the replica was full; files were removed on the source; the
rule was started. An ordinary compare (`subtree.walk`) goes through the tree in order and removes at its end. New files
would fill the disk again each time, and the removals would never be reached. So a separate pass comes first. It sends
no content and creates nothing; the compare after it finds all other differences.

Objects that have moved stay, since they are to be renamed on the replica. If this pass removed them, they would be
missing until their whole content had been sent again. So a name is removed only after the whole source was walked.

Unverified names are left alone as well. The length of the replica's file is not known, and truncating a file that is
shorter there would give it a tail of zeros. The repair (`repairer.Repairer`) asks for its length and truncates it.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Generator, Iterable

from i2core.api import Entry, Kind, Place, Record
from i2core.rule.catalog.rows import Row
from i2core.rule.live.found import Found
from i2core.rule.live.output import Output
from i2core.rule.live.subtree import Keeper, walk
from i2core.rule.source.source import Source


class Room(Keeper):
    """One pass: of all that a walk finds, acts only on what makes room."""

    def __init__(self, source: Source, output: Output, keeper: Keeper) -> None:
        self._source = source
        self._output = output
        self._keeper = keeper
        self._moved: set[int] = set()
        """Ids of the rows of objects that have another name now."""
        self._around: set[int] = set()
        """Ids of the rows of the directories that contained them."""
        self._unknown: list[Place] = []
        """Directories that the replica does not have there: their entries may have moved into them."""
        self._missing: list[Place] = []
        self._replaced: list[Place] = []
        self.is_made = True

    def steps(self, tops: Iterable[Place]) -> Generator[None, None, None]:
        """The pass over these subtrees, in small steps. From this call on `is_made` is False until it ends."""
        self.is_made = False
        return self._steps(tops)

    def _steps(self, tops: Iterable[Place]) -> Generator[None, None, None]:
        try:
            for top in tops:
                yield from walk(self._source, self, top)
            while self._unknown:
                place = self._unknown.pop()
                self.guarded(place, self._look_into, place)
                yield
            for place in self._replaced:
                self.guarded(place.above, self._empty_replaced, place)
                yield
            while self._missing:
                place = self._missing.pop()
                self.guarded(place.above, self._remove, place)
                yield
        finally:
            self.is_made = True
            self._unknown, self._missing, self._replaced = [], [], []
            self._moved, self._around = set(), set()

    # ------------------------------------------------------------------------------------------ for the walk

    def bring_walked(self, found: Found, row: Row | None, content: bool, todo: list[Place]) -> None:
        """Truncates the same file if it became shorter; notes an object that has moved here, and what it may have
        replaced."""
        if row is not None and row.is_object(found.entry):
            self._cut(found.place, row, found.entry.size)
            return
        self._note_moved(found.place, found.entry)
        if row is not None:
            self._replaced.append(found.place)

    def remove(self, place: Place, row: Row) -> None:
        """Removed after all subtrees were walked: another walk may still find the object."""
        self._missing.append(place)

    def touch_if_stale(self, row: Row, now: Entry) -> None:
        """Attributes make no room."""

    def check_root(self, place: Place, *, tree: bool) -> None:
        """Does nothing: the compare finds a root that is gone."""

    def guarded(self, place: Place, step: Callable[..., None], *args: object) -> None:
        """As the keeper's own."""
        self._keeper.guarded(place, step, *args)

    def _look_into(self, place: Place) -> None:
        tree = self._source.trees[place.root]
        with tree.directory(place.path) as directory:
            for entry in directory.entries():
                if self._source.wants(place.child(entry.name), stat.S_ISDIR(entry.mode)):
                    self._note_moved(place.child(entry.name), entry)

    def _note_moved(self, place: Place, entry: Entry) -> None:
        """By its inode number the replica may have the object under another name, which then stays. The number may also
        have been reused; that name is then treated as moved all the same, and has its size."""
        objects = self._source.catalog.objects
        for row in self._source.catalog.names.elsewhere(entry, place.root):
            self._moved.add(row.id)
            above = objects.row(row.parent)
            while above is not None and above.id not in self._around:
                self._around.add(above.id)
                above = objects.row(above.parent)
            if stat.S_ISREG(entry.mode):
                self._cut(objects.place(row), row, entry.size)
        if stat.S_ISDIR(entry.mode):
            self._unknown.append(place)

    # ------------------------------------------------------------------------------------------ what makes room

    def _remove(self, place: Place) -> None:
        objects = self._source.catalog.objects
        row = objects.get(place)
        if row is None or self._source.trees[place.root].lookup(place.path) is not None:
            return
        if stat.S_ISDIR(row.mode) and (row.id in self._moved or row.id in self._around):
            # `mv d/kept .; rm -r d`: its other entries are removed one by one. The same after `mv d e; rm e/*`.
            self._missing += [place.child(name) for name in objects.children(row)]
        elif row.id not in self._moved:
            self._keeper.remove(place, row)

    def _empty_replaced(self, place: Place) -> None:
        """Another object has the name (`mv small big`, `rm -r d; touch d`). Where the old one's other names are links
        to it, it stays."""
        objects = self._source.catalog.objects
        row, entry = objects.get(place), self._source.trees[place.root].lookup(place.path)
        if row is None or entry is None or row.id in self._moved:
            return
        if stat.S_ISDIR(row.mode):
            self._missing += [place.child(name) for name in objects.children(row)]
        elif not row.inode:
            self._cut(place, row, entry.size if stat.S_ISREG(entry.mode) else 0)

    def _cut(self, place: Place, row: Row, size: int) -> None:
        """The replica's object matches the row; if it is a file, it must not be longer than this."""
        if row.unverified or not stat.S_ISREG(row.mode) or size >= row.size:
            return
        catalog = self._source.catalog
        # It may grow again before it is checked: the truncated part is missing there, although it was sent once.
        catalog.digests.cut(row.key, size)
        catalog.doubts.distrust(row, digests=True)
        self._output.emit(place, Record(Kind.TRUNCATE, place.root, place.path, size=size))
