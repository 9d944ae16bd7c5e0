"""Writes frames into a segment's file: the live one, durable group by group, and a merged one, durable as a whole."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import attrs

from i2_store_cdp.home import Home
from i2_store_cdp.manifest import Entry
from i2_store_cdp.reserve import Reserve
from i2_store_cdp.segment_head import SEGMENT_HEAD_BYTES, SegmentHead
from i2_store_cdp.system import sync, sync_data, write_at
from i2core.api import Buffer
from i2core.api.journal import Draft, Placed, Position, Seal
from i2core.api.journal.chain import ChainEnd
from i2core.api.journal.frames import FrameKind
from i2core.posix.errnos import FULL


class Encoded(NamedTuple):
    """A group of frames as bytes."""

    buffers: list[Buffer]
    placed: list[Placed]
    end: ChainEnd


def encode(group: Sequence[Draft], end: ChainEnd, at: Position, kind: FrameKind = FrameKind.BATCH) -> Encoded:
    """The frames that follow `end`, from `at` on. Raises ValueError where one may not follow."""
    encoded = Encoded([], [], end)
    settled = end.number
    for draft in group:
        head, end = end.follow(draft, settled=settled, kind=kind)
        encoded.buffers.extend((head, draft.payload, end.hash))
        encoded.placed.append(Placed(end.number, at, len(draft.payload), end.hash))
        at = encoded.placed[-1].end
    return encoded._replace(end=end)


class LiveFile:
    """The last segment's file. `entry` tells what of it is durable."""

    def __init__(self, fd: int, entry: Entry) -> None:
        """Takes `fd` over."""
        self.fd, self.entry = fd, entry

    @classmethod
    def create(cls, home: Home, number: int, begin: ChainEnd) -> LiveFile:
        """A new, empty segment, durable. Raises OSError or SyncFailed."""
        entry = Entry(number, begin, begin, SEGMENT_HEAD_BYTES, begin.last_ns)
        file = cls(home.new_segment(number), entry)
        try:
            write_at(file.fd, [SegmentHead.of(entry).encode()], 0)
            sync(file.fd)
            home.sync_segments()
        except BaseException:
            file.close()
            raise
        return file

    @property
    def is_empty(self) -> bool:
        """No frame is in it."""
        return self.entry.end.number == self.entry.begin.number

    def append(self, group: Sequence[Draft], kind: FrameKind = FrameKind.BATCH) -> list[Placed]:
        """Writes a group and makes it durable.

        Raises:
            OSError: nothing was appended.
            SyncFailed: nobody knows what was.
            ValueError: a frame may not follow.
        """
        if not group:
            return []
        entry = self.entry
        encoded = encode(group, entry.end, entry.end_position, kind)
        try:
            size = write_at(self.fd, encoded.buffers, entry.size)
        except OSError:
            with suppress(OSError):  # what stays behind the end is written over, and is torn for who opens next
                os.ftruncate(self.fd, entry.size)
            raise
        sync_data(self.fd)
        first_ns = group[0].header.first_ns if self.is_empty else entry.first_ns
        self.entry = attrs.evolve(entry, end=encoded.end, size=size, first_ns=first_ns)
        return encoded.placed

    def seal(self, seals: Sequence[Seal]) -> int:
        """Writes a MERGE frame. Raises as `append`.

        Returns: its number.
        """
        self.append([self.entry.end.sealing(list(seals))], FrameKind.MERGE)
        return self.entry.end.number

    def close(self) -> None:
        """Lets the file go."""
        os.close(self.fd)


class MergedFile:
    """A merged segment that is being written. Nobody reads it before it is in the manifest."""

    def __init__(self, home: Home, reserve: Reserve, number: int, run: Sequence[Entry]) -> None:
        """Raises OSError."""
        self.run = run
        self.number = number
        self._home, self._reserve = home, reserve
        head = SegmentHead(number, True, run[0].begin, run[-1].end)
        self._end, self._size = head.first_link(), SEGMENT_HEAD_BYTES
        self._fd = home.new_segment(number)
        self._write([head.encode()], 0)

    def write(self, group: Sequence[Draft]) -> list[Placed]:
        """Adds frames.

        Raises:
            OSError: nothing was added.
            ValueError: a frame may not follow.
        """
        encoded = encode(group, self._end, Position(self.number, self._size))
        self._size = self._write(encoded.buffers, self._size)
        self._end = encoded.end
        return encoded.placed

    def _write(self, buffers: Sequence[Buffer], offset: int) -> int:
        try:
            return write_at(self._fd, buffers, offset)
        except OSError as error:
            if error.errno not in FULL or not self._reserve.release():
                raise
            return write_at(self._fd, buffers, offset)

    def finish(self) -> Entry:
        """Makes it durable, for the manifest. Raises SyncFailed, or OSError."""
        os.ftruncate(self._fd, self._size)  # a write that failed may have left something behind it
        sync(self._fd)
        self._home.sync_segments()
        begin, end = self.run[0].begin, self.run[-1].end
        return Entry(self.number, begin, end, self._size, self.run[0].first_ns, self._end.hash)

    def close(self, *, kept: bool) -> None:
        """Lets the file go; removes it unless it was `kept`."""
        os.close(self._fd)
        if not kept:
            with suppress(OSError):
                self._home.remove_segment(self.number)
