"""Reads frames, pieces and whole segments, beside whoever writes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from i2_store_cdp.inspecting import inspect, missing
from i2_store_cdp.segment_head import SEGMENT_HEAD_BYTES
from i2_store_cdp.shelf import Shelf
from i2_store_cdp.walk import FrameFile, read_at
from i2core.api import Code, StopRule
from i2core.api.journal import Frame, Inspection, Piece, Position, SegmentGone
from i2core.api.journal.frames import FrameKind


def read_frames(shelf: Shelf, at: Position, most_bytes: int) -> list[Frame]:
    """`Journal.read`. Raises OSError as well."""
    frames: list[Frame] = []
    offset = max(at.offset, SEGMENT_HEAD_BYTES)
    with shelf.open(at.segment) as (fd, entry):
        for found in FrameFile(fd, entry.begin.journal, entry.size).frames(offset):
            offset = found.end
            if found.head.kind is not FrameKind.BATCH:
                continue
            most_bytes -= found.head.payload_bytes
            if frames and most_bytes < 0:
                return frames
            frames.append(found.frame(at.segment))
        if offset < entry.size and not frames:
            raise _damaged(at.segment, offset)
    return frames


def read_pieces(shelf: Shelf, pieces: Sequence[Piece]) -> list[bytes]:
    """`Journal.pieces`. Raises OSError as well."""
    read = [b""] * len(pieces)
    wanted: defaultdict[int, list[int]] = defaultdict(list)
    for index, piece in enumerate(pieces):
        wanted[piece.at.segment].append(index)
    for segment, indexes in wanted.items():
        with shelf.open(segment) as (fd, entry):
            for index in indexes:
                at, size = pieces[index].at.offset, pieces[index].size_bytes
                if at + size > entry.size:
                    raise _damaged(segment, at)
                read[index] = read_at(fd, size, at)
                if len(read[index]) < size:
                    raise _damaged(segment, at)
    return read


def read_segment(shelf: Shelf, segment: int, numbers: Sequence[int]) -> Inspection:
    """`Journal.inspect`. Raises OSError as well."""
    try:
        with shelf.open(segment) as (fd, entry):
            return inspect(fd, entry, frozenset(numbers))
    except StopRule:
        for entry in shelf.entries():
            if entry.number == segment:
                return missing(entry)
        raise SegmentGone(segment) from None


def _damaged(segment: int, offset: int) -> StopRule:
    cause = f"segment {segment} of the CDP data is damaged at {offset}"
    return StopRule(cause, code=Code.CDP_INCOMPLETE, next_step="i2 cdp verify tells what else is damaged")
