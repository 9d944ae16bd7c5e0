"""The directories beneath a root that one call of the sink has opened. Each is the one that was left at its path.

Directory fds are kept for one call of the sink only. Between two calls another user may replace a directory by a
symlink, and a kept fd would write to wherever the directory was moved. Within a call, the sink's own renames and
removals close the fds of what they touch.

A local user can exchange directories between two calls, or put one of his own in the place of another. Such a directory
counts as missing (`Exchanged`): nothing is made or removed in it, and it is reported as missing when it is asked for.
So a compare has it made again (MKDIR), with all beneath it. What becomes of it then depends on who can have put it
there (`may_be_foreign`): a user's is replaced by an empty one, an administrator's is accepted, and compared.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Self

from i2_sink_fs.known import Identity, KnownDirectories
from i2_sink_fs.paths import IllegalPath, check_name, open_directory
from i2_sink_fs.roots import Roots
from i2core.api import Place
from i2core.posix.descriptors import may_keep
from i2core.posix.opening import DIRECTORY
from i2core.posix.syscalls import is_mount_root, open_beneath

_CACHED_DIRS = 256
"""About so many directory fds are kept open in one call; fewer if the process may have few."""
_NEAR = 4
"""An open directory is searched at most so many levels above."""


class Exchanged(NotADirectoryError):
    """Another directory is in the place of the right one. An OSError, as for any other object there."""

    def __init__(self, path: bytes) -> None:
        super().__init__(errno.ENOTDIR, "another directory was put in its place", path)


class Directory(NamedTuple):
    """An open directory. `guarded`: no user but root and this process's can give names in it."""

    fd: int
    device: int
    guarded: bool


class Directories:
    """The directories that one call of the sink has opened, by root and path. A context manager: closes them.

    `reserved` has for each root the names that no path may hold: the sink's own."""

    def __init__(
        self, roots: Roots, reserved: Sequence[frozenset[bytes]], known: KnownDirectories | None = None
    ) -> None:
        """`known`: which directories are the right ones; None: each is, whatever it is."""
        self._roots = roots
        self.reserved = reserved
        self._known = known
        self._open: dict[int, dict[bytes, Directory]] = {}
        self._entered: dict[int, dict[bytes, Directory]] = {}
        """The same, of what is the sink's own."""
        self._sheltered: dict[tuple[int, bytes], bool] = {}
        """The answers of `sheltered` so far."""
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

    def find(self, root: int, path: bytes, *, compares: bool = False) -> Directory:
        """The directory at `path` beneath the root, as `open_directory` and `Roots.open` find it. `compares`: it is
        asked for to be compared with all beneath it.

        Raises:
            Exchanged: it is not the one that was left there.
        """
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
        fd = open_directory(near.fd, name, self.reserved[root])
        try:
            self.check(root, path, fd, compares=compares)
        except BaseException:
            os.close(fd)
            raise
        return self._hold(self._open, root, path, fd)

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

    # ------------------------------------------------------------------------------------------- the right ones

    def check(self, root: int, path: bytes, fd: int, *, compares: bool = False) -> None:
        """Called with the directory that was found at `path`. One that was never met is taken as it is; with `compares`
        also one that no local user can have put there.

        Raises:
            Exchanged: it is not the one that was left there.
        """
        known = self._known
        if known is None:
            return
        there = known.get(self._roots.paths[root], path)
        if there is None:
            self._meet(known, root, path, fd)
        elif there != Identity.of(fd):
            if not compares or self.may_be_foreign(root, path, fd):
                raise Exchanged(path)
            self.accept(root, path, fd)

    def _meet(self, known: KnownDirectories, root: int, path: bytes, fd: int) -> None:
        """Notes a directory that was never met, and those on the way to it."""
        base = self._roots.paths[root]
        unmet = known.unmet(base, path)
        if unmet and not unmet[0]:
            known.put(base, b"", Identity.of(self.find(root, b"").fd))
            del unmet[0]
        if len(unmet) > 1:
            above = os.dup(self.find(root, unmet[0].rpartition(b"/")[0]).fd)
            for each in unmet[:-1]:
                try:
                    deeper = os.open(each.rpartition(b"/")[2], DIRECTORY, dir_fd=above)
                finally:
                    os.close(above)
                above = deeper
                known.put(base, each, Identity.of(above))
            os.close(above)
        known.put(base, path, Identity.of(fd))

    def vouches(self, above: Directory, root: int, path: bytes, *, compares: bool) -> bool:
        """True when the directory at `path`, in the open one above it, can be found, as by `find`."""
        if not self.is_met(root, path):
            return True
        try:
            fd = os.open(path.rpartition(b"/")[2], DIRECTORY, dir_fd=above.fd)
        except OSError:  # changed meanwhile, or no permission
            return True
        try:
            right = self.is_right(root, path, fd)
            return right or (compares and not self.may_be_foreign(root, path, fd))
        finally:
            os.close(fd)

    def is_met(self, root: int, path: bytes) -> bool:
        """True when it is known which directory is the right one at `path`."""
        return self._known is not None and self._known.get(self._roots.paths[root], path) is not None

    def is_right(self, root: int, path: bytes, fd: int) -> bool:
        """True when the open directory is the one that was left at `path`, or none was met there."""
        there = None if self._known is None else self._known.get(self._roots.paths[root], path)
        return there is None or there == Identity.of(fd)

    def accept(self, root: int, path: bytes, fd: int) -> None:
        """The open directory is the right one at `path` from now on. Nothing is known of what is beneath it."""
        if self._known is not None:
            self._known.put(self._roots.paths[root], path, Identity.of(fd), new=True)

    def moved(self, root: int, old: bytes, new: bytes) -> None:
        """A directory has got another name."""
        self.forget(root, old)
        if self._known is not None:
            self._known.move(self._roots.paths[root], old, new)

    def gone(self, root: int, path: bytes) -> None:
        """A directory was removed, with all beneath it; of a root itself, all beneath it."""
        self.forget(root, path)
        if self._known is not None:
            self._known.drop(self._roots.paths[root], path)

    def may_be_foreign(self, root: int, path: bytes, fd: int) -> bool:
        """True when a local user may have put the open directory at `path`: somewhere above it he can rename what is
        there, and he cannot have mounted it."""
        return not self.guarded(root, path.rpartition(b"/")[0]) and not is_mount_root(fd)

    def guarded(self, root: int, path: bytes) -> bool:
        """True when no user but root and this process's can have given a name in the directory at `path`, neither there
        nor by putting another directory in its place."""
        return self.find(root, path).guarded and self.sheltered(root, path)

    def sheltered(self, root: int, path: bytes) -> bool:
        """True when each directory above `path` is guarded. Asked from the root downwards: what lies beneath a
        directory of another user may be exchanged at any moment, and is not asked."""
        if not path:
            return True
        known = self._sheltered.get((root, path))
        if known is None:
            above = path.rpartition(b"/")[0]
            higher = self._sheltered.get((root, above)) if above else True
            open_above = self._open.get(root, {}).get(above)
            if higher is None or open_above is None:
                known = self._is_sheltered(root, path)
            else:  # so a chain of directories costs as much as its levels
                known = higher and open_above.guarded
            self._sheltered[root, path] = known
        return known

    def _is_sheltered(self, root: int, path: bytes) -> bool:
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
        self._sheltered.clear()
        beneath = path + b"/"
        for known in (self._open.get(root), self._entered.get(root)):
            if known:
                for stale in [p for p in known if not path or p == path or p.startswith(beneath)]:
                    os.close(known.pop(stale).fd)
                    self._count -= 1
