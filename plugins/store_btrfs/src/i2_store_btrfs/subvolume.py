"""Subvolumes of btrfs, by the ioctls of linux/btrfs.h. All calls block."""

from __future__ import annotations

import fcntl
import os
import struct

_SNAP_CREATE_V2, _SNAP_DESTROY, _ROOT_REFS = 0x50009417, 0x5000940F, 0xD000943D
_ARGS_BYTES = 4096
_CREATE = struct.Struct("=qQQ4Q4040s")
"""struct btrfs_ioctl_vol_args_v2: descriptor of the source, transaction, flags, four unused, name."""
_DESTROY = struct.Struct("=q4088s")
"""struct btrfs_ioctl_vol_args: a descriptor that is not looked at, name."""
_READ_ONLY = 1 << 1
_TOP_INODE = 256
"""Inode number of the top directory of each subvolume."""
_COUNT_AT = 8 + 255 * 16
"""Where struct btrfs_ioctl_get_subvol_rootref_args has ``num_items``."""


def is_subvolume(fd: int) -> bool:
    """True when the open directory, which is on btrfs, is the top of a subvolume."""
    return os.fstat(fd).st_ino == _TOP_INODE


def has_inner(fd: int) -> bool:
    """True when there are subvolumes within the open one: a snapshot would have empty directories in their places.

    Raises:
        OSError: it cannot be found out.
    """
    args = bytearray(_ARGS_BYTES)
    fcntl.ioctl(fd, _ROOT_REFS, args)
    return args[_COUNT_AT] > 0


def snapshot(source: int, directory: int, name: bytes) -> None:
    """Makes a read-only snapshot of an open subvolume, as `name` in an open directory.

    Raises:
        OSError: it cannot be made.
    """
    fcntl.ioctl(directory, _SNAP_CREATE_V2, bytearray(_CREATE.pack(source, 0, _READ_ONLY, 0, 0, 0, 0, name)))


def destroy(directory: int, name: bytes) -> None:
    """Removes a subvolume; its room becomes free in the background.

    Raises:
        FileNotFoundError: there is none of that name.
        OSError: it cannot be removed.
    """
    fcntl.ioctl(directory, _SNAP_DESTROY, bytearray(_DESTROY.pack(0, name)))
