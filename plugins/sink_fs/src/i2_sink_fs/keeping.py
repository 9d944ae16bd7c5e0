"""Hands over whole what records destroy, for the history of a replica: `Batch.keeps`.

At every moment an object that is to be kept has its own name, or its number in the store: whatever a crash leaves, the
history finds it there. So nothing is exchanged with renameat2(2), which puts the old object where the new one was made,
or under the old name of a rename. These are the steps instead:

    a file, a symlink, …     link(2) into the store, then rename(2) of the new object over it: a reader sees the one or
                             the other
    a directory              rename(2) into the store; its name is free for a moment. On the source, too, a directory
                             cannot be replaced in one step, except by another one while it is empty
    on another file system   a copy, durable, into the store; then it is removed or replaced as without a history

An object whose number the store has was kept by an earlier application of the record; what has its name now is what
that one made, and is replaced by the same again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping

from i2_sink_fs.kept import Kept
from i2_sink_fs.locating import Locator
from i2_sink_fs.open_directories import Directory
from i2_sink_fs.paths import exists, mode_of
from i2_sink_fs.present.copying import copy_durably
from i2_sink_fs.present.objects import Spot, opened
from i2_sink_fs.present.stores import Stores
from i2_sink_fs.progress import Progress
from i2_sink_fs.system import rename_new
from i2core.posix.removal import remove

_ONE_NAME = (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK)
"""The object can have no second name: it is a directory, or the file system has no hard links."""


class Keeper:
    """For one batch."""

    def __init__(self, locator: Locator, kept: Kept, stores: Callable[[], Stores]) -> None:
        """`stores`: those of the replica; asked for when a first object is to be kept."""
        self._locator = locator
        self._kept = kept
        self._stores = stores
        self._progress: Progress | None = None
        self._keeps: Mapping[bytes, int] = {}
        self._copied: Spot | None = None
        """What was copied for the current record."""

    def begin(self, progress: Progress) -> None:
        """The next record begins, or begins again."""
        self._progress = progress if progress.keeps is not None else None
        self._keeps = progress.keeps or {}
        self._copied = None

    @property
    def paths(self) -> Collection[bytes]:
        """The paths of what the record must keep."""
        return self._keeps

    def note_made(self, fd: int, status: os.stat_result) -> None:
        """The record has made this open object, which is now `status`."""
        if self._progress is not None:
            self._progress.made[self._progress.seq] = self._kept.identity(fd, status)

    @property
    def wants_made(self) -> bool:
        """`note_made` does something."""
        return self._progress is not None

    # ------------------------------------------------------------------------------------------- keeping

    def links(self, directory: Directory, name: bytes, path: bytes) -> bool:
        """Makes sure that the object with this name and path is not lost when another one takes the name; False if it
        has to be taken from there before (`take`).

        Raises:
            OSError: it cannot be kept.
            StopRule: the store is gone.
        """
        number = self._keeps.get(path)
        if number is None:
            return True
        for goal in self._goals(directory, number):
            try:
                os.link(name, goal.name, src_dir_fd=directory.fd, dst_dir_fd=goal.fd, follow_symlinks=False)
            except FileExistsError:
                return True
            except FileNotFoundError:
                self._check_missing(directory, name)
                return True
            except OSError as error:
                if error.errno in _ONE_NAME:
                    return False
                if error.errno != errno.EXDEV:
                    raise
            else:
                return True
        return False

    def take(self, directory: Directory, name: bytes, path: bytes) -> bool | None:
        """Moves the object with this name and path into the store, if it is to be kept. None: it is still there, and is
        not needed any more; else whether it was a directory.

        Raises:
            OSError: it cannot be moved.
            StopRule: the store is gone, or it is on another file system that cannot write.
        """
        number = self._keeps.get(path)
        if number is None:
            return None
        goal = Spot(-1, b"")
        for goal in self._goals(directory, number):
            try:
                rename_new(directory.fd, name, *goal)
            except FileExistsError:
                return None
            except FileNotFoundError:
                self._check_missing(directory, name)
                return False
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
            else:
                return stat.S_ISDIR(mode_of(*goal))
        self._copy(Spot(directory.fd, name), goal)
        return None

    def give_back(self, directory: Directory, name: bytes, path: bytes) -> None:
        """The record fails, and nothing else has taken the name: the object stays what it was."""
        number = self._keeps.get(path)
        if number is None:
            return
        with contextlib.suppress(OSError):  # then the history finds out where it is
            for goal in self._goals(directory, number):
                there, kept = _status(directory.fd, name), _status(*goal)
                if kept is not None and there is None:
                    rename_new(*goal, directory.fd, name)
                elif kept is not None and there is not None and os.path.samestat(there, kept):
                    os.unlink(goal.name, dir_fd=goal.fd)
            if self._copied is not None and exists(directory.fd, name):
                remove(*self._copied, self._kept.flags)

    def _goals(self, directory: Directory, number: int) -> Iterator[Spot]:
        """Where the number can be: in the store that usually serves this file system, then (after EXDEV) in that of the
        very mount."""
        stores = self._stores()
        serving = stores.serving(directory)
        self._locator.touch(serving)
        yield Spot(serving.fd, b"%d" % number)
        exact = stores.exactly(directory)
        if exact.fd != serving.fd:
            self._locator.touch(exact)
            yield Spot(exact.fd, b"%d" % number)

    def _check_missing(self, directory: Directory, name: bytes) -> None:
        """Nothing has the name: or is it the store that is missing?

        Raises:
            StopRule: it is.
            OSError: EAGAIN, something has just got the name.
        """
        if exists(directory.fd, name):
            self._stores().verify()
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), name)

    def _copy(self, spot: Spot, goal: Spot) -> None:
        fd = None if exists(*goal) else opened(spot)
        if fd is not None:
            try:
                copy_durably(fd, goal, goal.fd, self._kept)
                self._copied = goal
            finally:
                os.close(fd)


def _status(dir_fd: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
