"""Writes, punches and hashes file content."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from i2_sink_fs.system import punch_hole
from i2core.api import BLOCK_BYTES
from i2core.api.blockmap import BlockMap
from i2core.api.content import data_bytes, hole_blocks
from i2core.api.content import digests as block_digests
from i2core.posix.file import LocalContent

_READ_BYTES = 4 << 20
_ZEROS = bytes(1 << 20)


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


_idle_buffers: list[bytearray] = []
"""Free buffers, shared by all sinks of the process, so that an idle rule holds none."""


@contextmanager
def _buffer() -> Iterator[memoryview]:
    """Memory to read into. One buffer is kept for later; further ones, for threads at the same time, are not."""
    try:
        buffer = _idle_buffers.pop()
    except IndexError:
        buffer = bytearray(_READ_BYTES)
    try:
        with memoryview(buffer) as whole:
            yield whole[:_READ_BYTES]
    finally:
        if not _idle_buffers:
            _idle_buffers.append(buffer)


def digests(fd: int, first: int, count: int) -> bytes:
    """As `Sink.hashes` gives them: of up to `count` blocks from block `first` on."""
    return _hashed(fd, first, blocks=count).dense()


def block_map(fd: int, first: int, count: int) -> BlockMap:
    """As `Sink.block_map` gives them: until `count` blocks have a digest of their own."""
    return _hashed(fd, first, data_blocks=count)


def _hashed(fd: int, first: int, *, blocks: int = 1 << 62, data_blocks: int = 1 << 62) -> BlockMap:
    """The blocks from `first` on: at most so many, and at most so many that are no holes. Holes are not read."""
    found = os.fstat(fd)
    size = found.st_size
    position = first * BLOCK_BYTES
    end = min(size, position + blocks * BLOCK_BYTES)
    sparse = found.st_blocks * 512 < size
    content = LocalContent(fd)
    result = BlockMap()
    with _buffer() as view:
        while position < end and data_blocks > 0:
            if sparse and (holes := hole_blocks(content, position, end)):
                result.add_zeros(holes)
                position += holes * BLOCK_BYTES
                continue
            most = data_bytes(content, position) if sparse else len(view)
            stop = min(end, position + min(most, len(view), data_blocks * BLOCK_BYTES))
            got = os.preadv(fd, [view[: stop - position]], position)
            if position + got < stop:
                end = position + got  # the file was truncated meanwhile
            found_here = block_digests(view[:got])
            result.add(b"".join(found_here))
            data_blocks -= len(found_here)
            position += got
    return result
