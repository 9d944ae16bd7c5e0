"""The node's secret: random bytes that it generates once and keeps. It derives names from them that a stranger cannot
guess and that the node finds again after a restart."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from i2core.posix.durable import sync_path, write_durably
from i2core.rule.backup.replica.state_files import unkept

SECRET_BYTES = 32


def node_secret(directory: Path) -> bytes:
    """The secret kept in the directory; generated when there is none.

    Raises:
        I2Error: it cannot be kept.
    """
    path = directory / "secret"
    try:
        kept = _read(path)
        if len(kept) != SECRET_BYTES:
            _make(directory, path, damaged=bool(kept))
            kept = _read(path)
    except OSError as error:
        raise unkept(error, path, "this node's secret") from error
    return kept


def _make(directory: Path, path: Path, *, damaged: bool) -> None:
    os.makedirs(directory, 0o700, exist_ok=True)
    fresh = directory / f"secret.{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(fresh)
    write_durably(fresh, os.urandom(SECRET_BYTES))
    try:
        if damaged:
            os.unlink(path)
        with contextlib.suppress(FileExistsError):  # another process of this node was first
            os.link(fresh, path)
    finally:
        os.unlink(fresh)
    sync_path(directory)


def _read(path: Path) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        return os.read(fd, SECRET_BYTES + 1)
    finally:
        os.close(fd)
