"""Creates an object that is new at a place, or removes one that is gone."""

from __future__ import annotations

import stat

from i2core.api import Kind, Place, Record
from i2core.rule.catalog.rows import Depth, Row
from i2core.rule.live.directories import Directories
from i2core.rule.live.found import Found
from i2core.rule.live.in_transit import InTransit
from i2core.rule.live.output import Output
from i2core.rule.live.shared_objects import SharedObjects, has_names
from i2core.rule.live.walks import Walks
from i2core.rule.source.draft import Large, draft
from i2core.rule.source.source import Source


class Maker:
    """Creates and removes objects on the replica."""

    def __init__(
        self,
        source: Source,
        output: Output,
        directories: Directories,
        shared: SharedObjects,
        walks: Walks,
        in_transit: InTransit,
    ) -> None:
        self._source = source
        self._output = output
        self._directories = directories
        self._shared = shared
        self._walks = walks
        self._in_transit = in_transit

    def make(self, found: Found) -> None:
        """Creates a new object. It replaces whatever the replica has at this place."""
        directory, place, entry = found
        drafted = draft(directory, place, entry, self._source.name_flags)
        self._directories.touch(place)
        if isinstance(drafted, Large):
            self.send_in_slices(drafted)
            return
        catalog, is_dir = self._source.catalog, stat.S_ISDIR(entry.mode)
        self._source.status.sent_files += not is_dir
        row = catalog.objects.put(place, drafted.entry, alone=True)
        self._output.emit(place, *drafted.records, depth=Depth.SUBTREE if is_dir else Depth.NAME, row=row)
        catalog.digests.drop(row.key)
        if drafted.digests:
            catalog.digests.put(row.key, 0, drafted.digests)
        if has_names(drafted.entry):
            row = self._shared.join(place, catalog.names.share(row))
            self._shared.look_at_others(row, drafted.entry)
        if is_dir:
            # Its entries may have been created before the directory was watched; then nothing reports them.
            self._walks.soon(place)

    def send_in_slices(self, large: Large) -> None:
        """Has the file sent between the jobs, so that a huge file does not delay other changes."""
        self._output.send_in_slices(large, walked=self._walks.stepping)

    def remove(self, place: Place, row: Row) -> None:
        """The source no longer has what was sent for `place`."""
        objects = self._source.catalog.objects
        files = objects.count_files(row)
        depth = Depth.REPLACED if stat.S_ISDIR(row.mode) else Depth.NAME
        self._output.emit(place, Record(Kind.REMOVE, place.root, place.path, size=files), depth=depth)
        self._directories.touch(place)
        self._in_transit.drop(row)
        objects.remove(row)
