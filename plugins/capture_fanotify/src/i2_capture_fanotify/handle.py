"""File handles: identifiers of inodes that do not change with the path, name_to_handle_at(2).

A handle is kept as the kernel's ``struct file_handle`` (u32 handle_bytes, i32 handle_type, bytes). fanotify reports it
in the same form, so that both can be compared as bytes."""

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

_INO32_GEN = 0x01
_INO32 = (_INO32_GEN, 0x02)
"""FILEID_INO32_GEN of ext4 and others, and the form with the parent: inode numbers of 32 bits."""
_INO64 = (0x4D, 0x4E, 0x4F, 0x81, 0x82)
"""The types of btrfs (the number within its subvolume) and of xfs: inode numbers of 64 bits."""
_U64, _NUMBERED = struct.Struct("=Q"), struct.Struct("=IiQ")
_numbered = _NUMBERED.unpack_from

BTRFS_TOP = _HEAD.pack(20, 0x4D) + struct.pack("=QQI", 256, 5, 0)
"""The top of every btrfs, for any mounted subvolume: ``struct btrfs_fid`` of inode 256 in tree 5; generation 0
matches any. On other subvolumes a file system mark is refused (EXDEV)."""


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


def inode_of(handle: bytes, at: int = 0) -> int:
    """The inode number in the handle that begins at that offset; 0 for an unknown type of handle."""
    if len(handle) < at + _NUMBERED.size:
        return 0
    size, kind, number = _numbered(handle, at)
    if kind in _INO64:
        return int(number)
    if size == 12 and kind == _INO32_GEN:  # tmpfs: generation, then the number
        return int(_U64.unpack_from(handle, at + _HEAD.size + 4)[0])
    return int(number & 0xFFFF_FFFF) if kind in _INO32 else 0


def open_handle(mount_fd: int, handle: bytes, flags: int = os.O_DIRECTORY) -> int:
    """An O_PATH descriptor of the object with this handle (a directory, unless `flags` say otherwise), on the file
    system of `mount_fd`.

    Raises:
        OSError: ESTALE when it is gone; EPERM without CAP_DAC_READ_SEARCH; ENOMEM also for a moment while the
            kernel reuses the number of a removed inode for a new one.
    """
    fd = int(_libc.open_by_handle_at(mount_fd, handle, os.O_PATH | flags | os.O_CLOEXEC))
    if fd < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno))
    return fd
