"""Copies an object with all beneath it to another file system: content with its holes, all attributes, hard links
within it as one object. A name outside of it that the object has as well stays with the old one."""

from __future__ import annotations

import os
import stat

from i2_sink_fs.kept import Kept
from i2_sink_fs.paths import proc_path
from i2_sink_fs.present.objects import Spot, meta_of, open_content, opened, set_meta
from i2_sink_fs.system import rename_new
from i2core.api.changes import join
from i2core.api.content import extents
from i2core.posix.durable import write_all
from i2core.posix.file import LocalContent
from i2core.posix.opening import DIRECTORY, NEW_FILE, READABLE
from i2core.posix.removal import remove
from i2core.posix.syscalls import open_beneath

_PIECE = 1 << 20


def copy_durably(fd: int, goal: Spot, passing: int, kept: Kept) -> None:
    """Copies an open object to a name on another file system, durably. Whatever a power cut leaves: if something has
    the name, it is all of the object. `passing`: an open directory on the file system of the goal, in which the copy
    is made. The file system is held (`Volumes`).

    Raises:
        OSError: it cannot be read or written, or something has the name.
        StopRule: the file system cannot write what it has promised.
    """
    unfinished, device = Spot(passing, kept.names.copy), {os.fstat(goal.fd).st_dev}
    remove(*unfinished, kept.flags)  # left by one that was cut off
    _Copier(fd, unfinished, kept).copy()
    kept.volumes.sync(device)
    rename_new(*unfinished, *goal)
    kept.volumes.sync(device)


class _Copier:
    """Copies one object. A few descriptors at a time, however deep the tree is; memory grows with the number of
    directories, and of files with several names."""

    def __init__(self, source: int, spot: Spot, kept: Kept) -> None:
        """`source`: the open object; `spot`: a name that nothing has, in an open directory."""
        self._source, self._spot, self._kept = source, spot, kept
        self._first: dict[tuple[int, int], bytes] = {}
        """The path of the copy of an object with several names."""
        self._directories: list[bytes] = []

    def copy(self) -> None:
        """Makes the copy. What was cut off is left where it is.

        Raises:
            OSError: it cannot be read or written.
        """
        self._copy_object(self._source, self._spot, b"")
        for path in self._directories:  # grows as it goes
            self._copy_names(path)
        for path in reversed(self._directories):  # now, for a directory's time is that of the last name in it
            with_attributes = open_beneath(self._source, path, DIRECTORY) if path else os.dup(self._source)
            try:
                self._copy_meta(with_attributes, self._in_copy(path))
            finally:
                os.close(with_attributes)

    def _copy_names(self, path: bytes) -> None:
        source = open_beneath(self._source, path or b".", READABLE)
        try:
            target = self._in_copy(path)
            try:
                for name in os.listdir(proc_path(source)):
                    fd = opened(Spot(source, name))
                    if fd is not None:
                        try:
                            self._copy_object(fd, Spot(target, name), join(path, name))
                        finally:
                            os.close(fd)
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _copy_object(self, source: int, spot: Spot, path: bytes) -> None:
        status = os.fstat(source)
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(spot.name, 0o700, dir_fd=spot.fd)
            self._directories.append(path)
            return
        if status.st_nlink > 1:
            first = self._first.setdefault((status.st_dev, status.st_ino), path)
            if first != path:
                self._link(first, spot)
                return
        if stat.S_ISREG(status.st_mode):
            self._copy_content(source, spot)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(b"", dir_fd=source), spot.name, dir_fd=spot.fd)
        else:
            os.mknod(spot.name, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=spot.fd)
        made = opened(spot)
        if made is None:
            raise FileNotFoundError(spot.name)
        self._copy_meta(source, made)

    def _link(self, first: bytes, spot: Spot) -> None:
        above, _, name = first.rpartition(b"/")
        directory = self._in_copy(above)
        try:
            os.link(name, spot.name, src_dir_fd=directory, dst_dir_fd=spot.fd, follow_symlinks=False)
        finally:
            os.close(directory)

    def _copy_meta(self, source: int, made: int) -> None:
        """Closes `made`."""
        try:
            set_meta(made, meta_of(source, os.fstat(source), flags=self._kept.flags.on), self._kept)
        finally:
            os.close(made)

    def _in_copy(self, path: bytes) -> int:
        """The copy of the directory at the path, open."""
        return open_beneath(self._spot.fd, join(self._spot.name, path).rstrip(b"/"), DIRECTORY)

    @staticmethod
    def _copy_content(source: int, spot: Spot) -> None:
        target = os.open(spot.name, NEW_FILE, 0o600, dir_fd=spot.fd)
        try:
            fd = open_content(source)
            try:
                size, content = os.fstat(fd).st_size, LocalContent(fd)
                for start, end, data in extents(content, 0, size):
                    for at in range(start, end if data else start, _PIECE):
                        write_all(target, content.read(at, min(_PIECE, end - at)), at)
            finally:
                os.close(fd)
            os.ftruncate(target, size)
        finally:
            os.close(target)
