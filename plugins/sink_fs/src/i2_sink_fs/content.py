"""Writes, punches and hashes file content."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from i2_sink_fs.system import punch_hole
from i2core.api import BLOCK_BYTES, check_cancelled
from i2core.api.blockmap import ZERO_DIGEST, BlockMap
from i2core.api.content import data_bytes, hole_blocks
from i2core.api.content import digests as block_digests
from i2core.posix.file import LocalContent

_READ_BYTES = 4 << 20
_ZEROS = bytes(1 << 20)


class FoundFile:
    """An open file of the replica, and its state when it was opened. A context manager: closes it."""

    __slots__ = ("fd", "status")

    def __init__(self, fd: int) -> None:
        """The descriptor is this object's from now on."""
        self.fd = fd
        try:
            self.status = os.fstat(fd)
        except BaseException:
            os.close(fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self.fd)


def punch(fd: int, offset: int, size: int) -> None:
    """Makes [offset, offset + size) read as zeros, without space where the file system can; keeps the length. A block
    of which only a part is in the range keeps its space."""
    if not size:
        return
    end, length, block = offset + size, os.fstat(fd).st_size, os.fstatvfs(fd).f_bsize
    if offset < length < end and end // block == length // block:
        end = length  # beyond the end, ext4 takes a part of the last block for all of it
    try:
        punch_hole(fd, offset, end - offset)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        end = min(end, length)
        while offset < end:
            offset += os.pwrite(fd, memoryview(_ZEROS)[: min(end - offset, len(_ZEROS))], offset)


_idle_buffers: list[bytearray] = []
"""Free buffers, shared by all sinks of the process, so that an idle rule holds none."""


@contextmanager
def read_buffer() -> Iterator[memoryview]:
    """Memory to read into, for one call of the sink. One buffer is kept for later; further ones, for threads at the
    same time, are not."""
    try:
        buffer = _idle_buffers.pop()
    except IndexError:
        buffer = bytearray(_READ_BYTES)
    try:
        with memoryview(buffer) as whole:
            yield whole
    finally:
        if not _idle_buffers:
            _idle_buffers.append(buffer)


def digests(file: FoundFile, first: int, count: int, into: memoryview) -> bytes:
    """As `Sink.hashes` gives them: of up to `count` blocks from block `first` on. The file is read into `into`."""
    return b"".join([ZERO_DIGEST * zeros + found for zeros, found in _runs(file, first, into, blocks=count)])


def block_map(file: FoundFile, first: int, count: int, into: memoryview) -> BlockMap:
    """As `Sink.block_map` gives them: until `count` blocks have a digest of their own."""
    result = BlockMap()
    for zeros, found in _runs(file, first, into, data_blocks=count):
        result.add_zeros(zeros)
        result.add(found)
    return result


def _runs(
    file: FoundFile, first: int, into: memoryview, *, blocks: int = 1 << 62, data_blocks: int = 1 << 62
) -> Iterator[tuple[int, bytes]]:
    """The blocks from `first` on: at most so many, and at most so many that are no holes. Each run is a number of
    blocks that are holes, which are not read, and the digests of those after them."""
    fd, status = file.fd, file.status
    position = first * BLOCK_BYTES
    end = min(status.st_size, position + blocks * BLOCK_BYTES)
    sparse = status.st_blocks * 512 < status.st_size
    content = LocalContent(fd) if sparse else None
    while position < end and data_blocks > 0:
        check_cancelled()
        most = len(into)
        if content is not None:
            if holes := hole_blocks(content, position, end):
                yield holes, b""
                position += holes * BLOCK_BYTES
                continue
            most = min(most, data_bytes(content, position))
        stop = min(end, position + min(most, data_blocks * BLOCK_BYTES))
        got = os.preadv(fd, [into[: stop - position]], position)
        if position + got < stop:
            end = position + got  # the file was truncated meanwhile
        found = block_digests(into[:got])
        yield 0, b"".join(found)
        data_blocks -= len(found)
        position += got
