"""Sends the changes of an object that the catalog has at the same place."""

from __future__ import annotations

import stat

from i2core.api import BLOCK_BYTES, Kind, Place, Record
from i2core.api.blockmap import BlockMap
from i2core.api.tree import OpenFile
from i2core.rule.catalog.rows import Row
from i2core.rule.live.found import Found
from i2core.rule.live.make import Maker
from i2core.rule.live.output import Output
from i2core.rule.live.shared_objects import SharedObjects, has_names
from i2core.rule.live.unpinned import Unpinned
from i2core.rule.live.unproven import Unproven
from i2core.rule.source.draft import Large, attributes_record, meta_of, piece_records, setattr_record
from i2core.rule.source.scan import scan
from i2core.rule.source.source import Source
from i2core.wire.message_size import PIECE_BYTES, WHOLE_BYTES

Ranges = list[tuple[int, int]]
"""The only byte ranges (first, end) of a file that changed."""


class Updater:
    """Sends the changes of an object."""

    def __init__(
        self,
        source: Source,
        output: Output,
        shared: SharedObjects,
        maker: Maker,
        unproven: Unproven,
        unpinned: Unpinned,
    ) -> None:
        self._source = source
        self._output = output
        self._shared = shared
        self._maker = maker
        self._unproven = unproven
        self._unpinned = unpinned

    def update(self, found: Found, row: Row, *, content: bool, ranges: Ranges | None) -> None:
        """`content`: it may have changed, whatever size and time say; `ranges`: there and nowhere else."""
        directory, place, entry = found
        self._unpinned.seen(place, row.flags, entry.flags)
        regular, is_dir = stat.S_ISREG(entry.mode), stat.S_ISDIR(entry.mode)
        if has_names(entry) and (content or row.ctime_ns != entry.ctime_ns):
            row = self._shared.join(place, row)
        if regular and not row.same_storage(entry):
            self._maker.make(found)
        elif regular and (content or not row.same_content(entry)):
            self._patch(found, row, ranges if content else None)
        elif row.ctime_ns == entry.ctime_ns and row.same_meta(entry):
            return
        elif not (regular or is_dir) and (row.unverified or not row.same_subject(entry)):
            # A symlink or a device cannot be changed, only created again; and it often gets the previous one's inode.
            self._maker.make(found)
        else:
            if not row.same_meta(entry):
                self._output.emit(place, setattr_record(directory, place, entry, row))
            noted = self._shared.note(place, entry)
            if regular:
                self._unproven.leave(noted, row.ctime_ns)

    def _patch(self, found: Found, row: Row, ranges: Ranges | None) -> None:
        """A regular file whose content may have changed."""
        directory, place, entry = found
        digests = self._source.catalog.digests
        if entry.size <= BLOCK_BYTES and entry.nlink == 1:
            self._maker.make(found)
            return
        touched = entry.size if ranges is None else sum(end - first for first, end in ranges)
        unknown = entry.size > PIECE_BYTES and not digests.known(row.key)
        if touched > WHOLE_BYTES or unknown:
            # Wherever it has moved when its transfer begins, a check there must find that its content may differ.
            self._source.catalog.doubts.distrust(row, digests=True)
            self._maker.send_in_slices(Large(place, entry, whole=False))
            return
        with directory.open(entry.name) as file:
            self._source.name_flags(place, file)
            now = file.as_opened(entry.xattrs, entry.flags)
            records, read = self._differing(file, place, row, now.size, ranges)
            meta = meta_of(now, file.xattrs())
        # After the last call that may fail, since digests say what was sent. If they were noted earlier, a file that
        # could not be read to its end would count as sent as far as it was read, and that part would never be sent.
        for block, hashes in read:
            if digests.known(row.key) >= block:
                digests.put(row.key, block, hashes)
        digests.cut(row.key, now.size)
        if records or now.size != row.size:
            records.append(Record(Kind.TRUNCATE, place.root, place.path, size=now.size))
        if records or not row.same_meta(now):
            records.append(attributes_record(place, meta, row))
            self._output.emit(place, *records)
            self._source.status.sent_files += 1
        noted = self._shared.note(place, now)
        if ranges is not None:
            self._unproven.leave(noted, row.ctime_ns)  # the rest was not read

    def _differing(
        self, file: OpenFile, place: Place, row: Row, size: int, ranges: Ranges | None
    ) -> tuple[list[Record], list[tuple[int, BlockMap]]]:
        """Records of the blocks that differ from what was sent; the digests of all blocks read; the first of these
        blocks."""
        records: list[Record] = []
        read: list[tuple[int, BlockMap]] = []
        for first, end in ranges or [(0, size)]:
            start = first // BLOCK_BYTES * BLOCK_BYTES
            stop = min(-(-end // BLOCK_BYTES) * BLOCK_BYTES, size)
            block = start // BLOCK_BYTES
            base = self._source.catalog.digests.get(row.key, block, max(1, (stop - start) // BLOCK_BYTES + 1))
            scanned = scan(file, start, stop, base or BlockMap())
            records += piece_records(place, scanned, there=row)
            read.append((block, scanned.blocks))
        return records, read
