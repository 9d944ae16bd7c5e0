"""The replica's roots: in each call each root is opened by its path, and its identity is checked."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence

from i2_sink_fs.allowed import find_allowed, make_directories, open_base
from i2_sink_fs.paths import IllegalPath
from i2core.api import Code, Place, StopRule, UsageError
from i2core.posix.disk import shortage
from i2core.posix.errnos import FULL, GONE, PASSING
from i2core.posix.identity import Standing, identity
from i2core.posix.opening import BASE, DIRECTORY
from i2core.posix.path_text import shown
from i2core.posix.syscalls import open_beneath


class Roots:
    """The replica's roots. Each is opened by its path in each call, and must be the same directory as at first.

    The administrator's allowed directory may be reached through symlinks; below it none is followed.
    """

    def __init__(self, roots: Sequence[bytes], allowed: Sequence[bytes], known: Mapping[bytes, str]) -> None:
        """Finds the roots; makes those that are missing, with the directories above them, with mode 0755, unless they
        are `known`: then only where no disk can be missing (`exchanged`).

        Raises:
            UsageError: a root is outside of all allowed directories, or there is no way to it without symlinks.
            StopRule: a root is not the known one (3621), or cannot be made.
        """
        self.paths = tuple(roots)
        self.exchanged = False
        self._allowed = [find_allowed(root, allowed) for root in roots]
        self._keys: list[tuple[int, int]] = []
        self.standings = [self._settle(index, known.get(root)) for index, root in enumerate(roots)]

    def __len__(self) -> int:
        return len(self.paths)

    def shown(self, place: Place) -> str:
        """The place as an absolute path for people; bytes that are no text are escaped."""
        path = self.paths[place.root] + (b"/" + place.path if place.path else b"")
        return shown(path)

    def all_shown(self) -> str:
        """All roots, for people."""
        return ", ".join(map(os.fsdecode, self.paths))

    def _settle(self, index: int, known: str | None) -> Standing:
        """The identity of the directory at the root's path.

        Raises:
            UsageError, StopRule: as `__init__`.
        """
        before = _decoded(known)
        try:
            fd = self._found(index) if before is None else self._found_again(index, before)
            try:
                standing = Standing.of(fd)
                self._keys.append(_key(fd))
            finally:
                os.close(fd)
        except OSError as error:
            if error.errno in PASSING:
                raise
            root = os.fsdecode(self.paths[index])
            if error.errno in FULL:
                lacks = shortage(error, root)
                code = Code.REPLICA_NO_INODES if lacks.inodes else Code.REPLICA_FULL
                raise StopRule(f"no room for the target directory: {lacks.en}", code=code, obj=root) from error
            raise UsageError(
                f"cannot open the target directory: {error.strerror}",
                code=Code.ILLEGAL_PATH,
                obj=root,
                next_step="no part of it below the allowed directory may be a symlink or a file",
            ) from error
        if before is None or before.here.is_same(standing.here):
            return standing
        if not standing.may_follow(before):
            raise self._gone(index, "another directory has its name")
        self.exchanged = True
        return standing

    def _found(self, index: int) -> int:
        """A root that was never written; made if it is missing."""
        base, relative = self._allowed[index]
        base_fd = open_base(base)
        try:
            return make_directories(base_fd, relative)
        finally:
            os.close(base_fd)

    def _found_again(self, index: int, before: Standing) -> int:
        """A root that was written before. If it is missing it is made, but only in the same directory as before.

        Raises:
            StopRule: that directory is not there: a disk is not mounted, or a directory above the root was moved.
        """
        try:
            return self._by_path(index, DIRECTORY)
        except FileNotFoundError as error:
            gone = error
        try:
            above, name = self._above(index)
        except FileNotFoundError as error:
            raise self._gone(index, os.strerror(errno.ENOENT)) from error
        try:
            if not before.plainly_in(identity(above)):
                raise self._gone(index, os.strerror(errno.ENOENT)) from gone
            return make_directories(above, name)
        finally:
            os.close(above)

    def _by_path(self, index: int, flags: int) -> int:
        return self.open_beside(index, self.beneath_allowed(index), flags)

    def beneath_allowed(self, index: int) -> bytes:
        """The root's path beneath the allowed directory that it is in; empty: it is the allowed directory itself."""
        return self._allowed[index][1]

    def open_beside(self, index: int, path: bytes, flags: int = DIRECTORY) -> int:
        """What has the path beneath the allowed directory that a root is in; empty: that directory itself.

        Raises:
            OSError: ENOENT, ENOTDIR or ELOOP where no directory is.
        """
        base_fd = os.open(self._allowed[index][0], BASE)
        try:
            if path:
                return open_beneath(base_fd, path, flags)
            return os.open(b".", flags, dir_fd=base_fd)
        finally:
            os.close(base_fd)

    def _above(self, index: int) -> tuple[int, bytes]:
        """The directory that the root is in, open, and the root's name there."""
        base, relative = self._allowed[index]
        if not relative:
            above, _, name = base.rstrip(b"/").rpartition(b"/")
            return os.open(above or b"/", BASE), name
        above, _, name = relative.rpartition(b"/")
        base_fd = os.open(base, BASE)
        try:
            return (open_beneath(base_fd, above, DIRECTORY) if above else os.dup(base_fd)), name
        finally:
            os.close(base_fd)

    def _gone(self, index: int, why: str) -> StopRule:
        return StopRule(
            f"the target directory is not the one that was written before: {why}",
            code=Code.REPLICA_GONE,
            obj=os.fsdecode(self.paths[index]),
            next_step=Code.REPLICA_GONE.text.next_en,
        )

    def open(self, index: int, flags: int = DIRECTORY) -> int:
        """The root directory, found by its path.

        Raises:
            IllegalPath: there is no such root.
            StopRule: it is gone, or another directory has its name: it was moved, or its disk is not mounted.
        """
        if not 0 <= index < len(self.paths):
            raise IllegalPath(f"the rule has no root {index} here")
        try:
            fd = self._by_path(index, flags)
        except OSError as error:
            if error.errno in PASSING:
                raise
            if error.errno in GONE:
                raise self._gone(index, error.strerror or "") from error
            raise StopRule(
                f"the target directory cannot be opened: {error.strerror}",
                code=Code.OPEN_REPLICA,
                obj=os.fsdecode(self.paths[index]),
                next_step="mount it or put it back, then start the rule",
            ) from error
        if not self.is_root(index, fd):
            os.close(fd)
            raise self._gone(index, "another directory has its name")
        return fd

    def is_root(self, index: int, fd: int) -> bool:
        """True when `fd` is the directory that this root was when the sink was opened. Its lock keeps the inode."""
        return self._keys[index] == _key(fd)

    def verify(self) -> None:
        """Checks that all roots are where they were.

        Raises:
            StopRule: as `open`.
        """
        for index in range(len(self.paths)):
            os.close(self.open(index))


def _decoded(known: str | None) -> Standing | None:
    try:
        return None if known is None else Standing.decode(known)
    except ValueError:
        return None


def _key(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino
