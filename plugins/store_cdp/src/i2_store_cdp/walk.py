"""Reads the frames of a segment's file one after the other, and finds the next one behind damage."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from i2core.api.journal import Frame, Placed, Position
from i2core.api.journal.frames import HASH_BYTES, HEADER_BYTES, Head, find_magic, frame_hash

_WINDOW = 256 * 1024
_MAGIC_BYTES = 4


class Found(NamedTuple):
    """A frame in a file. Its header is right; `whole` says whether the rest is."""

    head: Head
    offset: int
    payload: bytes
    hash: bytes
    """As it is stored."""
    whole: bool

    @property
    def end(self) -> int:
        """Where the next frame begins."""
        return self.offset + HEADER_BYTES + self.head.payload_bytes + HASH_BYTES

    def frame(self, segment: int) -> Frame:
        """As the contract has it."""
        placed = Placed(self.head.number, Position(segment, self.offset), self.head.payload_bytes, self.hash)
        return Frame(self.head.header, placed, self.payload)


class FrameFile:
    """The frames in an open file, up to `end` or its own end. Not for several threads at once."""

    def __init__(self, fd: int, journal: int, end: int) -> None:
        """`journal`: frames of another one are none (`Head.journal`)."""
        self.end = min(end, os.fstat(fd).st_size)
        self._fd, self._journal = fd, journal
        self._window, self._window_at = b"", 0

    def at(self, offset: int) -> Found | None:
        """The frame that begins there; None where no header does, or where the frame does not fit.

        Raises:
            OSError: the file cannot be read.
        """
        stored = self._bytes(offset, HEADER_BYTES)
        head = Head.decode(stored)
        if head is None or head.journal != self._journal:
            return None
        rest = self._bytes(offset + HEADER_BYTES, head.payload_bytes + HASH_BYTES)
        if len(rest) < head.payload_bytes + HASH_BYTES:
            return None
        payload, digest = rest[:-HASH_BYTES], rest[-HASH_BYTES:]
        return Found(head, offset, payload, digest, frame_hash(stored, payload) == digest)

    def frames(self, offset: int) -> Iterator[Found]:
        """Frames from there on, as long as they are whole."""
        while offset < self.end:
            found = self.at(offset)
            if found is None or not found.whole:
                return
            yield found
            offset = found.end

    def search(self, offset: int) -> Found | None:
        """The next whole frame that begins behind `offset`, wherever that is; None when there is none."""
        offset += 1
        while offset + HEADER_BYTES <= self.end:
            part = self._bytes(offset, min(_WINDOW, self.end - offset))
            place = find_magic(part, 0)
            while place >= 0:
                found = self.at(offset + place)
                if found is not None and found.whole:
                    return found
                place = find_magic(part, place + 1)
            offset += max(len(part) - _MAGIC_BYTES + 1, 1)
        return None

    def _bytes(self, offset: int, size: int) -> bytes:
        size = max(min(size, self.end - offset), 0)
        start = offset - self._window_at
        if start >= 0 and start + size <= len(self._window):
            return self._window[start : start + size]
        if size >= _WINDOW:
            return read_at(self._fd, size, offset)
        self._window, self._window_at = read_at(self._fd, min(_WINDOW, self.end - offset), offset), offset
        return self._window[:size]


def read_at(fd: int, size: int, offset: int) -> bytes:
    """These bytes, or as many as there are. Raises OSError."""
    parts: list[bytes] = []
    while size > 0 and (part := os.pread(fd, size, offset)):
        parts.append(part)
        offset += len(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
