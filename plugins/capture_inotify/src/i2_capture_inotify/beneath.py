"""Opening directories beneath a root without ever following a symlink, whatever happens to the names meanwhile."""

from __future__ import annotations

import ctypes
import errno
import os
import struct

_SYS_OPENAT2 = 437  # the same on all architectures that Debian supports
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x2, 0x4, 0x8
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_HOW = struct.pack("QQQ", _FLAGS, 0, _RESOLVE_NO_MAGICLINKS | _RESOLVE_NO_SYMLINKS | _RESOLVE_BENEATH)
_CANNOT = (errno.ENOSYS, errno.EPERM, errno.ENAMETOOLONG)
"""openat2(2) is missing, kept from us by a sandbox, or the path is longer than one call takes (4096 bytes)."""

_libc = ctypes.CDLL(None, use_errno=True)


def open_directory(root_fd: int, path: bytes) -> int:
    """A descriptor of the directory at `path` beneath the root; ``b""`` opens the root itself.

    Raises:
        OSError: it is missing, no directory, may not be read, or a part of the path is a symlink (ELOOP, ENOTDIR).
    """
    fd: int = _libc.syscall(_SYS_OPENAT2, root_fd, path or b".", _HOW, ctypes.c_size_t(len(_HOW)))
    if fd >= 0:
        return fd
    code = ctypes.get_errno()
    if code not in _CANNOT:
        raise OSError(code, os.strerror(code), path)
    return _open_part_by_part(root_fd, path)


def _open_part_by_part(root_fd: int, path: bytes) -> int:
    parts = path.split(b"/") if path else [b"."]
    fd = os.dup(root_fd)
    try:
        for part in parts[:-1]:
            below = os.open(part, os.O_PATH | _FLAGS, dir_fd=fd)
            os.close(fd)
            fd = below
        return os.open(parts[-1], _FLAGS, dir_fd=fd)
    finally:
        os.close(fd)
