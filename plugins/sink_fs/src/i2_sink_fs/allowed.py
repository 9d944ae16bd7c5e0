"""The allowed directories: the sink writes only beneath them.

The path of an allowed directory may contain symlinks; below it none is followed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence

from i2core.api import Code, UsageError
from i2core.posix.errnos import PASSING
from i2core.posix.opening import BASE, DIRECTORY

_MAKE_TRIES = 100


def find_allowed(path: bytes, allowed: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The allowed directory that `path` lies beneath, and the path relative to it. Looks at the paths alone.

    Raises:
        UsageError: there is none.
    """
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    if path.startswith(b"/") and b".." not in parts and b"\0" not in path:
        for base in sorted(allowed, key=len, reverse=True):
            above = [part for part in base.split(b"/") if part not in (b"", b".")]
            if base.startswith(b"/") and parts[: len(above)] == above:
                return base, b"/".join(parts[len(above) :])
    raise UsageError(
        "the path is not beneath an allowed directory",
        code=Code.ILLEGAL_PATH,
        obj=os.fsdecode(path),
        next_step="choose a target beneath one of: " + ", ".join(map(os.fsdecode, allowed)),
    )


def open_base(base: bytes) -> int:
    """An allowed directory, open.

    Raises:
        UsageError: it cannot be opened.
    """
    try:
        return os.open(base, BASE)
    except OSError as error:
        if error.errno in PASSING:
            raise
        raise UsageError(
            f"cannot open the allowed directory: {error.strerror}",
            code=Code.ILLEGAL_PATH,
            obj=os.fsdecode(base),
            next_step="create or mount it",
        ) from error


def open_allowed(path: bytes, allowed: Sequence[bytes]) -> tuple[int, bytes]:
    """The allowed directory that `path` lies beneath, opened, and the path relative to it.

    Raises:
        UsageError: there is none, or it cannot be opened.
    """
    base, relative = find_allowed(path, allowed)
    return open_base(base), relative


def make_directories(dir_fd: int, path: bytes) -> int:
    """Opens `path` beneath `dir_fd` and makes what is missing of it (0755), following no symlink. Others may make, or
    remove, the same directories meanwhile."""
    fd = os.open(b".", DIRECTORY, dir_fd=dir_fd)
    for part in path.split(b"/") if path else ():
        try:
            deeper = _made(fd, part)
        finally:
            os.close(fd)
        fd = deeper
    return fd


def _made(fd: int, name: bytes) -> int:
    for _ in range(_MAKE_TRIES):
        with contextlib.suppress(FileNotFoundError):
            return os.open(name, DIRECTORY, dir_fd=fd)
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=fd)
    return os.open(name, DIRECTORY, dir_fd=fd)
