"""System calls that the standard library lacks, for core and drivers: openat2(2), listxattrat(2), statx(2), syncfs(2),
ioctl_iflags(2) and ioctl_xfs_fsgetxattr(2).

All release the interpreter lock while they run.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
import sys

from i2core.posix.errnos import READ_FAILED
from i2core.posix.opening import DIRECTORY

_open = ctypes.CDLL(None, use_errno=True).syscall
_open.restype = ctypes.c_long
_open.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t)
_list = ctypes.CDLL(None, use_errno=True).syscall
_list.restype = ctypes.c_long
_list.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint, ctypes.c_char_p, ctypes.c_size_t)
_syncfs = ctypes.CDLL(None, use_errno=True).syncfs
_syncfs.argtypes = (ctypes.c_int,)
_statx = getattr(ctypes.CDLL(None, use_errno=True), "statx", None)
if _statx is not None:
    _statx.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_char_p)

# The same numbers on every architecture: openat2 since Linux 5.6, listxattrat since 6.13.
_SYS_OPENAT2, _SYS_LISTXATTRAT = 437, 465
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_EMPTY_PATH = 0x1000
_STATX_BTIME = 0x800
_STATX_BYTES = 256
_MOUNT_ROOT = 0x2000
"""STATX_ATTR_MOUNT_ROOT, since Linux 5.8. Older kernels never set it."""
# FS_IOC_GETFLAGS, _SETFLAGS, _FSGETXATTR, _FSSETXATTR of linux/fs.h. The first two name a long, and mean an int.
_GETFLAGS, _SETFLAGS = (0x80086601, 0x40086602) if struct.calcsize("l") == 8 else (0x80046601, 0x40046602)
_FSGETXATTR, _FSSETXATTR = 0x801C581F, 0x401C5820
_FSXATTR_BYTES = 28
_PROJECT = slice(12, 16)
"""Where struct fsxattr has ``fsx_projid``."""
_ATTRIBUTES = struct.Struct("=Q")
_ATTRIBUTES_AT = 8
"""Where struct statx has ``stx_attributes``."""
_BIRTH = struct.Struct("=qI")
_BIRTH_AT = 80
"""Where struct statx has ``stx_btime``."""
_RESOLVE = 0x08 | 0x04 | 0x02  # RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS, linux/openat2.h
_HOW = struct.Struct("=QQQ")
_CANNOT = (errno.ENOSYS, errno.EPERM)
_PATH_MAX = 4096
"""One system call takes a path that is shorter than this."""


def open_beneath(dir_fd: int, path: bytes, flags: int) -> int:
    """Opens `path` beneath the open directory without following a symlink anywhere; it may be of any length.

    Raises:
        OSError: ELOOP or ENOTDIR for a symlink on the way, EXDEV for a way out.
    """
    above = dir_fd
    try:
        while len(path) >= _PATH_MAX:
            cut = path.rfind(b"/", 0, _PATH_MAX)
            if cut < 0:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
            deeper = _open_piece(above, path[:cut], DIRECTORY)
            if above != dir_fd:
                os.close(above)
            above, path = deeper, path[cut + 1 :]
        return _open_piece(above, path, flags)
    finally:
        if above != dir_fd:
            os.close(above)


def _open_piece(dir_fd: int, path: bytes, flags: int) -> int:
    """`open_beneath` for a path that is short enough for one call."""
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
    """`open_beneath` component by component, where openat2 is missing or a sandbox forbids it. `path` has no ``..``
    component."""
    fd = os.open(b".", DIRECTORY, dir_fd=dir_fd)
    parts = path.split(b"/")
    for position, part in enumerate(parts):
        try:
            step = DIRECTORY if position < len(parts) - 1 else flags | os.O_NOFOLLOW
            deeper = os.open(part, step, dir_fd=fd)
        finally:
            os.close(fd)
        fd = deeper
    return fd


def has_xattrs(dir_fd: int, name: bytes) -> bool:
    """True when the object `name` in an open directory has extended attributes that can be listed; a symlink is not
    followed. Takes half the time of a call by way of /proc, which is used where the kernel lacks this one.

    Raises:
        OSError: it could not be read (`READ_FAILED`).
    """
    size: int = _list(_SYS_LISTXATTRAT, dir_fd, name, _AT_SYMLINK_NOFOLLOW, None, 0)
    if size >= 0:
        return size > 0
    code = ctypes.get_errno()
    if code == errno.ENOSYS:
        try:
            return bool(os.listxattr(b"/proc/self/fd/%d/%s" % (dir_fd, name), follow_symlinks=False))
        except OSError as error:
            code = error.errno or 0
    if code in READ_FAILED:  # if it counted as "no attributes", the replica's would be removed
        raise OSError(code, os.strerror(code), name)
    return False


def born_ns(fd: int) -> int:
    """The time of birth of the object, in nanoseconds; 0 if the file system, the kernel or the C library does not have
    it."""
    told = _extended_status(fd)
    (has,) = struct.unpack_from("=I", told)
    if not has & _STATX_BTIME:
        return 0
    seconds, nanoseconds = _BIRTH.unpack_from(told, _BIRTH_AT)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def is_mount_root(fd: int) -> bool:
    """True when a mount begins at this open directory, also a bind mount of a directory of the same file system. False
    as well where the kernel or the C library cannot tell."""
    (attributes,) = _ATTRIBUTES.unpack_from(_extended_status(fd), _ATTRIBUTES_AT)
    return bool(attributes & _MOUNT_ROOT)


def _extended_status(fd: int) -> bytes:
    """``struct statx`` of an open object; all zero where it cannot be read."""
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    if _statx is None or _statx(fd, b"", _AT_EMPTY_PATH | _AT_SYMLINK_NOFOLLOW, _STATX_BTIME, buffer):
        return bytes(_STATX_BYTES)
    return buffer.raw


def sync_filesystem(fd: int) -> None:
    """syncfs(2): the whole file system of `fd` is durable. An error that write-back met since `fd` was opened is
    raised once; what it hit is lost."""
    while _syncfs(fd):
        code = ctypes.get_errno()
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))


def inode_flags(fd: int) -> int:
    """The flags that chattr(1) has set on an open file or directory; 0 where the file system has none."""
    buffer = bytearray(8)
    try:
        fcntl.ioctl(fd, _GETFLAGS, buffer)
    except OSError:
        return 0
    return int.from_bytes(buffer[:4], sys.byteorder)


def set_inode_flags(fd: int, flags: int) -> None:
    """Sets exactly these flags on an open file or directory.

    Raises:
        OSError: EPERM, or EOPNOTSUPP, ENOTTY, EINVAL for flags that the file system does not have.
    """
    fcntl.ioctl(fd, _SETFLAGS, bytearray(flags.to_bytes(4, sys.byteorder) + bytes(4)))


def project_id(fd: int) -> int:
    """The project id of an open file or directory, for project quotas; 0 where there are none."""
    buffer = bytearray(_FSXATTR_BYTES)
    try:
        fcntl.ioctl(fd, _FSGETXATTR, buffer)
    except OSError:
        return 0
    return int.from_bytes(buffer[_PROJECT], sys.byteorder)


def set_project_id(fd: int, project: int) -> None:
    """Sets the project id of an open file or directory.

    Raises:
        OSError: EPERM, or EOPNOTSUPP, ENOTTY, EINVAL where there are no projects.
    """
    buffer = bytearray(_FSXATTR_BYTES)
    fcntl.ioctl(fd, _FSGETXATTR, buffer)
    buffer[_PROJECT] = project.to_bytes(4, sys.byteorder)
    fcntl.ioctl(fd, _FSSETXATTR, buffer)
