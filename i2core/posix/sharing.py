"""How many bytes a tree has for itself: blocks that no other file shares (FIEMAP; see linux/fiemap.h)."""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from collections.abc import Callable

from i2core.posix.errnos import GONE, UNFIT
from i2core.posix.opening import CONTENT, READABLE
from i2core.posix.syscalls import open_beneath

_FIEMAP = 0xC020660B
_HEAD, _EXTENT = struct.Struct("=QQIIII"), struct.Struct("=QQQQQIIII")
_LAST, _SHARED = 0x1, 0x2000
_AT_ONCE = 256
_ALL = (1 << 64) - 1


def own_bytes(directory: int, check: Callable[[], None]) -> int:
    """Bytes of all files beneath an open directory that only they have; a file with several names counts once. `check`
    is called from time to time, and may raise.

    Raises:
        OSError: it cannot be read.
    """
    total, waiting, seen = 0, [b""], set[tuple[int, int]]()
    for path in waiting:  # grows as it goes
        check()
        fd = open_beneath(directory, path or b".", READABLE)
        try:
            for name in os.listdir(b"/proc/self/fd/%d" % fd):
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    waiting.append(path + b"/" + name if path else name)
                elif stat.S_ISREG(status.st_mode) and status.st_blocks:
                    key = (status.st_dev, status.st_ino)
                    if status.st_nlink == 1 or key not in seen:
                        seen.add(key)
                        total += _own(fd, name, status)
        finally:
            os.close(fd)
    return total


def _own(directory: int, name: bytes, status: os.stat_result) -> int:
    try:
        fd = os.open(name, CONTENT, dir_fd=directory)
    except OSError as error:
        if error.errno in GONE:
            return 0
        raise
    try:
        return sum(length for length, flags in _extents(fd) if not flags & _SHARED)
    except OSError as error:
        if error.errno not in UNFIT:
            raise
        return status.st_blocks * 512
    finally:
        os.close(fd)


def _extents(fd: int) -> list[tuple[int, int]]:
    """Length and flags of each extent."""
    found: list[tuple[int, int]] = []
    start = 0
    while True:
        buffer = bytearray(_HEAD.pack(start, _ALL - start, 0, 0, _AT_ONCE, 0) + bytes(_EXTENT.size * _AT_ONCE))
        fcntl.ioctl(fd, _FIEMAP, buffer)
        mapped = _HEAD.unpack_from(buffer)[3]
        for number in range(mapped):
            logical, _, length, _, _, flags, *_ = _EXTENT.unpack_from(buffer, _HEAD.size + number * _EXTENT.size)
            found.append((length, flags))
            start = logical + length
            if flags & _LAST:
                return found
        if not mapped:
            return found
