"""A private directory of this node beside a root: for what must lie on the root's file system, and not in the root.

    <allowed>/.i2-snapshots-<32 hex digits>/   0700

It lies in the topmost directory beneath the allowed one that is seen through the same mount as the root. From there
rename(2) and clones reach everything in the root that is no mount of its own. A root that is a mount point, or the
allowed directory itself, has no such place. The name cannot be guessed by others, and is found again after a restart.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import NamedTuple

from i2core.posix.mounts import mount_of
from i2core.posix.opening import BASE, DIRECTORY, READABLE
from i2core.posix.syscalls import open_beneath


class NoPlace(Exception):
    """There is no directory beside the root; the text says why."""


class Beside(NamedTuple):
    """Where the private directory of a root is, or will be."""

    allowed: bytes
    """The allowed directory that the root lies beneath."""
    above: bytes
    """The path beneath it of the directory that has the private one; empty: the allowed directory itself."""
    name: bytes

    @property
    def path(self) -> bytes:
        """For people, and to open trees in it."""
        return b"/".join(part.rstrip(b"/") for part in (self.allowed, self.above, self.name) if part)

    def open(self) -> int:
        """It, open for reading.

        Raises:
            FileNotFoundError: it was not made yet.
            OSError: it cannot be opened; somebody else has its name (EACCES).
        """
        above = self.open_above()
        try:
            fd = os.open(self.name, READABLE, dir_fd=above)
        finally:
            os.close(above)
        status = os.fstat(fd)
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            os.close(fd)
            raise PermissionError(errno.EACCES, "another user has made what has this name", self.path)
        return fd

    def make(self) -> int:
        """It, open, made if it is missing.

        Raises:
            OSError: as `open`, or it cannot be made.
        """
        above = self.open_above()
        try:
            os.mkdir(self.name, 0o700, dir_fd=above)
        except FileExistsError:
            pass
        else:
            os.fsync(above)
        finally:
            os.close(above)
        return self.open()

    def remove_empty(self) -> None:
        """Removes it, if nothing is in it.

        Raises:
            OSError: it cannot be removed for another reason.
        """
        above = self.open_above()
        try:
            os.rmdir(self.name, dir_fd=above)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
                raise
        finally:
            os.close(above)

    def open_above(self) -> int:
        """The directory that has it, open for reading.

        Raises:
            OSError: it is gone.
        """
        with _opened(self.allowed) as base:
            return open_beneath(base, self.above or b".", READABLE)


def beside(root: bytes, allowed: Sequence[bytes], secret: bytes, purpose: str) -> Beside:
    """The place of a root's private directory. `root`: absolute, beneath one of `allowed`. `secret`: as
    `SinkContext.secret`. `purpose`: a word for the name.

    Raises:
        NoPlace: the root is a mount point, or an allowed directory itself.
        OSError: the root is gone, or cannot be reached.
    """
    base = max((each for each in allowed if _beneath(root, each)), key=len, default=None)
    if base is None:
        raise NoPlace("the target directory is beneath no allowed one")
    relative = os.path.relpath(root, base)
    if relative == b".":
        raise NoPlace("the target directory is an allowed directory itself, so nothing can lie beside it")
    digest = blake2b(os.path.normpath(root), digest_size=16, key=secret[:64]).hexdigest()
    name = f".i2-{purpose}-{digest}".encode()
    with _opened(base) as base_fd:
        own = _mount(base_fd, relative)
        parts = relative.split(b"/")
        for depth in range(len(parts)):
            above = b"/".join(parts[:depth])
            if _mount(base_fd, above or b".") == own:
                return Beside(base, above, name)
    raise NoPlace("the target directory is a mount point, so nothing can lie beside it")


def _beneath(path: bytes, above: bytes) -> bool:
    return (os.path.normpath(path) + b"/").startswith(os.path.normpath(above).rstrip(b"/") + b"/")


def _mount(base: int, path: bytes) -> int:
    fd = open_beneath(base, path, DIRECTORY)
    try:
        return mount_of(fd)
    finally:
        os.close(fd)


@contextmanager
def _opened(path: bytes) -> Iterator[int]:
    fd = os.open(path, BASE)
    try:
        yield fd
    finally:
        os.close(fd)
