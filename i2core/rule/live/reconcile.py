"""Turns "this place may have changed" into records that bring the replica up to date.

The reconciler compares what is on disk now with what the catalog says was sent. Reports of the capture only tell where
to look. So duplicate, merged and reordered hints do no harm, and an object that is found under another name is sent as
a rename or a link. Hints are trusted in one case only, a removal. A name that merely vanished may be moving to another
name, with its content; one that was reported as removed is not.

    mark ─▶ _settle ─▶ _check ── what is there? ──▶ the object that the catalog knows   update.py
                                                    one that has another name           move.py
                                                    a new one                           make.py
                                                    nothing, and that was reported      make.py, `remove`
    a subtree that is to be compared ─▶ walks.py, subtree.py ── of each entry the same question
    names that the report did not lead to ─▶ other_names.py, shared_objects.py, inode_search.py
    an object that had left the new name of its rename, and was not reported again ─▶ in_transit.py
    at the end: the attributes of directories ─▶ directories.py

Everything here blocks and runs in one worker thread at a time.
"""

from __future__ import annotations

import errno
import stat
from collections import deque
from collections.abc import Callable
from functools import partial

from i2core.api import Code, Entry, Kind, Place, Record
from i2core.api.tree import RootGone
from i2core.posix.errnos import GONE, PASSING
from i2core.rule.catalog.rows import Depth, Row
from i2core.rule.live.directories import Directories
from i2core.rule.live.dirty import BY_INODE, Mark
from i2core.rule.live.found import Found
from i2core.rule.live.in_transit import InTransit
from i2core.rule.live.inode_search import InodeSearch
from i2core.rule.live.make import Maker
from i2core.rule.live.move import Mover
from i2core.rule.live.other_names import OtherNames
from i2core.rule.live.output import Outcome, Output
from i2core.rule.live.room import Room
from i2core.rule.live.shared_objects import SharedObjects
from i2core.rule.live.subtree import walk
from i2core.rule.live.unpinned import Unpinned
from i2core.rule.live.unproven import Unproven
from i2core.rule.live.update import Ranges, Updater
from i2core.rule.live.walks import Walks
from i2core.rule.source.passing import PutOff
from i2core.rule.source.source import Source


