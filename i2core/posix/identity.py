"""The identity of a directory, whatever its path: for roots, which must be the same after a restart or a reboot.

A path alone is not enough. A disk that is not mounted leaves an empty directory under the same name; somebody moves a
tree away and makes a new one; ``rm -rf`` and ``mkdir`` often give the new directory the inode number of the old one. A
device number is not enough either, since it may change with a reboot.
"""

from __future__ import annotations

import os
from typing import NamedTuple, Self

from i2core.posix.opening import BASE
from i2core.posix.syscalls import born_ns, is_mount_root


class Identity(NamedTuple):
    """The identity of one directory. Values that its file system does not have are 0, and match anything."""

    filesystem: int
    """The file system's own id (``f_fsid``); 0 if it is only the device number (XFS, vfat)."""
    inode: int
    born_ns: int
    """Time of birth. It distinguishes a new directory from an old one whose inode number it got."""

    def is_same(self, other: Identity) -> bool:
        """True when no value differs that both have."""
        agree = all(not mine or not theirs or mine == theirs for mine, theirs in zip(self, other, strict=True))
        return agree and self.inode == other.inode


class Standing(NamedTuple):
    """The identity of a root directory, and of the directory that contains it."""

    here: Identity
    above: Identity
    """The directory that contains it."""
    mounted: bool
    """A mount begins here, perhaps a bind mount: without it, the same path leads to another directory."""

    @classmethod
    def of(cls, fd: int) -> Self:
        """The standing of an open directory.

        Raises:
            OSError: it, or the directory that contains it, cannot be read.
        """
        above = os.open(b"..", BASE, dir_fd=fd)
        try:
            # A bind mount may have the device of what is above it; before Linux 5.8 only the device tells of mounts.
            mounted = is_mount_root(fd) or os.fstat(fd).st_dev != os.fstat(above).st_dev
            return cls(identity(fd), identity(above), mounted)
        finally:
            os.close(above)

    def may_follow(self, before: Standing) -> bool:
        """True when this is another directory than `before`, but certainly on the same disk: both are plain directories
        in the same directory. So somebody put it there, and no disk is missing."""
        return before.plainly_in(self.above) and not self.mounted

    def plainly_in(self, above: Identity) -> bool:
        """True when it was in the directory `above`, and no mount began at it."""
        return not self.mounted and self.above.is_same(above)

    def encode(self) -> str:
        """As text, for a file."""
        return " ".join(f"{number:x}" for number in (*self.here, *self.above, self.mounted))

    @classmethod
    def decode(cls, text: str) -> Self:
        """The standing from its text.

        Raises:
            ValueError: the text is not one of `encode`.
        """
        numbers = [int(part, 16) for part in text.split(" ")]
        if len(numbers) != 7:
            raise ValueError("no standing of a directory")
        return cls(Identity(*numbers[:3]), Identity(*numbers[3:6]), bool(numbers[6]))


def identity(fd: int) -> Identity:
    """The identity of an open directory."""
    status = os.fstat(fd)
    return Identity(filesystem_id(fd, status.st_dev), status.st_ino, born_ns(fd))


def filesystem_id(fd: int, device: int) -> int:
    """As in `Identity`, for an open object on this device."""
    own = os.statvfs(fd).f_fsid
    return 0 if own == _of_device(device) else own


def _of_device(device: int) -> int:
    """The id that a file system without one reports: the number of its device, as the kernel packs it."""
    minor = os.minor(device)
    return minor & 0xFF | os.major(device) << 8 | (minor & ~0xFF) << 12
