"""System calls in the way that a journal needs them: written to the last byte, synced or known to be lost."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from i2_store_cdp.failures import SyncFailed
from i2core.api import Buffer

_MOST_BUFFERS = 512
"""Less than IOV_MAX on every system."""


def write_at(fd: int, buffers: Sequence[Buffer], offset: int) -> int:
    """Writes all of them, one behind the other.

    Returns: the offset behind the last byte.
    """
    for some in _some(buffers):
        waiting = [memoryview(buffer).cast("B") for buffer in some if len(buffer)]
        while waiting:
            written = os.pwritev(fd, waiting, offset)
            offset += written
            while waiting and written >= len(waiting[0]):
                written -= len(waiting.pop(0))
            if written:
                waiting[0] = waiting[0][written:]
    return offset


def _some(buffers: Sequence[Buffer]) -> Iterator[Sequence[Buffer]]:
    for first in range(0, len(buffers), _MOST_BUFFERS):
        yield buffers[first : first + _MOST_BUFFERS]


def sync_data(fd: int) -> None:
    """fdatasync(2): the bytes of a file, and its length.

    Raises:
        SyncFailed: they may be lost.
    """
    try:
        os.fdatasync(fd)
    except OSError as error:
        raise SyncFailed(error) from error


def sync(fd: int) -> None:
    """fsync(2): a new file, or the names in a directory.

    Raises:
        SyncFailed: they may be lost.
    """
    try:
        os.fsync(fd)
    except OSError as error:
        raise SyncFailed(error) from error
