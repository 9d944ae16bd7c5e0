"""From "this place may have changed" to the records that bring the replica there.

What is on disk now, compared with what the catalog says was sent, decides; what the capture said only tells where to
look. So duplicates, merged and reordered hints do no harm, and an object that turns up under another name crosses as a
rename or a link. The one thing that hints are believed in is a removal: a name that merely vanished may be on its way
to another name, and its contents with it.

Everything here blocks and runs in one worker thread at a time.
"""

from __future__ import annotations

import os
import stat
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator

import attrs

from i2core.api import BLOCK_BYTES, RESERVED_PREFIX, Code, Entry, Kind, Place, Record
from i2core.api.entries import GONE, entry_of, xattrs_of_fd
from i2core.pipeline.blocks import PIECE_BYTES, WHOLE_BYTES, scan
from i2core.rule.live.dirty import Mark
from i2core.rule.live.ledger import Doubts, add_doubt
from i2core.rule.live.walk import walk
from i2core.rule.reading.catalog import Row
from i2core.rule.reading.drafting import (
    Large,
    content_bytes,
    draft,
    meta_of,
    open_file,
    piece_records,
    setattr_record,
)
from i2core.rule.reading.source import Source

JOB_BYTES = 1024 * 1024
JOB_RECORDS = 1000
WALK_S = 0.02
"""A job ends when a walk has gone on for so long, so that live changes come in between."""
NEVER_NS = 1 << 62


@attrs.define
class Outcome:
    """What a job made: records in order, the files that must go in slices behind them, and marks left for later."""

    records: list[Record] = attrs.field(factory=list)
    doubts: Doubts = attrs.field(factory=dict)
    """What the records are about, should it stay unknown whether they were applied."""
    since_ns: int = NEVER_NS
    """`time.monotonic_ns` at which the oldest of what was worked on was first named."""
    large: list[Large] = attrs.field(factory=list)
    content_bytes: int = 0

    @property
    def full(self) -> bool:
        """True when it is time to send."""
        return self.content_bytes >= JOB_BYTES or len(self.records) >= JOB_RECORDS or bool(self.large)


