"""Sets the metadata of objects at the end of a record.

An attribute that cannot be set does not undo the content, since content without an attribute is better than none. The
error is kept, and raised when the record is done (`Settler.raise_late`).
"""

from __future__ import annotations

import os
import stat

from i2_sink_fs.attributes import NoRoomForAttribute
from i2_sink_fs.directories import Directories
from i2_sink_fs.keeping import Keeper
from i2_sink_fs.kept import Kept
from i2_sink_fs.left import is_foreign
from i2_sink_fs.locating import Locator
from i2_sink_fs.locks import Unlocked
from i2_sink_fs.open_directories import Directory
from i2_sink_fs.outcome import Drift
from i2_sink_fs.paths import proc_path
from i2core.api import Meta, Place, Record
from i2core.posix.opening import OBJECT


class Settler:
    """Sets metadata for the records of one batch."""

    def __init__(
        self, directories: Directories, locator: Locator, keeper: Keeper, kept: Kept, unlocked: Unlocked
    ) -> None:
        self._directories = directories
        self._locator = locator
        self._keeper = keeper
        self._kept = kept
        self._attributes = kept.attributes
        self._flags = kept.flags
        self._left = kept.left
        self._unlocked = unlocked
        self._late: Exception | None = None

    def setattr(self, record: Record) -> None:
        """`Kind.SETATTR`."""
        if record.meta is None:
            raise ValueError("the record holds no attributes")
        directory, name = self._locator.at(record.root, record.path)
        self.settle_object(directory, name, record, fresh=False)

    def settle(self, target: int | bytes, found: os.stat_result, meta: Meta, record: Record, *, fresh: bool) -> None:
        """Gives an object, now `found`, its metadata; `target` and `fresh` as in `Attributes.settle`."""
        place = os.fsdecode(record.path)
        if fresh:
            self._kept.torn.discard(found)
        try:
            self._flags.settle(target, found, meta.flags, place)
            self._attributes.settle(target, found, meta, place, fresh=fresh)
        except (OSError, NoRoomForAttribute, OverflowError) as error:
            self._late = error
        self._unlocked.settled(found)

    def settle_object(self, directory: Directory, name: bytes, record: Record, *, fresh: bool) -> None:
        """Sets the metadata of an object without opening it for reading or writing.

        Raises:
            Drift: it is not the object that the record is about.
        """
        meta = record.meta
        if meta is None and not (fresh and self._keeper.wants_made):
            return
        fd = os.open(name, OBJECT, dir_fd=directory.fd)
        try:
            found = os.fstat(fd)
            if fresh:
                self._keeper.note_made(fd, found)
            if meta is None:
                return
            if stat.S_IFMT(found.st_mode) != stat.S_IFMT(meta.mode):
                raise Drift("an object of another type is here")
            if not fresh and record.path:  # the root itself is checked each time that it is opened
                self._check(directory, record, meta, fd, found)
            self.settle(proc_path(fd), found, meta, record, fresh=fresh)
            changed = (found.st_uid, found.st_mode) != (meta.uid, meta.mode)
            if changed and not fresh and stat.S_ISDIR(found.st_mode):
                self._directories.forget(record.root, record.path)  # it may not be guarded any more
        finally:
            os.close(fd)

    def _check(self, directory: Directory, record: Record, meta: Meta, fd: int, found: os.stat_result) -> None:
        """Checks that an open object may get these attributes.

        Raises:
            Drift: it is not the object that the record is about.
        """
        if stat.S_ISDIR(found.st_mode):
            self._directories.check(record.root, record.path, fd)
            return
        self._kept.torn.check(found)
        self._left.check(Place(record.root, record.path), fd, found)
        strange = is_foreign(found, record, meta, self._kept.owners(record.root, directory))
        if strange and not self._directories.guarded(record.root, record.path.rpartition(b"/")[0]):
            raise Drift("the object here belongs to another user, who may have created it")

    def forget_late(self) -> None:
        """Forgets the error of an earlier attempt: a record begins, or begins again. Example: if the owner of a staged
        file cannot be set, and the file then cannot take its name, only the second error is reported."""
        self._late = None

    def raise_late(self) -> None:
        """Raises the error that its metadata met, now that the record is done.

        Raises:
            OSError, NoRoomForAttribute, OverflowError: something could not be set.
        """
        if self._late is not None:
            raise self._late


def bits_for_all(meta: Meta | None) -> int:
    """The permissions that an object may have before its owner, attributes and final mode are set: those that everybody
    has in the end. Group permissions could otherwise apply to members of the directory's group who are not in the
    object's."""
    if meta is None or meta.xattrs:
        return 0
    bits = meta.mode >> 3 & meta.mode & 0o7
    return bits << 3 | bits
