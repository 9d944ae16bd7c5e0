"""The record of a disk's writes and flushes, and the images that a power cut may leave.

flush:  one byte 0
write:  one byte 1 · offset (8 bytes) · size (4 bytes) · data
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

WRITE_HEAD = struct.Struct("<BQI")
FLUSH = b"\0"
SERVED = b"disk"
"""The name of the recorded file."""
_ATOMIC_BYTES = 4096
"""What a disk writes at once, today: btrfs cannot be mounted with half of a superblock."""


class Record(NamedTuple):
    """One write, or a flush (`data` is None)."""

    end: int
    """Where the record's file ends with it: a promise that was made at that size came after it."""
    offset: int
    data: bytes | None


def read_record(file: Path) -> list[Record]:
    """All writes and flushes in their order; one that is being recorded is left out."""
    return list(_records(file.read_bytes()))


def _records(content: bytes) -> Iterator[Record]:
    place = 0
    while place < len(content):
        if content[place : place + 1] == FLUSH:
            place += 1
            yield Record(place, 0, None)
            continue
        if place + WRITE_HEAD.size > len(content):
            return
        _, offset, size = WRITE_HEAD.unpack_from(content, place)
        place += WRITE_HEAD.size + size
        if place > len(content):
            return
        yield Record(place, offset, content[place - size : place])


def crash_image(base: Path, records: Sequence[Record], cut: int, chance: Random, image: Path) -> None:
    """Makes `image`: the disk after a power cut behind `cut` records, from `base`, its content before the first."""
    image.unlink(missing_ok=True)
    fd = os.open(image, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _copy_sparse(base, fd)
        last_flush = max((index for index, record in enumerate(records[:cut]) if record.data is None), default=-1)
        for index, record in enumerate(records[:cut]):
            if record.data is not None:
                for start, data in _survivors(record, chance) if index > last_flush else [(0, record.data)]:
                    os.pwrite(fd, data, record.offset + start)
    finally:
        os.close(fd)


def _survivors(record: Record, chance: Random) -> Iterator[tuple[int, bytes]]:
    """What of a write that was not flushed is on the disk: all, nothing, or some sectors."""
    data, fate = record.data or b"", chance.random()
    if fate < 0.45:
        yield 0, data
    elif fate > 0.9:
        start = 0
        while start < len(data):
            end = start + _ATOMIC_BYTES - (record.offset + start) % _ATOMIC_BYTES
            if chance.random() < 0.5:
                yield start, data[start:end]
            start = end


def _copy_sparse(base: Path, fd: int) -> None:
    """Holes stay holes: file systems like xfs want hundreds of megabytes, and use few of them."""
    source = os.open(base, os.O_RDONLY)
    try:
        size, place = os.fstat(source).st_size, 0
        os.ftruncate(fd, size)
        while place < size:
            try:
                place = os.lseek(source, place, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(source, place, os.SEEK_HOLE)
            while place < end:
                place += os.pwrite(fd, os.pread(source, min(end - place, 1 << 20), place), place)
    finally:
        os.close(source)
