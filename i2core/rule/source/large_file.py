"""The file of a transfer: held open, followed when a directory above it is renamed, with a row in the catalog.

A file that the replica does not have gets a new row, which has no name until the transfer is done (`Objects.reserve`).
A file that is patched in place keeps its row; a check during the transfer finds it changed.
"""

from __future__ import annotations

from i2core.api import Entry, Meta, Place
from i2core.api.blockmap import BlockMap
from i2core.api.content import is_sparse
from i2core.api.tree import OpenFile
from i2core.rule.catalog.rows import Row
from i2core.rule.source.draft import meta_of
from i2core.rule.source.source import Source


class LargeFile:
    """One large file of the source. After `open`, `entry` and `open_file` are there; after `claim_row`, `row` is."""

    def __init__(self, source: Source, place: Place) -> None:
        self._source = source
        self._name = place.path.rpartition(b"/")[2]
        self.place = place
        """Its place at the last check."""
        self._file: OpenFile | None = None
        self._entry: Entry | None = None
        self._row: Row | None = None
        self._directory: Row | None = None
        self.is_new = False
        """Its row is reserved: the catalog has no such file on the replica."""
        self.sparse = False
        """It has holes, so the replica is asked for its holes as well."""

    @property
    def entry(self) -> Entry:
        """Its entry when it was opened."""
        assert self._entry is not None
        return self._entry

    @property
    def open_file(self) -> OpenFile:
        """The open file."""
        assert self._file is not None
        return self._file

    @property
    def row(self) -> Row:
        """Its row in the catalog."""
        assert self._row is not None
        return self._row

    def is_as_opened(self, entry: Entry) -> bool:
        """True when its times show no change since it was opened."""
        return self._entry is not None and _state(self._entry) == _state(entry)

    def open(self) -> bool:
        """Opens it; False when it is gone.

        Raises:
            OSError: it cannot be read.
        """
        tree = self._source.trees[self.place.root]
        try:
            with tree.directory(self.place.above.path) as directory:
                self._file = file = directory.open(self._name)
                self._source.name_flags(self.place, file)
                self.sparse = is_sparse(file, file.as_opened())
                self._entry = directory.entry(self._name)
        except FileNotFoundError:
            return False
        self._directory = self._source.catalog.objects.get(self.place.above)
        return self._entry is not None and self._directory is not None and self._is_open(self._entry)

    def claim_row(self, *, whole: bool) -> Row:
        """Notes in the catalog that its transfer has begun."""
        catalog = self._source.catalog
        row = catalog.objects.get(self.place)
        if whole or row is None or not row.is_object(self.entry):
            row, self.is_new = catalog.objects.reserve(), True
            catalog.staging.begin(self.place)
            # The staging file changes the directory's times on the replica.
            assert self._directory is not None
            catalog.doubts.distrust(self._directory, digests=True)
        else:
            # Until the end, the replica has neither the old content nor the new, also if the file moves meanwhile.
            catalog.doubts.distrust(row, digests=True)
            if self.entry.nlink > 1:
                for other in catalog.names.apart(row, self.place.root):
                    catalog.digests.drop(other.key)
        self._row = row
        return row

    def _is_open(self, entry: Entry) -> bool:
        """True when `entry` is the file that was opened."""
        opened = self.open_file.as_opened()
        return (entry.dev, entry.ino) == (opened.dev, opened.ino)

    def is_still_there(self) -> bool:
        """Follows the directory to its present place. False when the name no longer leads to this file, or is not on
        the replica yet.

        The case that breaks without it: `d/big` is being patched in place, and becomes `d/old` while a new `d/big` is
        made. The rest of the old file's blocks would be written into the file that has the name `d/big` on the replica
        by then.
        """
        assert self._directory is not None
        catalog = self._source.catalog
        directory = catalog.objects.row(self._directory.id)
        if directory is None:
            return False
        self.place = catalog.objects.place(directory).child(self._name)
        if self.is_new:
            if self.place not in catalog.staging:
                # An object was sent for the name meanwhile, and its staging file removed. The object may have had the
                # inode number of this file before: `rm a; create big`, and `a` is renamed to `big` on the replica.
                return False
        else:
            row = catalog.objects.get(self.place)
            if row is None or row.id != self.row.id:
                return False
            self._row = row  # it may have got more names
        now = self._source.trees[self.place.root].lookup(self.place.path)
        return now is not None and self._is_open(now)

    def size(self) -> int:
        """Its present size."""
        return self.open_file.entry().size

    def keep_digests(self, first: int, blocks: BlockMap) -> None:
        """Notes the digests of the blocks from `first` on, unless there is a gap in front of them."""
        digests = self._source.catalog.digests
        if digests.known(self.row.key) >= first:
            digests.put(self.row.key, first, blocks)

    def as_read(self, *, in_part: bool) -> tuple[Entry, Meta]:
        """The state of the replica's file when everything that was read is there: for the catalog, and for the replica.
        `in_part`: it was not compared from the first byte on.

        The time of modification is that from before the reading. The case that breaks otherwise: a write lands in a
        block that was read already, and its event is lost. With the time of after the reading, file and replica would
        have the same size and time, and nobody would compare them again.
        """
        opened = self.entry
        now = self.open_file.entry(opened.xattrs, opened.flags)._replace(mtime_ns=opened.mtime_ns)
        seen = opened._replace(size=now.size, nlink=now.nlink)
        if in_part:
            # The rest was not read, so the next compare reads the whole file.
            seen = seen._replace(ctime_ns=self.row.ctime_ns)
        return seen, meta_of(now, self.open_file.xattrs())

    def put_row(self, seen: Entry) -> Row:
        """Notes in the catalog that it was sent in the state `seen`."""
        catalog = self._source.catalog
        catalog.digests.cut(self.row.key, seen.size)
        row = catalog.objects.put(self.place, seen, reserved=self.row if self.is_new else None)
        self.is_new = False
        return row

    def close(self) -> None:
        """Closes it; a row that still has no name is removed from the catalog."""
        if self._file is not None:
            self._file.close()
        if self.is_new and self._row is not None:
            self._source.catalog.digests.drop(self._row.key)
            self._row = None


def _state(entry: Entry) -> tuple[int, ...]:
    return entry.ino, entry.dev, entry.size, entry.mtime_ns, entry.ctime_ns
