"""File handles: names of inodes that stay the same while paths change, name_to_handle_at(2).

A handle is kept as the kernel's ``struct file_handle`` (u32 handle_bytes, i32 handle_type, bytes), which is also how
fanotify reports it, so that both compare as bytes.
"""

from __future__ import annotations

import ctypes
import os
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_libc.name_to_handle_at.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
_libc.open_by_handle_at.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int)

_HEAD = struct.Struct("=Ii")
_MAX_HANDLE_BYTES = 128
_ROOM = _HEAD.pack(_MAX_HANDLE_BYTES, 0) + bytes(_MAX_HANDLE_BYTES)
_AT_EMPTY_PATH = 0x1000

BTRFS_TOP = _HEAD.pack(20, 0x4D) + struct.pack("=QQI", 256, 5, 0)
"""The top of any btrfs, whatever subvolume is mounted: ``struct btrfs_fid`` of inode 256 in tree 5; generation 0
fits any. A file system mark is accepted on no other subvolume (EXDEV)."""


def handle_of(dir_fd: int, name: bytes = b"") -> tuple[bytes, int]:
    """Handle, and id of the mount, of the object `name` in the directory `dir_fd`, or of `dir_fd` itself; a symlink
    is not followed.

    Raises:
        OSError: there is no such object, or its file system has no handles (EOPNOTSUPP).
    """
    handle = ctypes.create_string_buffer(_ROOM, len(_ROOM))
    mount_id = ctypes.c_int()
    if _libc.name_to_handle_at(dir_fd, name, handle, ctypes.byref(mount_id), 0 if name else _AT_EMPTY_PATH) < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno), name)
    raw = handle.raw
    return raw[: _HEAD.size + _HEAD.unpack_from(raw)[0]], mount_id.value


def open_handle(mount_fd: int, handle: bytes) -> int:
    """An O_PATH descriptor of the directory with this handle, on the file system of `mount_fd`.

    Raises:
        OSError: ESTALE when it is gone; EPERM without CAP_DAC_READ_SEARCH.
    """
    fd = int(_libc.open_by_handle_at(mount_fd, handle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    if fd < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))
    return fd
