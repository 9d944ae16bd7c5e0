"""Finds what has a path or a name beneath an open directory, without ever following a symlink."""

from __future__ import annotations

import os

from i2core.api.records import safe_name, safe_path
from i2core.posix.opening import DIRECTORY
from i2core.posix.syscalls import open_beneath


class IllegalPath(Exception):
    """A path that no record may use: absolute, or with ``..``, empty or reserved components."""


def proc_path(fd: int) -> bytes:
    """A path that leads to the object of `fd` itself (also of an O_PATH fd, also of a symlink)."""
    return b"/proc/self/fd/%d" % fd


def mode_of(dir_fd: int, name: bytes) -> int:
    """The type and permissions of what has the name in an open directory; 0 for nothing."""
    try:
        return os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return 0


def exists(dir_fd: int, name: bytes) -> bool:
    """True when there is anything of that name."""
    return mode_of(dir_fd, name) != 0


def check_name(name: bytes, reserved: frozenset[bytes]) -> None:
    """Raises IllegalPath for what cannot be the name of a replicated object."""
    if name in reserved or not safe_name(name):
        raise IllegalPath(f"the name {os.fsdecode(name)!r} cannot be replicated")


def open_directory(root_fd: int, path: bytes, reserved: frozenset[bytes], flags: int = DIRECTORY) -> int:
    """The directory at `path` (``b""``: the root itself), opened without following a symlink. No part of it may have
    a `reserved` name.

    Raises:
        IllegalPath: no record may use this path.
        OSError: ENOENT, ENOTDIR or ELOOP where no directory is.
    """
    if not path:
        return os.open(b".", flags, dir_fd=root_fd)
    parts = path.split(b"/")
    if not reserved.isdisjoint(parts) or not safe_path(path):  # at once, for a path may have thousands of parts
        for part in parts:
            check_name(part, reserved)
    return open_beneath(root_fd, path, flags)
