"""Changes the content of files: in place, or in a staging file that is published when it is complete."""

from __future__ import annotations

import os
import stat

from i2_sink_fs.content import punch
from i2_sink_fs.directories import Directories
from i2_sink_fs.keeping import Keeper
from i2_sink_fs.kept import Kept
from i2_sink_fs.left import check_patch
from i2_sink_fs.locating import Locator
from i2_sink_fs.open_directories import Directory
from i2_sink_fs.outcome import Drift
from i2_sink_fs.paths import IllegalPath
from i2_sink_fs.placing import Placer
from i2_sink_fs.settling import Settler
from i2_sink_fs.staging import Staging
from i2core.api import Meta, Place, Record
from i2core.posix.durable import write_all
from i2core.posix.errnos import PASSING

# O_NONBLOCK: a FIFO that another user has put there must not block the rule.
_IN_PLACE = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class FileWriter:
    """Carries out the records that change a file's content. One file stays open for a run of records on it."""

    def __init__(
        self,
        directories: Directories,
        locator: Locator,
        placer: Placer,
        settler: Settler,
        staging: Staging,
        keeper: Keeper,
        kept: Kept,
    ) -> None:
        self._directories = directories
        self._locator = locator
        self._placer = placer
        self._settler = settler
        self._staging = staging
        self._keeper = keeper
        self._kept = kept
        self._left = kept.left
        self._file: int = -1
        self._file_key: tuple[int, bytes, bool] | None = None

    def stage(self, record: Record) -> None:
        """`Kind.STAGE`."""
        self._locator.locate(record.root, record.path)
        place, again = Place(record.root, record.path), record.size == 1
        if again:
            self._staged(place)
        self._staging.stage(place, again=again)
        if record.meta is None and self._kept.torn.is_empty:
            return
        fd, status = _open_regular(*self._staged(place))
        try:
            if not again:
                self._kept.torn.discard(status)  # a new file, with an inode number that may have been used before
            if record.meta is not None:
                self._kept.flags.begin(fd, record.meta.flags)
        finally:
            os.close(fd)

    def write(self, record: Record) -> None:
        """`Kind.WRITE`."""
        write_all(self._open(record), record.data, record.offset)

    def punch(self, record: Record) -> None:
        """`Kind.PUNCH`."""
        punch(self._open(record), record.offset, record.size)

    def truncate(self, record: Record) -> None:
        """`Kind.TRUNCATE`."""
        os.ftruncate(self._open(record), record.size)

    def publish(self, record: Record) -> None:
        """`Kind.PUBLISH`."""
        directory, name = self._locator.locate(record.root, record.path)
        place = Place(record.root, record.path)
        staged = self._staged(place)
        self._left.forget(place)
        fd, status = _open_regular(*staged)
        try:
            self._kept.torn.check(status)
            os.ftruncate(fd, record.size)
            if record.meta is not None:
                self._settler.settle(fd, os.fstat(fd), record.meta, record, fresh=True)
            self._keeper.note_made(fd, status)
        finally:
            os.close(fd)
        # If this fails the staging file stays, and a repeated record publishes it.
        self._placer.move(*staged, directory, name, place)
        self._staging.published(place)

    def note_torn(self, record: Record) -> None:
        """The record has failed: the content of its file is not as the source has it.

        Raises:
            OSError: one that passes.
        """
        try:
            directory, name = self._locator.locate(record.root, record.path)
            fd, name = self._staged(Place(record.root, record.path)) if record.staged else (directory.fd, name)
            # Not opened: perhaps that is what has failed, as for a program that is running.
            self._kept.torn.add(os.stat(name, dir_fd=fd, follow_symlinks=False))
        except (IllegalPath, Drift):
            return
        except OSError as error:
            if error.errno in PASSING:
                raise

    def leave(self) -> None:
        """Closes the file that is open."""
        if self._file_key is not None:
            os.close(self._file)
            self._file_key = None

    def _open(self, record: Record) -> int:
        """The staging file for a staged record, else the file itself."""
        key = (record.root, record.path, record.staged)
        if key == self._file_key:
            return self._file
        self.leave()
        directory, name = self._locator.locate(record.root, record.path)
        place = Place(record.root, record.path)
        if record.staged:
            fd, _ = _open_regular(*self._staged(place))
        else:
            fd = self._open_left(directory, name, place, record.meta)
        self._file, self._file_key = fd, key
        return fd

    def _staged(self, place: Place) -> tuple[int, bytes]:
        """The directory that holds the staging file of `place`, and the name there.

        A record that is repeated may find its file published already. Nothing shows that: the file at `place` may be an
        older one, whose blocks between the sent ones would stay, under the new size and time. So it is compared.

        Raises:
            Drift: there is no staging file.
        """
        staged = self._staging.staged(place)
        if staged is None:
            raise Drift("the staging file is missing here")
        return staged

    def _open_left(self, directory: Directory, name: bytes, place: Place, expected: Meta | None) -> int:
        """The file that this sink has left at `place`, for writing.

        Raises:
            Drift: there is none, or another object.
        """
        fd, status = _open_regular(directory.fd, name)
        try:
            self._left.check(place, fd, status)
            above = place.path.rpartition(b"/")[0]
            if expected is not None and not self._directories.guarded(place.root, above):
                modes = self._kept.traits(place.root, directory).modes
                check_patch(status, expected, self._kept.owners(place.root, directory), modes=modes)
            self._left.note(place, fd, status)
        except BaseException as error:
            os.close(fd)
            if isinstance(error, Drift):
                self._left.doubt(place)
            raise
        return fd


def _open_regular(dir_fd: int, name: bytes) -> tuple[int, os.stat_result]:
    """A regular file for writing, and its state. Its type is checked before it is opened: opening a device can already
    act on it.

    Raises:
        Drift: there is none of that name.
    """
    try:
        if not stat.S_ISREG(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode):
            raise Drift("an object of another type is here")
        fd = os.open(name, _IN_PLACE, dir_fd=dir_fd)
    except FileNotFoundError as error:
        raise Drift("the file is missing here") from error
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):  # swapped between the two calls
        os.close(fd)
        raise Drift("an object of another type is here")
    return fd, status
