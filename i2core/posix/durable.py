"""Writes to the last byte, and makes durable."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from i2core.api.records import Buffer


def write_all(fd: int, data: Buffer, offset: int) -> None:
    """Writes all of `data` at `offset` (bytes); after a short write (a disk that fills up) it writes the rest.

    Raises:
        OSError: a part of it may be written.
    """
    done = os.pwrite(fd, data, offset)
    if done == len(data):
        return
    view = memoryview(data)
    while done < len(view):
        done += os.pwrite(fd, view[done:], offset + done)


def sync_path(path: str | os.PathLike[str]) -> None:
    """fsync(2) by name: the bytes of a file, or the names in a directory.

    Raises:
        OSError: it cannot be opened, or data written to it are lost.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_durably(path: Path, data: bytes) -> None:
    """Writes the whole file and syncs it."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        written = os.write(fd, data)
        if written < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(fd)
    finally:
        os.close(fd)


def replace_durably(path: Path, data: bytes) -> None:
    """Replaces the file so that a power cut leaves the old content or the new one; makes its directory."""
    os.makedirs(path.parent, 0o700, exist_ok=True)
    fresh = path.with_suffix(".new")
    write_durably(fresh, data)
    os.replace(fresh, path)
    sync_path(path.parent)
