"""The directories beneath a root that one call of the sink has opened.

Directory fds are kept for one call of the sink only. Between two calls another user may replace a directory by a
symlink, and a kept fd would write to wherever the directory was moved. Within a call, the sink's own renames and
removals close the fds of what they touch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Self

from i2_sink_fs.paths import IllegalPath, check_name, open_directory
from i2_sink_fs.roots import Roots
from i2core.api import Place
from i2core.posix.descriptors import may_keep
from i2core.posix.opening import DIRECTORY
from i2core.posix.syscalls import open_beneath

_CACHED_DIRS = 256
"""About so many directory fds are kept open in one call; fewer if the process may have few."""
_NEAR = 4
"""An open directory is searched at most so many levels above."""


class Directory(NamedTuple):
    """An open directory. `guarded`: no user but root and this process's can give names in it."""

    fd: int
    device: int
    guarded: bool


class Directories:
    """The directories that one call of the sink has opened, by root and path. A context manager: closes them.

    `reserved` has for each root the names that no path may hold: the sink's own."""

    def __init__(self, roots: Roots, reserved: Sequence[frozenset[bytes]]) -> None:
        self._roots = roots
        self.reserved = reserved
        self._open: dict[int, dict[bytes, Directory]] = {}
        self._entered: dict[int, dict[bytes, Directory]] = {}
        """The same, of what is the sink's own."""
        self._count = 0
        self._uid = os.geteuid()
        self._most = may_keep(_CACHED_DIRS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes all that is open."""
        for where in (self._open, self._entered):
            for known in where.values():
                for directory in known.values():
                    os.close(directory.fd)
            where.clear()
        self._count = 0

    def trim(self) -> None:
        """Closes all fds when many are open. Only called while no result of `find` is in use: a record needs two
        directories at once, and the number of a closed fd may soon belong to another file."""
        if self._count >= self._most:
            self.close()

    def shown(self, place: Place) -> str:
        """As `Roots.shown`."""
        return self._roots.shown(place)

    def find(self, root: int, path: bytes) -> Directory:
        """The directory at `path` beneath the root, as `open_directory` and `Roots.open` find it."""
        known = self._open.get(root)
        if known is not None:
            directory = known.get(path)
            if directory is not None:
                return directory
        if not path:
            return self._hold(self._open, root, path, self._roots.open(root))
        # From a directory above, if one was found: so a chain of directories costs as much as its levels. The one right
        # above may have been forgotten by the record before, which set its attributes after its entries were made.
        near, name, end = None, path, len(path)
        for _ in range(_NEAR if known else 0):
            end = path.rfind(b"/", 0, end)
            near = None if end <= 0 or known is None else known.get(path[:end])
            if near is not None:
                name = path[end + 1 :]
            if end <= 0 or near is not None:
                break
        near = near or self.find(root, b"")
        return self._hold(self._open, root, path, open_directory(near.fd, name, self.reserved[root]))

    def enter(self, root: int, path: bytes) -> Directory:
        """The directory at `path`, which leads into what is the sink's own: never found by the path of a record.

        Raises:
            OSError: ENOENT, ENOTDIR or ELOOP where no directory is.
        """
        known = self._entered.get(root)
        directory = None if known is None else known.get(path)
        if directory is not None:
            return directory
        return self._hold(self._entered, root, path, open_beneath(self.find(root, b"").fd, path, DIRECTORY))

    def locate(self, root: int, path: bytes) -> tuple[Directory, bytes]:
        """The open directory that holds `path`, and the name in it.

        Raises:
            IllegalPath: no record may use this path.
            OSError: ENOENT, ENOTDIR or ELOOP where no directory is.
        """
        above, slash, name = path.rpartition(b"/")
        if slash and not above:
            raise IllegalPath(f"the path {os.fsdecode(path)!r} is absolute")
        directory = self.find(root, above)
        check_name(name, self.reserved[root])
        return directory, name

    def guarded(self, root: int, path: bytes) -> bool:
        """True when no user but root and this process's can have given a name in the directory at `path`, neither there
        nor by putting another directory in its place."""
        return self.find(root, path).guarded and self.sheltered(root, path)

    def sheltered(self, root: int, path: bytes) -> bool:
        """True when each directory above `path` is guarded. Asked from the root downwards: what lies beneath a
        directory of another user may be exchanged at any moment, and is not asked."""
        if not path:
            return True
        top, end = self.find(root, b""), path.find(b"/")
        guarded = top.guarded
        while guarded and end >= 0:
            try:
                guarded = self._is_guarded(os.stat(path[:end], dir_fd=top.fd, follow_symlinks=False))
            except OSError:  # moved meanwhile, or the path is too long for one call
                guarded = False
            end = path.find(b"/", end + 1)
        return guarded

    def _is_guarded(self, status: os.stat_result) -> bool:
        return status.st_uid in (0, self._uid) and not status.st_mode & 0o022

    def _hold(self, where: dict[int, dict[bytes, Directory]], root: int, path: bytes, fd: int) -> Directory:
        status = os.fstat(fd)
        directory = Directory(fd, status.st_dev, self._is_guarded(status))
        where.setdefault(root, {})[path] = directory
        self._count += 1
        return directory

    def forget(self, root: int, path: bytes) -> None:
        """Closes what is open at and beneath `path`: the name no longer means that directory."""
        beneath = path + b"/"
        for known in (self._open.get(root), self._entered.get(root)):
            if known:
                for stale in [p for p in known if p == path or p.startswith(beneath)]:
                    os.close(known.pop(stale).fd)
                    self._count -= 1