class Reconciler:
    """Turns marks into records, and keeps the catalog in step with what it makes."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._walks: deque[tuple[int, Iterator[None]]] = deque()
        self._walked: list[Place] | None = None
        """During a step of a walk: directories that it is to go through as well."""
        self._since_ns = 0
        self._touched: OrderedDict[int, None] = OrderedDict()
        """Ids of directories' rows: a directory may move before its times are set."""
        self._gone_roots: set[int] = set()
        self._out = Outcome()

    @property
    def oldest_ns(self) -> int | None:
        """When the oldest of the subtrees that are being compared with the catalog was named; None: there are none."""
        return min((since for since, _ in self._walks), default=None)

    def touch(self, place: Place) -> None:
        """An entry was made at `place` by other means: the next job sets the directory's times behind it."""
        self._touch(place)

    def job(self, marks: deque[Mark]) -> Outcome:
        """Works off `marks` from the left until there is enough to send, then goes on with the walks. The caller
        commits the catalog.

        Raises:
            StopRule: something cannot be read, and the rule says to stop.
        """
        self._out = Outcome()
        while marks and not self._out.full:
            mark = marks.popleft()
            self._work_for(mark.since_ns)
            self.guarded(mark.place, self._settle, mark)
        if not marks:
            until = time.monotonic() + WALK_S
            while self._walks and not self._out.full and time.monotonic() < until:
                since_ns, walk = self._walks[0]
                self._work_for(since_ns)
                try:
                    next(walk)
                except StopIteration:
                    self._walks.popleft()
        self._set_directories()
        return self._out

    def _work_for(self, since_ns: int) -> None:
        """What is found from here on was named then."""
        self._since_ns = since_ns
        self._out.since_ns = min(self._out.since_ns, since_ns)

    def guarded(self, place: Place, step: Callable[..., None], *args: object) -> None:
        """Takes a step at `place`; what cannot be read there is noted, what is gone is no error."""
        try:
            step(*args)
        except OSError as error:
            if error.errno not in GONE:
                self._source.unreadable(place, error)

    # ------------------------------------------------------------------------------------------ one mark

    def _settle(self, mark: Mark) -> None:
        place = mark.place
        only = self._source.trees[place.root].only
        ours = any(part.startswith(RESERVED_PREFIX) for part in place.path.split(b"/"))
        if ours or (only is not None and place.path not in (b"", only)):
            return
        if mark.records:
            self._pass_on(mark)
            return
        content, tree = mark.content, mark.tree
        if mark.moved_from is not None:
            walks = len(self._walks)
            self._move(mark.moved_from, place)
            tree = tree and len(self._walks) == walks  # repeating the rename has begun the walk already
        self._check(place, content=content, removed=mark.removed, tree=tree, ranges=mark.ranges)

    def _pass_on(self, mark: Mark) -> None:
        """Records that a capture brought with their bytes go out as they are; digests they outdate are dropped."""
        row = self._source.catalog.get(mark.place)
        if row is not None:
            self._source.catalog.digests.drop(row.id)
        self._emit(mark.place, *mark.records)

    def _move(self, old: Place, new: Place) -> None:
        """Repeats a rename on the replica, if what was sent for the old name is what moved."""
        catalog = self._source.catalog
        row = catalog.get(old)
        if row is None or old.root != new.root:
            return
        now = self._source.trees[new.root].lookup(new.path)
        there = catalog.get(new)
        if now is not None and there is not None and there.id != row.id and there.is_object(now):
            return  # a compare has brought it, with the names that it shares with others: the old one goes alone
        if not self._source.wants(new, stat.S_ISDIR(row.mode)):
            self._check(old, removed=True)
        elif now is None or row.is_object(now):
            # Without an object at the new name it has moved on, and the next rename will find it there.
            self._rename(old, new, row)

    def _rename(self, old: Place, new: Place, row: Row) -> bool:
        catalog = self._source.catalog
        if not self._has_parent(new) or catalog.get(old) != row:
            return False  # bringing in the new directory has changed the old place
        if old.path.startswith(new.path + b"/") or new.path.startswith(old.path + b"/"):
            return False  # seen too late to be one rename: a name on the way was another object then
        is_dir = stat.S_ISDIR(row.mode)
        self._doubt(old, deep=is_dir)
        self._touch(old)
        self._touch(new)
        catalog.move(row, new)
        self._emit(new, Record(Kind.RENAME, old.root, old.path, other=new.path), deep=is_dir)
        if is_dir:
            # Hints from before the rename may have named the old path or, resolved late, the new one.
            self._walk_soon(new)
        return True

    def _check(
        self,
        place: Place,
        *,
        content: bool = False,
        removed: bool = False,
        tree: bool = False,
        ranges: list[tuple[int, int]] | None = None,
    ) -> None:
        """Brings one place in step."""
        source, catalog = self._source, self._source.catalog
        if not place.path:
            self.check_root(place, tree=tree)
            return
        source_tree = source.trees[place.root]
        above, _, name = place.path.rpartition(b"/")
        try:
            with source_tree.directory(above) as fd:
                entry = source_tree.entry(fd, name)
                if entry is not None:
                    if removed:  # what is there now may be another file in the inode of the one before
                        content, ranges = True, None
                    if source.wants(place, stat.S_ISDIR(entry.mode)) and self._has_parent(place):
                        row = catalog.get(place)
                        if row is not None and not row.is_object(entry):
                            self._check_other_names(row, content=content)
                            row = catalog.get(place)
                        self._bring(fd, place, entry, row, content, tree, ranges)
                        if removed:  # and made again, perhaps as the replica has it
                            self._touch_if_stale_above(place)
                    return
        except OSError as error:
            if error.errno not in GONE:
                raise
        row = catalog.get(place)
        if row is not None:
            self._check_other_names(row, content=content)
            row = catalog.get(place)
        if row is None:
            self._touch_if_stale_above(place)
        elif removed:
            self.remove(place, row)
        elif content:
            # It has moved on, or a directory above it has: wherever it is found, its content is not what was sent.
            catalog.doubt(row, digests=True)

    def _check_other_names(self, row: Row, *, content: bool) -> None:
        """The file was changed under a name that it no longer has: the change shows under its others."""
        if not stat.S_ISREG(row.mode):
            return
        for other in self._source.catalog.other_names(row):
            if self._source.catalog.row(other.id) != other:
                continue  # looking at the one before has changed it
            place = self._source.catalog.place(other)
            entry = self._source.trees[place.root].lookup(place.path)
            # A name that another object has taken shows nothing of this one.
            if entry is not None and other.is_object(entry) and not other.untouched(entry):
                self._check(place, content=content)

    def check_root(self, place: Place, *, tree: bool) -> None:
        """Looks at a root itself: it may be gone as a whole."""
        source_tree = self._source.trees[place.root]
        if not source_tree.is_present():
            if place.root not in self._gone_roots:
                self._gone_roots.add(place.root)
                self._source.say(self._source.rule, Code.SOURCE_GONE, f"{self._source.show(place)} is gone")
                row = self._source.catalog.get(place)
                files = self._source.catalog.count_files(row) if row else 0
                self._emit(place, Record(Kind.REMOVE, place.root, b"", size=files))
            return
        self._gone_roots.discard(place.root)
        self._touch(Place(place.root, b"-"))
        if tree:
            self._walk_soon(place)

    def _has_parent(self, place: Place) -> bool:
        """True when the replica has the directory of `place`; directories that it lacks are brought in first."""
        missing: list[Place] = []
        path = place.path
        while path:
            path = path.rpartition(b"/")[0]
            if self._has_directory(Place(place.root, path)):
                break
            missing.append(Place(place.root, path))
        for directory in reversed(missing):
            self._check(directory)
            if not self._has_directory(directory):
                return False
        return True

    def _has_directory(self, place: Place) -> bool:
        row = self._source.catalog.get(place)
        return row is not None and stat.S_ISDIR(row.mode)

    # ------------------------------------------------------------------------------------------ one object

    def _bring(
        self,
        fd: int,
        place: Place,
        entry: Entry,
        row: Row | None,
        content: bool,
        tree: bool,
        ranges: list[tuple[int, int]] | None = None,
    ) -> None:
        """Brings the replica to what `entry` is now."""
        if row is not None and row.is_object(entry):
            self._update(fd, place, entry, row, content, ranges)
            if tree and stat.S_ISDIR(entry.mode):
                self._walk_soon(place)
        elif not self._from_elsewhere(fd, place, entry):
            self._make(fd, place, entry)

    def _update(
        self, fd: int, place: Place, entry: Entry, row: Row, content: bool, ranges: list[tuple[int, int]] | None
    ) -> None:
        if stat.S_ISREG(entry.mode) and entry.nlink > 1 and (content or row.ctime_ns != entry.ctime_ns):
            self._join(place, row)
        if stat.S_ISREG(entry.mode) and (content or not row.same_content(entry)):
            self._patch(fd, place, entry, row, ranges if content else None)
        elif row.ctime_ns == entry.ctime_ns and row.same_meta(entry):
            return
        elif not stat.S_ISREG(entry.mode) and not stat.S_ISDIR(entry.mode):
            # A symlink or a node made anew often gets the inode of the one before; making it costs as little as asking.
            self._make(fd, place, entry)
        else:
            if not row.same_meta(entry):
                self._emit(place, setattr_record(fd, place, entry))
            self._note(place, entry)

    def _join(self, place: Place, row: Row) -> None:
        """Names of one file that were sent at different times may be files of their own on the replica, for the link
        came while a mirror was listing: they are made one."""
        for other in self._source.catalog.other_names(row):
            at = self._source.catalog.place(other)
            if at.root == place.root and other.ctime_ns != row.ctime_ns:
                self._emit(at, Record(Kind.LINK, at.root, at.path, other=place.path))
                self._touch(at)

    def _note(self, place: Place, entry: Entry) -> None:
        """The replica has what `entry` is, under this name and the others of the same file."""
        self._look_at_other_names(place, self._source.catalog.put(place, entry), entry)

    def _look_at_other_names(self, place: Place, row: Row, entry: Entry) -> None:
        """A file changes under all its names, and only one may have been told."""
        if entry.nlink > 1 and not stat.S_ISDIR(entry.mode):
            doubts, apart = self._source.catalog.share(row, entry)
            for doubt in doubts:
                add_doubt(self._out.doubts, place, doubt)
            for other in apart:
                self._check(other, content=True)

    def _from_elsewhere(self, fd: int, place: Place, entry: Entry) -> bool:
        """An object that the replica has under another name crosses as a rename, or as a link."""
        catalog, tree = self._source.catalog, self._source.trees[place.root]
        for row in catalog.by_inode(entry):
            if catalog.row(row.id) != row:
                continue  # looking at the one before has changed it
            other = catalog.place(row)
            if other == place or other.root != place.root:
                continue
            now = tree.lookup(other.path)
            if now is None or (now.dev, now.ino) != (entry.dev, entry.ino):
                if self._rename(other, place, row):
                    moved = catalog.get(place)
                    assert moved is not None
                    # No event vouches for this rename: the inode number may have been used anew. Content decides.
                    self._update(fd, place, entry, moved, stat.S_ISREG(entry.mode), None)
                    return True
            elif stat.S_ISREG(entry.mode):
                self._touch(place)
                linked = catalog.put(place, entry)
                self._emit(place, Record(Kind.LINK, place.root, place.path, other=other.path))
                # What differs is what was not sent under the other name yet.
                self._update(fd, place, entry, row._replace(id=linked.id), False, None)
                return True
        return False

    def _make(self, fd: int, place: Place, entry: Entry) -> None:
        """A new object, in the place of whatever the replica has there."""
        drafted = draft(fd, place, entry)
        self._touch(place)
        if isinstance(drafted, Large):
            self._send_in_slices(drafted)
            return
        self._source.status.sent_files += not stat.S_ISDIR(entry.mode)
        row = self._source.catalog.put(place, drafted.entry)
        self._emit(place, *drafted.records, deep=stat.S_ISDIR(entry.mode))
        self._source.catalog.digests.drop(row.id)
        if drafted.digests:
            self._source.catalog.digests.put(row.id, 0, drafted.digests)
        self._look_at_other_names(place, row, drafted.entry)
        if stat.S_ISDIR(entry.mode):
            self._walk_soon(place)

    def _send_in_slices(self, large: Large) -> None:
        self._out.large.append(large._replace(since_ns=self._since_ns, walked=self._walked is not None))

    def _patch(self, fd: int, place: Place, entry: Entry, row: Row, ranges: list[tuple[int, int]] | None) -> None:
        """A regular file whose content may have changed."""
        source = self._source
        if entry.size <= BLOCK_BYTES and entry.nlink == 1:
            self._make(fd, place, entry)
            return
        touched = entry.size if ranges is None else sum(end - first for first, end in ranges)
        unknown = entry.size > PIECE_BYTES and source.catalog.digests.get(row.id, 0, 1) is None
        if touched > WHOLE_BYTES or unknown:
            self._send_in_slices(Large(place, entry, whole=False))
            return
        file, status = open_file(fd, entry.name)
        try:
            now = entry_of(entry.name, status, digest=entry.xattrs)
            records: list[Record] = []
            for first, end in ranges or [(0, status.st_size)]:
                start = first // BLOCK_BYTES * BLOCK_BYTES
                stop = min(-(-end // BLOCK_BYTES) * BLOCK_BYTES, status.st_size)
                block = start // BLOCK_BYTES
                base = source.catalog.digests.get(row.id, block, max(1, (stop - start) // BLOCK_BYTES + 1)) or b""
                found = scan(file, start, stop, base)
                records += piece_records(place, found, staged=False)
                if not block or source.catalog.digests.get(row.id, block - 1, 1) is not None:
                    source.catalog.digests.put(row.id, block, found.hashes)
            source.catalog.digests.cut(row.id, status.st_size)
            if records or status.st_size != row.size:
                records.append(Record(Kind.TRUNCATE, place.root, place.path, size=status.st_size))
            if records or not row.same_meta(now):
                meta = meta_of(now, xattrs_of_fd(file))
                records.append(Record(Kind.SETATTR, place.root, place.path, meta=meta))
                self._emit(place, *records)
                source.status.sent_files += 1
            self._note(place, now)
        finally:
            os.close(file)

    def remove(self, place: Place, row: Row) -> None:
        """The source no longer has what was sent for `place`."""
        files = self._source.catalog.count_files(row)
        self._emit(place, Record(Kind.REMOVE, place.root, place.path, size=files), deep=stat.S_ISDIR(row.mode))
        self._touch(place)
        self._source.catalog.remove(row)

    # ------------------------------------------------------------------------------------------ subtrees

    def _walk_soon(self, top: Place) -> None:
        if self._walked is not None:
            self._walked.append(top)
        else:
            self._walks.append((self._since_ns, walk(self._source, self, top)))

    def bring_walked(
        self, fd: int, place: Place, entry: Entry, row: Row | None, content: bool, todo: list[Place]
    ) -> None:
        """`_bring` for a walk, which goes through the directories that turn up itself: they join `todo`."""
        # Before anything is removed: things may have moved into a directory that is found.
        self._walked = todo
        try:
            self.guarded(place, self._bring, fd, place, entry, row, content, False)
        finally:
            self._walked = None

    def _touch_if_stale_above(self, place: Place) -> None:
        """What came and went unseen has still changed its directory's times."""
        above = place.above
        row = self._source.catalog.get(above)
        now = self._source.trees[above.root].lookup(above.path) if row is not None else None
        if row is not None and now is not None and row.is_object(now):
            self.touch_if_stale(row, now)

    def touch_if_stale(self, row: Row, now: Entry) -> None:
        """Sets a directory's metadata behind it all, when they are not what was sent."""
        if not row.same_meta(now):
            self._touched[row.id] = None

    # ------------------------------------------------------------------------------------------ outbox

    def _emit(self, place: Place, *records: Record, deep: bool = False) -> None:
        """Behind what the catalog was told: only then it knows the object that the records are about."""
        self._out.records += self._source.superseding(place, records)
        self._doubt(place, deep=deep)
        self._out.content_bytes += content_bytes(list(records))

    def _doubt(self, place: Place, *, deep: bool) -> None:
        add_doubt(self._out.doubts, place, self._source.catalog.doubt_at(place, deep=deep))

    def _touch(self, place: Place) -> None:
        """The directory of `place` got other times on the replica than on the source: they are set behind it all."""
        row = self._source.catalog.get(place.above)
        if row is not None:
            self._touched[row.id] = None

    def _set_directories(self) -> None:
        catalog = self._source.catalog
        touched, self._touched = self._touched, OrderedDict()
        for ident in touched:
            row = catalog.row(ident)
            if row is not None:
                # When it cannot be done now, the directory has moved on: what finds it will find its times wrong.
                catalog.doubt(row, digests=True)
                place = catalog.place(row)
                self.guarded(place, self._set_directory, place, row)

    def _set_directory(self, place: Place, row: Row) -> None:
        tree = self._source.trees[place.root]
        with tree.directory(place.path) as fd:
            now = tree.here(fd)
            if row.is_object(now):
                self._emit(place, setattr_record(fd, place, now))
                self._source.catalog.put(place, now)