class Reconciler:
    """Turns marks into records, and notes in the catalog what they send."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._output = output = Output(source)
        self.unpinned = Unpinned()
        """Objects to be checked again, since their flags may be set again."""
        self.in_transit = InTransit(source.catalog.objects)
        """Objects renamed to a name that was gone by then, of which a further report is awaited."""
        self.directories = directories = Directories(source, output, self.unpinned)
        self.walks = walks = Walks(output, partial(walk, source, self), self._lose_root)
        self._unproven = Unproven(source.catalog.names)
        self._names = OtherNames(source, self._check_name)
        shared = SharedObjects(source, output, directories, self._check_name)
        self._maker = Maker(source, output, directories, shared, walks, self.in_transit)
        self._updater = Updater(source, output, shared, self._maker, self._unproven, self.unpinned)
        self._mover = Mover(
            source, output, directories, self._names, self._updater, walks, self.in_transit, self._has_parent
        )
        self._room = Room(source, output, self)
        self._inodes = InodeSearch(source, self._names, walks, self.guarded, self.check_root)
        self._gone_roots: set[int] = set()

    @property
    def makes_room(self) -> bool:
        """True while room is being made on the replica; marks wait until it is done."""
        return not self._room.is_made

    def make_room(self, now_ns: int) -> None:
        """The next jobs make room on the replica first. `now_ns`: when this was requested."""
        self._output.work_for(now_ns)
        self.walks.add(self._room.steps(Place(root, b"") for root in range(len(self._source.trees))))

    def job(self, marks: deque[Mark], seen_ns: int) -> Outcome:
        """Processes `marks` from the left until there is enough to send, then continues the walks. The caller commits
        the catalog. `seen_ns`: all changes reported before that `time.monotonic_ns` have been processed.

        Raises:
            StopRule: something cannot be read, and the rule says to stop.
        """
        output = self._output
        with self._source.job():
            output.begin()
            self._unproven.prove(seen_ns)
            for mark in self.in_transit.take(seen_ns):
                self._work_off(mark)
            while marks and not output.made.full and not self.makes_room:
                self._work_off(marks.popleft())
            if not marks or self.makes_room:
                self.walks.go_on()
            self.directories.set_all(self.guarded)
            return output.made

    # ------------------------------------------------------------------------------------------ what cannot be read

    def guarded(self, place: Place, step: Callable[..., object], *args: object) -> None:
        """Runs a step at `place`. An object that cannot be read is noted; one that is gone is no error."""
        try:
            step(*args)
        except RootGone as gone:
            self._lose_root(gone)
        except OSError as error:
            if error.errno not in GONE:
                self._source.unreadable(place, error)

    def _lose_root(self, gone: RootGone) -> None:
        """The object was gone together with its root. If the root is there again, all of it is compared."""
        self.check_root(Place(self._source.trees.index(gone.tree), b""), tree=True)

    def _settle_or_put_off(self, mark: Mark) -> None:
        """After a passing error the mark is put off as it is. It may say that the name was removed, or where it was
        moved from. Without that, a second check would find that the name merely vanished, and the replica would keep
        it."""
        try:
            self._settle(mark)
        except OSError as error:
            if error.errno in (*PASSING, errno.EIO):
                self._source.passing.put_off(PutOff(mark.place, error.strerror or "", error.errno or 0, mark))
            if error.errno not in PASSING:
                raise

    # ------------------------------------------------------------------------------------------ one mark

    def _work_off(self, mark: Mark) -> None:
        self._output.work_for(mark.since_ns)
        self.guarded(mark.place, self._settle_or_put_off, mark)

    def _settle(self, mark: Mark) -> None:
        place = mark.place
        if place == BY_INODE:
            self._inodes.look_for(mark)
            return
        only = self._source.trees[place.root].only
        if only is not None and place.path not in (b"", only):
            self._names.follow(mark, None)
            return
        tree = mark.tree
        if mark.moved_from is not None:
            walks = len(self.walks)
            if not self._mover.move(mark.moved_from, place):
                self._check(mark.moved_from, removed=True)
            tree = tree and len(self.walks) == walks  # repeating the rename has started the walk already
        found = self._check(place, content=mark.content, removed=mark.removed, tree=tree, ranges=mark.ranges)
        self._names.follow(mark, found)

    # ------------------------------------------------------------------------------------------ one place

    def _check(
        self,
        place: Place,
        *,
        content: bool = False,
        removed: bool = False,
        tree: bool = False,
        ranges: Ranges | None = None,
    ) -> Entry | None:
        """Station 4: compares what is on disk *now* with the catalog, and makes records of the difference. Returns the
        entry found, if the rule protects it."""
        if not place.path:
            self.check_root(place, tree=tree)
            return None
        source_tree = self._source.trees[place.root]
        above, _, name = place.path.rpartition(b"/")
        try:
            with source_tree.directory(above) as directory:
                entry = directory.entry(name)
                if entry is not None:
                    if not self._source.wants(place, stat.S_ISDIR(entry.mode)):
                        return None
                    if removed:
                        # The name exists nevertheless: `rm a; echo new > a`. The new file often gets the inode number
                        # of the old one, and may have its size and time: it would look unchanged.
                        content, ranges = True, None
                    if self._has_parent(place):
                        self._present(Found(directory, place, entry), content=content, tree=tree, ranges=ranges)
                        if removed:  # perhaps created again as the replica has it: nothing was sent, but times changed
                            self.directories.touch_if_stale_above(place)
                    return entry
        except OSError as error:
            if error.errno not in GONE:
                raise
        self._absent(place, content=content, removed=removed)
        return None

    def _check_name(self, place: Place, content: bool) -> None:
        self._check(place, content=content)

    def _present(self, found: Found, *, content: bool, tree: bool, ranges: Ranges | None) -> None:
        """The rule has an object there, and the replica its directory."""
        objects = self._source.catalog.objects
        row = objects.get(found.place)
        if row is not None and not row.is_object(found.entry):
            # `ln log log.1; rm log; touch log`: writes to the old `log` were reported under that name, and show under
            # `log.1` only. Checking `log.1` may move this row: so it is read again.
            self._names.check_others(row, content=content)
            row = objects.get(found.place)
        self._bring(found, row, content=content, tree=tree, ranges=ranges)

    def _absent(self, place: Place, *, content: bool, removed: bool) -> None:
        """Nothing is there, or no directory of that path."""
        objects = self._source.catalog.objects
        row = objects.get(place)
        if row is not None:
            self._names.check_others(row, content=content)
            row = objects.get(place)
        if row is None:
            self.directories.touch_if_stale_above(place)
        elif removed:
            self.remove(place, row)
        elif content:
            # The object or a directory above it has moved: wherever it is found, its content differs from what was
            # sent.
            self._source.catalog.doubts.distrust(row, digests=True)

    def _bring(self, found: Found, row: Row | None, *, content: bool, tree: bool, ranges: Ranges | None) -> None:
        """Brings the replica to the state that was found."""
        if row is not None and row.is_object(found.entry):
            self._updater.update(found, row, content=content, ranges=ranges)
            if tree and stat.S_ISDIR(found.entry.mode):
                self.walks.soon(found.place)
            return
        if row is not None and stat.S_ISDIR(row.mode) and not stat.S_ISDIR(found.entry.mode):
            self._output.doubt(found.place, Depth.REPLACED)  # what is sent next removes a directory
        if not self._mover.from_elsewhere(found):
            self._maker.make(found)

    def _has_parent(self, place: Place) -> bool:
        """True when the replica has the directory of `place`; missing directories are sent first."""
        if not place.path or self._has_directory(place.above):
            return True
        # From the root downwards. Upwards from each missing directory, the cost would be the square of the depth.
        root, path = place
        end = 0
        while True:
            if not self._has_directory(Place(root, path[:end])):
                self._check(Place(root, path[:end]))
                if not self._has_directory(Place(root, path[:end])):
                    return False
            begin = end + 1 if end else 0
            end = path.find(b"/", begin)
            if end < 0:
                return True

    def _has_directory(self, place: Place) -> bool:
        return self._source.catalog.objects.directory_id(place) is not None

    # ------------------------------------------------------------------------------------------ for walks

    def check_root(self, place: Place, *, tree: bool) -> None:
        """Checks a root itself: it may be gone as a whole."""
        source_tree, objects = self._source.trees[place.root], self._source.catalog.objects
        if not source_tree.is_present():
            if place.root not in self._gone_roots:
                self._gone_roots.add(place.root)
                self._source.say(self._source.rule, Code.SOURCE_GONE, f"{self._source.show(place)} is gone")
                row = objects.get(place)
                files = objects.count_files(row) if row else 0
                self._output.emit(place, Record(Kind.REMOVE, place.root, b"", size=files))
            return
        if place.root in self._gone_roots:  # hints beneath it were ignored meanwhile
            self._gone_roots.discard(place.root)
            tree = True
        self.directories.touch_if_stale_above(Place(place.root, b"-"))
        if tree:
            self.walks.soon(place)

    def bring_walked(self, found: Found, row: Row | None, content: bool, todo: list[Place]) -> None:
        """`_bring` for a walk, which walks new directories itself: they are added to `todo`."""
        with self.walks.found_in(todo):
            self.guarded(found.place, partial(self._bring, content=content, tree=False, ranges=None), found, row)

    def remove(self, place: Place, row: Row) -> None:
        """The source no longer has what was sent for `place`."""
        self._maker.remove(place, row)

    def touch_if_stale(self, row: Row, now: Entry) -> None:
        """Has a directory's attributes set at the end of the job if they differ from those that were sent."""
        self.directories.touch_if_stale(row, now)
