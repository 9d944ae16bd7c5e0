"""What a journal in memory keeps: segments as plain lists of frames."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from i2core.api.journal import Draft, Frame, Mark, Placed, Position, Seal, Segment
from i2core.api.journal.chain import ChainEnd
from i2core.api.journal.frames import FrameKind, decode_seals

TOTAL_BYTES = 1 << 40


@attrs.define
class Part:
    """A segment."""

    number: int
    begin: ChainEnd
    end: ChainEnd
    frames: list[tuple[FrameKind, Frame]] = attrs.field(factory=list)
    replaced: tuple[ChainEnd, ChainEnd] | None = None
    """Of a merged one: the ends of the chain before and after what it replaces."""
    first_ns: int = 0

    @property
    def size(self) -> int:
        return self.frames[-1][1].placed.end.offset if self.frames else 0

    @property
    def ends(self) -> tuple[ChainEnd, ChainEnd]:
        """Of the chain, before it and after it."""
        return self.replaced or (self.begin, self.end)

    def add(self, draft: Draft, kind: FrameKind = FrameKind.BATCH) -> Placed:
        """The next frame."""
        _, self.end = self.end.follow(draft, settled=self.end.number, kind=kind)
        placed = Placed(self.end.number, Position(self.number, self.size), len(draft.payload), self.end.hash)
        self.frames.append((kind, Frame(draft.header, placed, bytes(draft.payload))))
        return placed

    def after(self, frames: int) -> ChainEnd:
        """The chain's end after the first so many frames."""
        end = self.begin
        for _, frame in self.frames[:frames]:
            end = end.with_frame(frame.header, frame.placed.hash)
        return end

    def segment(self) -> Segment:
        """As the contract tells of it."""
        begin, end = self.ends
        first = self.frames[0][1].header.first_ns if self.frames else begin.last_ns
        return Segment(
            number=self.number,
            merged=self.replaced is not None,
            first_frame=begin.number + 1,
            next_frame=end.number + 1,
            first_seq=begin.next_seq,
            next_seq=end.next_seq,
            first_ns=self.first_ns if self.replaced else first,
            last_ns=end.last_ns,
            applied_ns=end.applied_ns,
            size_bytes=self.size,
            before=begin.hash,
            after=end.hash,
        )


@attrs.define
class MemoryShelf:
    """What a journal keeps. Survives the journals that are opened on it, as a directory does."""

    parts: list[Part] = attrs.field(factory=list)
    marks: list[Mark] = attrs.field(factory=list)
    note: bytes = b""
    last_number: int = 0
    room: int = TOTAL_BYTES
    """How many bytes of frames fit; the reserve lies beyond."""
    is_open: bool = False

    def number(self) -> int:
        """The next segment's."""
        self.last_number += 1
        return self.last_number


def seal_of(part: Part) -> Seal:
    """What a MERGE frame says of a merged segment."""
    begin, end = part.ends
    return Seal(part.number, part.end.hash, begin.hash, end.hash)


def seals_in(part: Part) -> Iterator[Seal]:
    """The seals in the frames of a segment."""
    for kind, frame in part.frames:
        if kind is FrameKind.MERGE:
            yield from decode_seals(frame.payload)
