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
from typing import Self

from i2_sink_fs.known import Identity, KnownDirectories
from i2_sink_fs.open_directories import Directory, OpenDirectories
from i2_sink_fs.paths import IllegalPath, check_name, open_directory
from i2_sink_fs.roots import Roots
from i2_sink_fs.shelter import Shelter
from i2core.api import Place
from i2core.posix.descriptors import may_keep
from i2core.posix.opening import DIRECTORY
from i2core.posix.syscalls import is_mount_root, open_beneath

_CACHED_DIRS = 256
"""About so many directory fds are kept open in one call; fewer if the process may have few."""


class Exchanged(NotADirectoryError):
    """Another directory is in the place of the right one. An OSError, as for any other object there."""

    def __init__(self, path: bytes) -> None:
        super().__init__(errno.ENOTDIR, "another directory was put in its place", path)


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
        self._open = OpenDirectories()
        self._entered = OpenDirectories()
        """The same, of what is the sink's own."""
        self._shelter = Shelter(self._open, lambda root: self.find(root, b""))
        self._most = may_keep(_CACHED_DIRS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes all that is open."""
        self._open.close()
        self._entered.close()

    def trim(self) -> None:
        """Closes all fds when many are open. Only called while no result of `find` is in use: a record needs two
        directories at once, and the number of a closed fd may soon belong to another file."""
        if self._open.count + self._entered.count >= self._most:
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
        directory = self._open.get(root, path)
        if directory is not None:
            return directory
        if not path:
            return self._open.hold(root, path, self._roots.open(root))
        near, name = self._open.near(root, path) or (self.find(root, b""), path)
        fd = open_directory(near.fd, name, self.reserved[root])
        try:
            self.check(root, path, fd, compares=compares)
        except BaseException:
            os.close(fd)
            raise
        return self._open.hold(root, path, fd)

    def enter(self, root: int, path: bytes) -> Directory:
        """The directory at `path`, which leads into what is the sink's own: never found by the path of a record.

        Raises:
            OSError: ENOENT, ENOTDIR or ELOOP where no directory is.
        """
        directory = self._entered.get(root, path)
        if directory is not None:
            return directory
        return self._entered.hold(root, path, open_beneath(self.find(root, b"").fd, path, DIRECTORY))

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
        return self.find(root, path).guarded and self._shelter.covers(root, path)

    def forget(self, root: int, path: bytes) -> None:
        """Closes what is open at and beneath `path`: the name no longer means that directory."""
        self._shelter.forget()
        self._open.forget(root, path)
        self._entered.forget(root, path)
