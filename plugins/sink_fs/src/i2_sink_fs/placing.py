"""Places objects atomically: a reader of the replica sees the old object or the new one, nothing in between.

A new object is created under its own name. A replacement is created in a private directory and renamed over the old
one."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from i2_sink_fs.directories import Directories
from i2_sink_fs.keeping import Keeper
from i2_sink_fs.kept import Kept
from i2_sink_fs.locating import Locator
from i2_sink_fs.open_directories import Directory
from i2_sink_fs.paths import proc_path
from i2_sink_fs.private import Private
from i2_sink_fs.staging import Staging
from i2core.api import Place, Record
from i2core.posix.errnos import GONE, OTHER_TYPE
from i2core.posix.opening import READABLE
from i2core.posix.removal import remove


class InTheWay(OSError):
    """A directory that is not empty has the name."""


class Placer:
    """Places objects for the records of one batch."""

    def __init__(
        self,
        directories: Directories,
        locator: Locator,
        private: Private,
        staging: Staging,
        keeper: Keeper,
        kept: Kept,
        *,
        spares: bool,
    ) -> None:
        """`spares`: as in `SinkContext`."""
        self._keeper = keeper
        self._directories = directories
        self._locator = locator
        self._private = private
        self._staging = staging
        self._new = kept.names.new
        self._left = kept.left
        self._flags = kept.flags
        self._spares = spares

    def install(self, record: Record, make: Callable[[Directory, bytes, Record], None]) -> None:
        """Makes a new object under its name, or out of sight and then in the place of what has the name."""
        directory, name = self._locator.locate(record.root, record.path)
        try:
            make(directory, name, record)
        except FileExistsError:
            self.replace(record, directory, name, lambda home, passing: make(home, passing, record))
        self._staging.drop_stale(Place(record.root, record.path))

    def replace(
        self, record: Record, directory: Directory, name: bytes, make: Callable[[Directory, bytes], None]
    ) -> None:
        """Has `make` create an object in a private directory and renames it to the record's name; removes it on
        failure."""
        root, path = place = Place(record.root, record.path)
        new = self._new[root]
        bases = list(self._private.bases(root, path.rpartition(b"/")[0]))
        for base in bases:
            home = self._private.make(root, base)
            try:
                try:
                    make(home, new)
                except FileExistsError:
                    remove(home.fd, new)  # left by a killed process; it may be a second name of a good file
                    make(home, new)
                self.move(home.fd, new, directory, name, place)
                return
            except OSError as error:
                remove(home.fd, new)
                if error.errno != errno.EXDEV or base == bases[-1]:
                    raise

    def move(self, source_fd: int, old: bytes, target: Directory, new: bytes, place: Place) -> None:
        """rename(2) over whatever is at `place`; a directory, or an object of the other type, is removed before. What
        the history needs is kept.

        Raises:
            InTheWay: a directory that is to be spared is there.
        """
        try:
            if not self._keeper.links(target, new, place.path):
                self._refuse_spared(target, new)
                if self._keeper.take(target, new, place.path):
                    self._gone(place)
            self._rename(source_fd, old, target, new, place)
        except OSError:
            self._keeper.give_back(target, new, place.path)
            raise
        self._directories.forget(*place)

    def _rename(self, source_fd: int, old: bytes, target: Directory, new: bytes, place: Place) -> None:
        try:
            os.rename(old, new, src_dir_fd=source_fd, dst_dir_fd=target.fd)
        except OSError as error:
            if error.errno == errno.EXDEV and self._flags.adopt(source_fd, old, target.fd):
                self._rename(source_fd, old, target, new, place)
                return
            if error.errno not in OTHER_TYPE:
                raise
            self._refuse_spared(target, new)
            if remove(target.fd, new, self._flags):
                self._gone(place)
            os.rename(old, new, src_dir_fd=source_fd, dst_dir_fd=target.fd)

    def _refuse_spared(self, target: Directory, name: bytes) -> None:
        """Raises InTheWay for a directory that is to be spared."""
        if self._spares and _is_full(target.fd, name):
            raise InTheWay(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))

    def _gone(self, place: Place) -> None:
        """The directory at the place is gone, with all beneath it."""
        self._directories.gone(*place)
        self._left.clear()
        self._staging.unstage(place, beneath=True)


def _is_full(dir_fd: int, name: bytes) -> bool:
    """True for a directory that has something in it; nothing is followed."""
    try:
        fd = os.open(name, READABLE, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in GONE:
            return False
        raise
    try:
        with os.scandir(proc_path(fd)) as entries:
            return any(True for _ in entries)
    finally:
        os.close(fd)
