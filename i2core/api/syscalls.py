"""System calls that the standard library lacks, for core and drivers: openat2(2) and listxattrat(2).

Both release the interpreter lock while they run.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

_open = ctypes.CDLL(None, use_errno=True).syscall
_open.restype = ctypes.c_long
_open.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t)
_list = ctypes.CDLL(None, use_errno=True).syscall
_list.restype = ctypes.c_long
_list.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint, ctypes.c_char_p, ctypes.c_size_t)

# The same numbers on every architecture: openat2 since Linux 5.6, listxattrat since 6.13.
_SYS_OPENAT2, _SYS_LISTXATTRAT = 437, 465
_AT_SYMLINK_NOFOLLOW = 0x100
_RESOLVE = 0x08 | 0x04 | 0x02  # RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS, linux/openat2.h
_HOW = struct.Struct("=QQQ")
_CANNOT = (errno.ENOSYS, errno.EPERM, errno.ENAMETOOLONG)
_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_beneath(dir_fd: int, path: bytes, flags: int) -> int:
    """Opens `path` beneath the open directory without following a symlink anywhere.

    Raises:
        OSError: ELOOP or ENOTDIR for a symlink on the way, EXDEV for a way out.
    """
    how = _HOW.pack(flags, 0, _RESOLVE)
    while True:
        fd = int(_open(_SYS_OPENAT2, dir_fd, path, how, len(how)))
        if fd >= 0:
            return fd
        code = ctypes.get_errno()
        if code in _CANNOT:
            return walk_beneath(dir_fd, path, flags)
        # EAGAIN: a rename elsewhere raced with the lookup; openat2(2) says to try again.
        if code not in (errno.EINTR, errno.EAGAIN):
            raise OSError(code, os.strerror(code), path)


def walk_beneath(dir_fd: int, path: bytes, flags: int) -> int:
    """`open_beneath` component by component: where openat2 is missing or kept from us by a sandbox, and for paths that
    are longer than one call takes (4096 bytes). `path` has no ``..`` component."""
    fd = os.open(b".", _STEP, dir_fd=dir_fd)
    parts = path.split(b"/")
    for position, part in enumerate(parts):
        try:
            step = _STEP if position < len(parts) - 1 else flags | os.O_NOFOLLOW
            deeper = os.open(part, step, dir_fd=fd)
        finally:
            os.close(fd)
        fd = deeper
    return fd


def has_xattrs(dir_fd: int, name: bytes) -> bool:
    """True when the object `name` in an open directory has extended attributes that can be listed; a symlink is not
    followed. Half the time of a way through /proc, which is taken where the kernel lacks the call."""
    size: int = _list(_SYS_LISTXATTRAT, dir_fd, name, _AT_SYMLINK_NOFOLLOW, None, 0)
    if size >= 0:
        return size > 0
    if ctypes.get_errno() != errno.ENOSYS:
        return False
    try:
        return bool(os.listxattr(b"/proc/self/fd/%d/%s" % (dir_fd, name), follow_symlinks=False))
    except OSError:
        return False
