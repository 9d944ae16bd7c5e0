"""Writes, punches and hashes file content."""

from __future__ import annotations

import errno
import os

import xxhash

from i2_sink_fs.system import punch_hole
from i2core.api import BLOCK_BYTES
from i2core.api.records import Buffer

_READ_BYTES = 4 << 20
_ZEROS = bytes(1 << 20)
_ZERO_DIGEST = xxhash.xxh3_128_digest(bytes(BLOCK_BYTES))


def write_all(fd: int, data: Buffer, offset: int) -> None:
    """Writes all of `data` at `offset` (bytes); a short write (a disk that fills up) is gone on with."""
    done = os.pwrite(fd, data, offset)
    if done == len(data):
        return
    view = memoryview(data)
    while done < len(view):
        done += os.pwrite(fd, view[done:], offset + done)


def punch(fd: int, offset: int, size: int) -> None:
    """Makes [offset, offset + size) read as zeros, without space where the file system can; keeps the length."""
    if not size:
        return
    try:
        punch_hole(fd, offset, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        end = min(offset + size, os.fstat(fd).st_size)
        while offset < end:
            offset += os.pwrite(fd, memoryview(_ZEROS)[: min(end - offset, len(_ZEROS))], offset)


class BlockHasher:
    """Hashes files block by block through one reused buffer; holes are told from a digest made once, unread."""

    def __init__(self) -> None:
        self._buffer = bytearray(_READ_BYTES)

    def digests(self, fd: int, first: int, count: int) -> bytes:
        """Digests of up to `count` blocks from block `first` on, as `Sink.hashes` gives them."""
        found = os.fstat(fd)
        size = found.st_size
        position = first * BLOCK_BYTES
        end = min(size, position + count * BLOCK_BYTES)
        sparse = found.st_blocks * 512 < size
        digest = xxhash.xxh3_128_digest
        view = memoryview(self._buffer)
        parts: list[bytes] = []
        while position < end:
            stop = min(end, position + len(view))
            if sparse:
                data = _next_data(fd, position, size)
                blocks = (min(data, end) - position) // BLOCK_BYTES
                if blocks:
                    parts.append(_ZERO_DIGEST * blocks)
                    position += blocks * BLOCK_BYTES
                    continue
                if data < end:
                    hole = os.lseek(fd, data, os.SEEK_HOLE)
                    stop = min(stop, position + -(-(hole - position) // BLOCK_BYTES) * BLOCK_BYTES)
            got = os.preadv(fd, [view[: stop - position]], position)
            if position + got < stop:
                end = position + got  # someone cut the file meanwhile
            parts += [digest(view[at : min(at + BLOCK_BYTES, got)]) for at in range(0, got, BLOCK_BYTES)]
            position += got
        return b"".join(parts)


def _next_data(fd: int, position: int, size: int) -> int:
    """Where the next data begins at or behind `position`; the file's end when there is none."""
    try:
        return os.lseek(fd, position, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return size
