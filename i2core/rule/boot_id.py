"""Identifies the present boot of the operating system: what was written before another boot may not have reached the
disk."""

from __future__ import annotations

import os
import uuid


def boot_id() -> bytes:
    """16 bytes that change at each boot; where the system has none, at each start of the process."""
    try:
        fd = os.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY)
    except OSError:
        return _PROCESS
    try:
        return uuid.UUID(os.read(fd, 64).decode().strip()).bytes
    finally:
        os.close(fd)


_PROCESS = uuid.uuid4().bytes
