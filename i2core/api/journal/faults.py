"""Faults of a journal: what proves that nothing was flipped, dropped, exchanged or cut off.

A driver inspects its segments one by one (`Journal.inspect`); what holds between them is decided here.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from i2core.api.journal.frames import Position, Seal, Tip
from i2core.api.journal.segments import Segment


class FaultKind(enum.Enum):
    """What is wrong with a place of the journal."""

    DAMAGED = "damaged"
    """Bytes differ from what was written."""
    MISSING = "missing"
    """Frames are gone: the next one does not follow the one before."""
    ORDER = "order"
    """A frame is in a place that is not its own."""
    CUT = "cut"
    """The end is gone: a frame that a kept tip names is not there."""
    UNSEALED = "unsealed"
    """A merged segment is not the one that the chain names."""


class Fault(NamedTuple):
    """One fault, and where it is."""

    kind: FaultKind
    at: Position
    frame: int
    """Number of the first frame that is concerned."""
    next_seq: int
    """All records below it are proved, as far as earlier faults allow."""


class Inspection(NamedTuple):
    """What reading a whole segment gave."""

    segment: int
    before: bytes
    """Hash of the frame before, as the segment has it."""
    after: bytes
    """Hash of the last good frame."""
    hash: bytes
    """Of the segment's own last good frame; differs from `after` in a merged segment, where `before` and `after` are
    those of the frames that it replaces."""
    frames: int
    next_seq: int
    seals: Sequence[Seal] = ()
    faults: Sequence[Fault] = ()
    hashes: Sequence[tuple[int, bytes]] = ()
    """Number and hash of those frames that were asked for."""


def find_faults(
    segments: Sequence[Segment], inspections: Sequence[Inspection], kept: Iterable[Tip] = ()
) -> list[Fault]:
    """All faults of a journal, oldest place first. `inspections`: one for each of the segments, with the hashes of
    those frames that `kept` names. `kept`: tips that were handed out, here or to another node, and must be in the
    chain. Of a tip that a merged segment has swallowed only the order is known.
    """
    faults: list[Fault] = []
    seals = {seal.segment: seal for inspection in inspections for seal in inspection.seals}
    proved = segments[0].first_seq
    for index, (segment, found) in enumerate(zip(segments, inspections, strict=True)):
        before = inspections[max(index - 1, 0)]
        # Next to a fault of its own, a segment's end is not where its neighbour expects it: that is one fault, not two.
        if index and found.before != before.after and not found.faults and not before.faults:
            faults.append(Fault(FaultKind.MISSING, Position(segment.number, 0), segment.first_frame, proved))
        faults += found.faults
        if segment.merged and seals.get(segment.number) != _seal(found) and not found.faults:
            faults.append(Fault(FaultKind.UNSEALED, Position(segment.number, 0), segment.first_frame, proved))
        proved = found.next_seq
    return faults + _broken_tips(segments, inspections, kept)


def _seal(found: Inspection) -> Seal:
    return Seal(found.segment, found.hash, found.before, found.after)


def _broken_tips(segments: Sequence[Segment], inspections: Sequence[Inspection], kept: Iterable[Tip]) -> list[Fault]:
    hashes = {number: digest for inspection in inspections for number, digest in inspection.hashes}
    ends = {segment.next_frame - 1: found.after for segment, found in zip(segments, inspections, strict=True)}
    last = segments[-1]
    faults = []
    for tip in kept:
        if tip.number >= last.next_frame:
            place = Position(last.number, last.size_bytes)
            faults.append(Fault(FaultKind.CUT, place, last.next_frame, last.next_seq))
        elif hashes.get(tip.number, ends.get(tip.number, tip.hash)) != tip.hash:
            holder = next(segment for segment in segments if tip.number < segment.next_frame)
            faults.append(Fault(FaultKind.ORDER, Position(holder.number, 0), tip.number, holder.first_seq))
    return faults
