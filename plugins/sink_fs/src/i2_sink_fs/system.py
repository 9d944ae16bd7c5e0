"""System calls that the standard library lacks: openat2(2), syncfs(2), fallocate(2), listxattrat(2).

All release the interpreter lock while they run (ctypes) and raise OSError with the errno of the kernel.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t)
_syscall_at = ctypes.CDLL(None, use_errno=True).syscall
_syscall_at.restype = ctypes.c_long
_syscall_at.argtypes = (
    ctypes.c_long,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_uint,
    ctypes.c_char_p,
    ctypes.c_size_t,
)
_syncfs = _libc.syncfs
_syncfs.argtypes = (ctypes.c_int,)
_fallocate = _libc.fallocate64 if hasattr(_libc, "fallocate64") else _libc.fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)

# The same numbers on every architecture: openat2(2) since Linux 5.6, listxattrat(2) since 6.13.
_SYS_OPENAT2, _SYS_LISTXATTRAT = 437, 465
_AT_SYMLINK_NOFOLLOW = 0x100
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x02, 0x04, 0x08
_RESOLVE = _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS
_FALLOC_KEEP_SIZE, _FALLOC_PUNCH_HOLE = 0x01, 0x02


def open_beneath(dir_fd: int, path: bytes, flags: int) -> int:
    """openat2(2): opens `path` beneath `dir_fd` without following a symlink anywhere.

    Raises:
        OSError: ELOOP for a symlink on the way, EXDEV for a way out, ENOSYS on kernels before 5.6.
    """
    how = struct.pack("=QQQ", flags, 0, _RESOLVE)  # struct open_how: flags, mode, resolve
    fd = int(_syscall(_SYS_OPENAT2, dir_fd, path, how, len(how)))
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return fd


def has_xattrs(dir_fd: int, name: bytes) -> bool:
    """True when the object has extended attributes; no symlink followed. Half the time of a way through /proc."""
    size = _syscall_at(_SYS_LISTXATTRAT, dir_fd, name, _AT_SYMLINK_NOFOLLOW, None, 0)
    if size >= 0:
        return bool(size)
    code = ctypes.get_errno()
    if code == errno.EOPNOTSUPP:
        return False
    if code == errno.ENOSYS:
        return bool(os.listxattr(b"/proc/self/fd/%d/%s" % (dir_fd, name), follow_symlinks=False))
    raise OSError(code, os.strerror(code))


def sync_filesystem(fd: int) -> None:
    """syncfs(2): the whole file system of `fd` is durable. An error that write-back met since `fd` was opened is
    raised once; what it hit is lost."""
    if _syncfs(fd):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def punch_hole(fd: int, offset: int, size: int) -> None:
    """fallocate(2): deallocates [offset, offset + size) and keeps the file's length."""
    if _fallocate(fd, _FALLOC_KEEP_SIZE | _FALLOC_PUNCH_HOLE, offset, size):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
