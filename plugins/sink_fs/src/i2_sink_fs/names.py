"""Changes names: further names of a file, renames, removals.

A rename, or a link, whose first name is missing is a failure, whatever has the second name: a compare of that name
finds out what it is. The record may have been applied before (a killed process had not noted it), or the object at the
second name may be any other, even of the same type and size, for example because somebody has changed the replica. The
object does not show which of both it is.
"""

from __future__ import annotations

import os
import stat

from i2_sink_fs.directories import Directories, Exchanged
from i2_sink_fs.keeping import Keeper
from i2_sink_fs.kept import Kept
from i2_sink_fs.locating import Locator, find
from i2_sink_fs.open_directories import Directory
from i2_sink_fs.outcome import Drift
from i2_sink_fs.placing import Placer
from i2_sink_fs.staging import Staging
from i2core.api import Place, Record
from i2core.posix.errnos import GONE
from i2core.posix.opening import READABLE
from i2core.posix.removal import clear, remove


class NameChanger:
    """Carries out the records that change names."""

    def __init__(
        self,
        directories: Directories,
        locator: Locator,
        placer: Placer,
        staging: Staging,
        keeper: Keeper,
        kept: Kept,
    ) -> None:
        self._keeper = keeper
        self._stores = kept.names.store
        self._directories = directories
        self._locator = locator
        self._placer = placer
        self._staging = staging
        self._flags = kept.flags
        self._left = kept.left

    def link(self, record: Record) -> None:
        """`Kind.LINK`."""
        directory, name = self._locator.locate(record.root, record.path)
        there = find(directory, name)
        try:
            source, source_name = self._locator.locate(record.root, record.other)
            old = os.stat(source_name, dir_fd=source.fd, follow_symlinks=False)
        except OSError as error:
            if error.errno not in GONE:
                raise
            raise Drift("the file to link to is missing here") from error
        if stat.S_ISDIR(old.st_mode):
            raise Drift("a directory is here, but the source has a file with two names")
        if there is None:
            os.link(source_name, name, src_dir_fd=source.fd, dst_dir_fd=directory.fd, follow_symlinks=False)
        elif not os.path.samestat(there, old):

            def make(home: Directory, passing: bytes) -> None:
                os.link(source_name, passing, src_dir_fd=source.fd, dst_dir_fd=home.fd, follow_symlinks=False)

            self._placer.replace(record, directory, name, make)

    def rename(self, record: Record) -> None:
        """`Kind.RENAME`."""
        old, new = record.path, record.other
        if old == new:
            return
        if old.startswith(new + b"/") or new.startswith(old + b"/"):
            raise Drift("a directory cannot move into itself", new)
        target, new_name = self._locate_new(record)
        there = find(target, new_name)
        try:
            source, old_name = self._locator.locate(record.root, old)
            found = os.stat(old_name, dir_fd=source.fd, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                self._directories.find(record.root, old)
        except OSError as error:
            if error.errno not in GONE:
                raise
            if there is not None and stat.S_ISDIR(there.st_mode):
                # The rename may have been interrupted before this. Records that follow use the new name.
                self._staging.moved(record.root, old, new)
            raise Drift("the object to rename is missing here", new) from error
        if there is not None and os.path.samestat(there, found):
            os.unlink(old_name, dir_fd=source.fd)  # rename(2) leaves both names of one file
        else:
            self._placer.move(source.fd, old_name, target, new_name, Place(record.root, new))
        if stat.S_ISDIR(found.st_mode):
            self._directories.moved(record.root, old, new)
            self._left.clear()
            self._staging.moved(record.root, old, new)
        else:
            self._left.moved(Place(record.root, old), Place(record.root, new))

    def remove(self, record: Record) -> None:
        """`Kind.REMOVE`: of an object with all beneath it, of what is in a root, or (`staged`) of a staging file."""
        if not record.path and not record.staged:
            self._empty_root(record.root)
            return
        place = Place(record.root, record.path)
        try:
            directory, name = self._locator.locate(*place)
        except OSError as error:
            if error.errno in GONE and not isinstance(error, Exchanged):
                if record.staged:  # also when its directory was removed in another way
                    self._staging.drop(place)
                return
            raise
        if record.staged:
            self._staging.drop(place)
            return
        was_directory = self._keeper.take(directory, name, record.path)
        if was_directory is None:
            was_directory = remove(directory.fd, name, self._flags)
        if was_directory:
            self._directories.gone(*place)
            self._left.clear()
            self._staging.unstage(place)
        self._staging.drop_stale(place)

    def _locate_new(self, record: Record) -> tuple[Directory, bytes]:
        try:
            return self._locator.locate(record.root, record.other)
        except OSError as error:
            if error.errno not in GONE:
                raise
            raise Drift("the directory of the new name is missing here", record.other) from error

    def _empty_root(self, root: int) -> None:
        """The source's top directory is gone: the replica's belongs to the administrator, so it stays, empty."""
        directory = self._locator.top(root)
        self._left.clear()
        for name in self._keeper.paths:
            self._keeper.take(directory, name, name)
        fd = os.open(b".", READABLE, dir_fd=directory.fd)
        try:
            clear(fd, self._flags, spared=self._stores)
        finally:
            os.close(fd)
        self._directories.close()
        self._directories.gone(root, b"")
