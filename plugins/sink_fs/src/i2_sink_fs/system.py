"""System calls that the standard library lacks, fallocate(2) and renameat2(2).

All release the interpreter lock while they run and raise OSError with the errno of the kernel.
"""

from __future__ import annotations

import ctypes
import errno
import os

_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = _libc.fallocate64 if hasattr(_libc, "fallocate64") else _libc.fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_rename = getattr(_libc, "renameat2", None)
if _rename is not None:
    _rename.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)

_NOREPLACE = 1
_FALLOC_KEEP_SIZE, _FALLOC_PUNCH_HOLE = 0x01, 0x02


def punch_hole(fd: int, offset: int, size: int) -> None:
    """fallocate(2): deallocates [offset, offset + size) and keeps the file's length."""
    if _fallocate(fd, _FALLOC_KEEP_SIZE | _FALLOC_PUNCH_HOLE, offset, size):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def rename_new(source_fd: int, name: bytes, target_fd: int, new: bytes) -> None:
    """renameat2(2): as rename(2), but replaces nothing.

    Raises:
        FileExistsError: something has the new name.
        OSError: as rename(2).
    """
    code = errno.ENOSYS
    if _rename is not None:
        if not _rename(source_fd, name, target_fd, new, _NOREPLACE):
            return
        code = ctypes.get_errno()
    if code not in (errno.ENOSYS, errno.EINVAL):  # the kernel or the file system (EINVAL) may lack it
        raise OSError(code, os.strerror(code), name)
    try:
        os.stat(new, dir_fd=target_fd, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(name, new, src_dir_fd=source_fd, dst_dir_fd=target_fd)
    else:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)
