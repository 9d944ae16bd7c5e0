"""Removes obstacles for a record: read-only modes, pins, and the project of a directory."""

from __future__ import annotations

import contextlib
import errno

from i2_sink_fs.directories import Directories
from i2_sink_fs.kept import Kept
from i2_sink_fs.locating import Locator
from i2_sink_fs.locks import Unlocked
from i2_sink_fs.paths import IllegalPath
from i2core.api import Kind, Record

_TWO_PATHS = (Kind.RENAME, Kind.LINK)


class Obstacles:
    """What was taken away is put back later: pins after the record (`Flags.restore`), modes after the batch
    (`Unlocked.restore`)."""

    def __init__(self, directories: Directories, locator: Locator, kept: Kept, unlocked: Unlocked) -> None:
        self._directories = directories
        self._locator = locator
        self._attributes = kept.attributes
        self._flags = kept.flags
        self._unlocked = unlocked

    def clear(self, record: Record, error: OSError) -> bool:
        """Removes the obstacle that caused `error`; True when a retry makes sense."""
        if error.errno == errno.EXDEV and record.kind is Kind.LINK:  # `Placer.move` does so for a rename
            source, name = self._locator.at(record.root, record.other)
            return self._flags.adopt(source.fd, name, self._locator.at(record.root, record.path)[0].fd)
        if not isinstance(error, PermissionError):
            return False
        changed = False
        paths = (record.path, record.other) if record.kind in _TWO_PATHS else (record.path,)
        if self._flags.on:
            for path in paths:
                with contextlib.suppress(OSError, IllegalPath):
                    directory, name = self._locator.at(record.root, path)
                    changed |= self._flags.lift(directory.fd, b".") | self._flags.lift(directory.fd, name)
        if self._attributes.owns:
            return changed
        root = self._directories.find(record.root, b"")
        for path in paths:
            changed |= self._unlocked.open_up(root.fd, path)
        return changed
