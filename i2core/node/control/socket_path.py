"""The path of the control socket, for state directories with paths of any length."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

SOCKET = "control.sock"


@contextlib.contextmanager
def short_path(directory: Path) -> Iterator[str]:
    """A path to `directory` that always fits a Unix socket's address (107 bytes), valid inside the block."""
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)
